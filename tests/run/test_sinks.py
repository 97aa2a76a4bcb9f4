"""Trackers are told of runs as they are stored, where that is asked for."""

from __future__ import annotations

import sys

import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.store import run_id
from tests.run.hospitals import BASE


def cell(seed: int, **more) -> Cell:
    return Cell(config.experiment(BASE | {"rounds": 1, "seed": seed} | more), {"seed": seed})


def test_trackers_are_told_of_what_is_stored_while_they_listen(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra `tracking`")
    run_experiments([cell(0)], tmp_path)
    assert not (tmp_path / "tensorboard").exists()  # nobody asked
    both = [cell(seed, sinks=["tensorboard"]) for seed in (0, 1)]
    assert len(run_experiments(both, tmp_path).skipped) == 1  # with sinks it is the same run
    assert run_id(cell(0).experiment, "x") == run_id(both[0].experiment, "x")
    (told,) = (tmp_path / "tensorboard").iterdir()
    assert told.name.startswith("seed=1 ") and list(told.glob("events*"))


@pytest.mark.parametrize("tracker, module", [("tensorboard", "tensorboardX"), ("mlflow", "mlflow")])
def test_without_the_extra_nothing_begins(tmp_path, monkeypatch, tracker, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RequestError, match="pip install 'fedsim-regions\\[tracking\\]'"):
        run_experiments([cell(0, sinks=[tracker])], tmp_path)
    assert not list(tmp_path.glob("*/manifest.json"))
