"""Cutting a sweep into tasks: nothing lost, programs kept together, equal cost, the longest first."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim import config
from fedsim.plan import cut, lane_rounds, structure_key, structure_keys
from tests.run.hospitals import BASE

PLAIN = config.experiment(BASE)
OTHER = replace(PLAIN, algorithm=config.FedSgd())


def runs(experiment, count, name="r"):
    return {f"{name}{i}": replace(experiment, seed=i) for i in range(count)}


@settings(max_examples=8)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.sampled_from([{}, {"plain": 3.0}]))
def test_every_run_is_in_one_task(plain, other, most, measured):
    asked = runs(PLAIN, plain) | runs(OTHER, other, "o")
    seconds = {structure_key(PLAIN): v for v in measured.values()}
    if not asked:
        return
    tasks = cut(asked, most, seconds)
    assert sorted(run for task in tasks for run in task.runs) == sorted(asked)
    assert len(tasks) <= most and all(task.runs for task in tasks)
    assert [t.cost for t in tasks] == sorted((t.cost for t in tasks), reverse=True)


def test_one_program_is_cut_only_where_it_is_more_than_a_share():
    # Cut in two for two tasks, the small one stays whole and goes where there is least to do.
    tasks = cut(runs(PLAIN, 8) | runs(OTHER, 2, "o"), 2, {})
    assert [len(t.runs) for t in tasks] == [6, 4]
    assert sum({"o0", "o1"} <= set(t.runs) for t in tasks) == 1
    # Five programs for five tasks: one each.
    several = {
        f"{width}-{i}": replace(PLAIN, optimizer=config.OptimizerConfig(epochs=width), seed=i)
        for width in range(1, 6)
        for i in range(3)
    }
    found = {frozenset(run[0] for run in t.runs) for t in cut(several, 5, {})}
    assert found == {frozenset(width) for width in "12345"}


def test_what_was_measured_decides():
    asked = runs(PLAIN, 4) | runs(OTHER, 3, "o")
    tasks = cut(asked, 4, {structure_key(OTHER): 40.0, structure_key(PLAIN): 10.0})
    assert sorted(len(t.runs) for t in tasks) == [1, 1, 1, 4]
    assert [t.cost for t in tasks] == pytest.approx([40] * 4)
    # One timed run tells how long rounds take; twice the rounds take twice as long.
    longer = {run: replace(e, rounds=2 * e.rounds) for run, e in runs(OTHER, 1, "l").items()}
    (first, second) = cut(runs(PLAIN, 1) | longer, 2, {structure_key(PLAIN): 5.0})
    assert (first.runs, first.cost, second.cost) == (("l0",), 10.0, 5.0)
    assert lane_rounds(longer["l0"]) == 2 * lane_rounds(PLAIN)


def test_what_goes_on_from_one_checkpoint_is_a_task_of_its_own():
    asked = runs(PLAIN, 9)
    tasks = cut(asked, 4, {}, together=[["r3", "r1"]])
    assert ("r3", "r1") in [t.runs for t in tasks] and len(tasks) == 4
    assert sorted(run for t in tasks for run in t.runs) == sorted(asked)
    assert [t.runs for t in cut(runs(PLAIN, 2), 4, {}, together=[["r0", "r1"]])] == [("r0", "r1")]


def test_many_keys_are_those_of_each():
    asked = runs(PLAIN, 3) | runs(OTHER, 2, "o") | {"x": replace(PLAIN, rounds=9)}
    found = structure_keys(asked)
    assert found == {run: structure_key(e) for run, e in asked.items()} and len(set(found.values())) == 3


def test_a_task_is_of_one_kind_of_process():
    wide = replace(PLAIN, numerics=config.Numerics(x64=True))
    tasks = cut(runs(PLAIN, 3) | runs(wide, 3, "w"), 1, {})
    assert [{run[0] for run in t.runs} for t in tasks] == [{"r"}, {"w"}]
