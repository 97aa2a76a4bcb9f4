"""What packs leave behind is stored while the next pack trains, and nothing is claimed for less."""

from __future__ import annotations

import threading
import time

import pytest

from fedsim import config
from fedsim.base import FedsimError, Interrupted, RequestError
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.run.machine import Machine
from fedsim.store import Claims, Hold, ResultStore, checkpoint
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


def stuck(store, run_id, *rest):
    raise FedsimError(f"run {run_id} could not be stored (no space)")


def test_what_cannot_be_stored_stops_what_trains(tmp_path, monkeypatch):
    """By the error of storing, not by an interruption; what trains is saved, and no checkpoint is lost."""
    run, begun, second = Machine.run, list[str](), threading.Event()

    def full(store, run_id, *rest):
        assert second.wait(SECONDS)
        stuck(store, run_id)

    def slow(machine, pack, hold):
        begun.append(pack[0].run)
        if len(begun) == 2:
            second.set()
            until = time.monotonic() + SECONDS
            while not machine.stopped():  # the thread has yet to end
                assert time.monotonic() < until
                time.sleep(0.001)
        return run(machine, pack, hold)

    often = {"name": "inline", "lanes": 1, "devices": 1, "checkpoint_seconds": 1e-9}
    with monkeypatch.context() as patched:
        patched.setattr(ResultStore, "write", full)
        patched.setattr(Machine, "run", slow)
        with pytest.raises(FedsimError, match="could not be stored") as caught:
            run_experiments(cells(3, executor=often, rounds=3), tmp_path)
    assert not isinstance(caught.value, Interrupted) and len(begun) == 2
    assert ResultStore(tmp_path).ids() == []
    for one in begun:
        assert any(tmp_path.glob(f"{checkpoint.stem_of(tmp_path, [one], 'final').relative_to(tmp_path)}*"))
    assert not list((tmp_path / ".claims").iterdir())
    assert len(run_experiments(cells(3, executor=often, rounds=3), tmp_path).done) == 3
    assert not any(tmp_path.glob(".checkpoints/*"))


def test_what_cannot_be_stored_is_said_whatever_else_goes_wrong(tmp_path, monkeypatch):
    run, begun, second = Machine.run, list[str](), threading.Event()

    def full(store, run_id, *rest):
        assert second.wait(SECONDS)
        stuck(store, run_id)

    def wrong(machine, pack, hold):
        begun.append(pack[0].run)
        if len(begun) == 2:
            second.set()
            raise RequestError("another mistake")
        return run(machine, pack, hold)

    monkeypatch.setattr(ResultStore, "write", full)
    monkeypatch.setattr(Machine, "run", wrong)
    with pytest.raises(FedsimError, match="could not be stored") as caught:
        run_experiments(cells(2), tmp_path)
    assert "another mistake" in str(caught.value.__context__)
    assert not list((tmp_path / ".claims").iterdir())


def test_the_interrupted_store_what_is_done(tmp_path, monkeypatch):
    run, write, begun, second = Machine.run, ResultStore.write, list[str](), threading.Event()

    def waiting(store, run_id, *rest):
        assert second.wait(SECONDS)
        return write(store, run_id, *rest)

    def first(machine, pack, hold):
        begun.append(pack[0].run)
        if len(begun) == 2:
            second.set()
            raise KeyboardInterrupt
        return run(machine, pack, hold)

    monkeypatch.setattr(ResultStore, "write", waiting)
    monkeypatch.setattr(Machine, "run", first)
    with pytest.raises(KeyboardInterrupt):
        run_experiments(cells(2), tmp_path)
    assert ResultStore(tmp_path).ids() == begun[:1]
    assert not list((tmp_path / ".claims").iterdir())


def test_what_was_lost_is_tried_once_more(tmp_path, monkeypatch):
    """Also where it fails then: a run that failed is no reason to run it again."""
    keeps, begun = Hold.keeps, list[str]()

    def broken(machine, pack, hold):
        begun.append(pack[0].run)
        raise FedsimError("no such device")

    monkeypatch.setattr(Hold, "keeps", lambda hold, run: len(begun) > 1 and keeps(hold, run))
    monkeypatch.setattr(Machine, "run", broken)
    outcome = run_experiments(cells(1), tmp_path)
    assert len(begun) == 2 and outcome.failed == begun[:1] and not outcome.skipped
