"""What packs leave behind is stored while the next pack trains, and nothing is claimed for less."""

from __future__ import annotations

import threading
import time

import pytest

from fedsim import config
from fedsim.base import FedsimError, Interrupted
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.run.machine import Machine
from fedsim.store import Claims, ResultStore
from tests.run.hospitals import BASE

SECONDS = 600.0  # until a wait that nobody ends is a failure


def cells(seeds: int, **more) -> list[Cell]:
    """Each a pack of its own."""
    alone = {"name": "inline", "lanes": 1, "devices": 1}
    changed = BASE | {"rounds": 2, "executor": alone} | more
    return [Cell(config.experiment(changed | {"seed": seed}), {"seed": seed}) for seed in range(seeds)]


def test_a_pack_is_stored_while_the_next_one_trains(tmp_path, monkeypatch):
    """Else the first run's storing, which waits for the second pack to begin, would wait for ever."""
    write, run, begun = ResultStore.write, Machine.run, threading.Event()
    packs: list[object] = []
    late: list[bool] = []
    claimed: list[bool] = []

    def waiting(store, run_id, *rest):
        if not late:
            late.append(not begun.wait(SECONDS))
        claimed.append(set(Claims(tmp_path).holders([run_id])) == {run_id})
        return write(store, run_id, *rest)

    def counted(machine, pack, hold):
        packs.append(pack)
        if len(packs) == 2:
            begun.set()
        return run(machine, pack, hold)

    monkeypatch.setattr(ResultStore, "write", waiting)
    monkeypatch.setattr(Machine, "run", counted)
    outcome = run_experiments(cells(3), tmp_path)
    assert late == [False] and len(packs) == 3
    assert claimed == [True] * 3  # until it is stored
    assert sorted(outcome.done) == ResultStore(tmp_path).ids()
    assert not Claims(tmp_path).holders(outcome.done)  # by the end


def test_structures_overlap_too(tmp_path, monkeypatch):
    """The last pack of one is stored while the first one of the next trains; its claim lasts until then."""
    write, run, begun = ResultStore.write, Machine.run, threading.Event()
    held: list[bool] = []

    def waiting(store, run_id, *rest):
        if not held:
            assert begun.wait(SECONDS)
            held.append(set(Claims(tmp_path).holders([run_id])) == {run_id})
        return write(store, run_id, *rest)

    def seen(machine, pack, hold):
        if pack[0].experiment.algorithm.name == "fedprox":
            begun.set()
        return run(machine, pack, hold)

    monkeypatch.setattr(ResultStore, "write", waiting)
    monkeypatch.setattr(Machine, "run", seen)
    outcome = run_experiments([*cells(1), *cells(1, algorithm="fedprox")], tmp_path)
    assert len(outcome.done) == 2 and held == [True]


def test_what_cannot_be_stored_stops_what_trains(tmp_path, monkeypatch):
    """By the error of storing, not by an interruption; what trains then is saved, and nothing is lost."""
    write, run, begun = ResultStore.write, Machine.run, []
    second = threading.Event()

    def full(store, run_id, *rest):
        assert second.wait(SECONDS)
        raise FedsimError(f"run {run_id} could not be stored (no space)")

    def slow(machine, pack, hold):
        begun.append(pack)
        if len(begun) == 2:
            second.set()
            while not machine.stopped():  # the thread has yet to end
                time.sleep(0.001)
        return run(machine, pack, hold)

    with monkeypatch.context() as patched:
        patched.setattr(ResultStore, "write", full)
        patched.setattr(Machine, "run", slow)
        with pytest.raises(FedsimError, match="could not be stored") as caught:
            run_experiments(cells(3), tmp_path)
    assert not isinstance(caught.value, Interrupted) and len(begun) == 2
    store = ResultStore(tmp_path)
    assert store.ids() == [] and any(tmp_path.glob(".checkpoints/*"))
    assert not list((tmp_path / ".claims").iterdir())
    monkeypatch.setattr(ResultStore, "write", write)
    assert len(run_experiments(cells(3), tmp_path).done) == 3
    assert not any(tmp_path.glob(".checkpoints/*"))


def test_the_interrupted_store_what_is_done(tmp_path, monkeypatch):
    begun, run = [], Machine.run

    def first(machine, pack, hold):
        begun.append(pack[0].run)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return run(machine, pack, hold)

    monkeypatch.setattr(Machine, "run", first)
    with pytest.raises(KeyboardInterrupt):
        run_experiments(cells(2), tmp_path)
    assert ResultStore(tmp_path).ids() == begun[:1]
    assert not list((tmp_path / ".claims").iterdir())
