"""SLURM: real where there can be one."""

import os
from typing import NamedTuple

import pytest

from tests.slurm import cluster
from tests.slurm.place import Place


@pytest.fixture(scope="session")
def possible():
    why = cluster.missing()
    if why:
        pytest.skip(f"no SLURM: {why}")


@pytest.fixture(scope="session")
def real(possible):
    """The cluster of the test run."""
    with cluster.Cluster() as made:
        yield made


class RunningOut(NamedTuple):
    cluster: cluster.Cluster
    warned: Place
    unwarned: Place
    array: str  # the job of the place that is not warned


@pytest.fixture(scope="module")
def running_out(possible, tmp_path_factory):
    """Two arrays on a cluster of their own whose time runs out, which SLURM counts in minutes."""
    with cluster.Cluster(nodes=4) as apart:
        warned, unwarned = (
            Place(tmp_path_factory.mktemp(name), dict(apart.environment)) for name in ("warned", "unwarned")
        )
        # 200 rounds; to start may take a minute.
        unwarned.slow(1.0)
        unwarned.submit("slurm.tasks=2", "slurm.time=2:00", "slurm.signal_seconds=0")
        array = next(iter(apart.jobs())).partition("_")[0]
        warned.slow(1.0)
        warned.submit("slurm.tasks=2", "slurm.time=3:00", "slurm.signal_seconds=30")
        yield RunningOut(apart, warned, unwarned, array)


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
