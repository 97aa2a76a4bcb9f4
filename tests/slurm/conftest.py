"""SLURM: real where there can be one."""

import os

import pytest

from tests.slurm import cluster
from tests.slurm.place import Place


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """The one cluster of the test run."""
    why = cluster.missing()
    if why:
        pytest.skip(f"no SLURM: {why}")
    with cluster.Cluster() as made:
        yield made


@pytest.fixture
def on(tmp_path, real):
    """A place on the cluster, whose jobs end with the test."""
    yield Place(tmp_path, dict(real.environment))
    real.clear()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a sweep without SLURM stores: run -> its model's hash."""
    alone = Place(tmp_path_factory.mktemp("alone"), dict(os.environ))
    alone.fedsim("sweep", "small")
    assert len(alone.models) == 24
    return alone.models
