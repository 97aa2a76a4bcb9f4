"""What runs show: PPV at a capacity against a slow count, resamples, and runs that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import report
from fedsim.base import RequestError
from fedsim.report.decision import evidence, spec
from fedsim.report.decision.evidence import Judged
from tests.report.decision.made import ROWS, SITES, arm, predictions, runs, write

Put = Callable[..., str]


def judged(label: Any, score: Any, first: int = 0) -> Judged:
    row = np.arange(len(label)) + first
    return Judged(row, row, np.asarray(label, float), np.asarray(score, float))


def slow(label: Any, score: Any, weights: Any, capacity: float) -> float:
    """Take rows by falling score, of equal scores the same share of each, until the capacity is used."""
    left = acted = capacity * float(np.sum(weights))
    right = 0.0
    for value in sorted(set(score), reverse=True):
        here = [k for k, s in enumerate(score) if s == value]
        held = float(sum(weights[k] for k in here))
        if held == 0:
            continue
        share = min(left / held, 1.0)
        right += share * sum(weights[k] * label[k] for k in here)
        left -= share * held
    return right / acted


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40
    ).filter(lambda rows: any(w for _, _, w in rows)),
    st.floats(0.01, 0.99),
)
def test_ppv_is_that_of_a_slow_count_ties_in_random_order(rows: Any, capacity: float):
    label, score, weights = zip(*rows, strict=True)
    got = evidence._Ranked(judged(label, score)).ppv(np.array([weights]), capacity)[0]
    assert got == pytest.approx(slow(label, score, weights, capacity), abs=1e-9)


def test_ppv_of_many_weightings_looks_as_far_down_as_each_needs():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 400), rng.normal(size=400).round(1)
    # Much of the first line's weight lies at the end: more rows than usual are acted on.
    weights = np.stack([np.where(score < 0, 9, 0), np.ones(400), rng.poisson(1, 400)]).astype(np.int64)
    got = evidence._Ranked(judged(label, score)).ppv(weights, 0.05)
    assert got == pytest.approx([slow(label, score, w, 0.05) for w in weights])
    assert evidence.ppv(judged(label, score), 0.05) == pytest.approx(got[1])


def read(tmp_path: Path, plan: Any, **changes: Any) -> tuple[report.Rows, spec.Decision]:
    decision = spec.load(write(tmp_path / "decision.yaml", **changes))
    return report.read(tmp_path / "store", plan, [], []), decision


def shown(tmp_path: Path, plan: Any) -> tuple[evidence.Shown, evidence.Shown]:
    rows, decision = read(tmp_path, plan)
    choice, base = (
        evidence.needed(rows, decision, arm, "again") for arm in (decision.choice, decision.baseline)
    )
    return choice, base


def test_differences_are_of_the_same_seeds_and_patients(tmp_path: Path, put: Put):
    choice, base = shown(tmp_path, runs(put))
    here, there = (evidence.difference(choice, base, site, 0.1) for site in SITES)
    assert here is not None and there is not None
    assert (here.value, here.baseline, here.mean, here.seeds) == (1.0, 0.5, 0.5, 2)
    # Scores of both arms are the same there: whoever is drawn, the difference is none.
    assert there.mean == 0 and (there.draws == 0).all() and len(there.draws) == evidence.RESAMPLES
    # The same resampling in slow steps, of draws of its own.
    rng, drawn = np.random.default_rng(5), []
    for _ in range(2_000):
        weights = np.bincount(rng.integers(0, ROWS, ROWS), minlength=ROWS)
        one, other = (s.tested["Här"][0] for s in (choice, base))
        drawn.append(slow(one.label, one.score, weights, 0.1) - slow(other.label, other.score, weights, 0.1))
    once = evidence._resampled([(one, other)], 0.1, same=True)
    assert once.mean() == pytest.approx(np.mean(drawn), abs=0.03)
    assert once.std() == pytest.approx(np.std(drawn), rel=0.1)
    assert here.draws.mean() == pytest.approx(np.mean(drawn), abs=0.05)
    assert here.draws.std() < once.std()  # two seeds with patients of their own


def test_a_region_that_was_left_out_is_compared_on_the_patients_of_both(tmp_path: Path, put: Put):
    plan = runs(put, seeds=1)
    cell = {"algorithm": "left_out", "seed": 0}
    held = predictions({"Här": 2, "Där": 2})
    # Ten patients more, whom the baseline trained on, would all be flagged first.
    more = {"row": np.arange(500, 510), "label": np.zeros(10, np.int32), "score": np.full(10, 2, np.float32)}
    rest = {"round": [3] * 10, "replica": [0] * 10, "set": ["test"] * 10, "client": ["Här"] * 10}
    added: dict[str, Any] = {**more, **rest}
    plan[put(cell, predictions={k: [*v, *added[k]] for k, v in held.items()})] = cell
    rows, decision = read(tmp_path, plan, choice=arm("left_out", "left_out"))
    choice, base = (
        evidence.needed(rows, decision, one, "again") for one in (decision.choice, decision.baseline)
    )
    assert choice.tested["Här"][0].row.size == 30
    found = evidence.difference(choice, base, "Här", 0.1)
    assert found is not None and (found.value, found.baseline) == (1.0, 0.5)


def test_resamples_spread_as_the_standard_error_says():
    """A mean of independent patients: the capacity takes nearly all rows, so that PPV is their share."""
    rng = np.random.default_rng(1)
    n, label = 2_000, rng.integers(0, 2, 2_000)
    runs_of = {s: judged(label, rng.normal(size=n)) for s in range(3)}
    none = {s: judged(np.zeros(n), np.zeros(n), first=0) for s in range(3)}
    pairs = [(runs_of[s], none[s]) for s in runs_of]
    draws = evidence._resampled(pairs, 0.999, same=True)
    assert draws.mean() == pytest.approx(label.mean(), abs=0.002)
    assert draws.std() == pytest.approx(np.sqrt(label.var() / n), rel=0.1)


def test_whether_seeds_test_the_same_patients():
    first, same = judged([0, 1, 0], [1, 2, 3]), judged([1, 0], [5, 6], first=1)
    assert evidence.same_patients([first, same])
    assert not evidence.same_patients([first, judged([0, 1], [5, 6], first=1)])


def test_patients_with_several_rows_are_drawn_whole(tmp_path: Path, put: Put):
    one = predictions({"Här": 2, "Där": 1})
    plan = {}
    for algorithm in ("local", "fedavg"):
        cell = {"algorithm": algorithm, "seed": 0}
        plan[put(cell, predictions={**one, "patient": np.arange(2 * ROWS) // 10})] = cell
    choice, _ = shown(tmp_path, plan)
    assert choice.tested["Här"][0].unit.tolist() == [0] * 10 + [1] * 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": None, "event": np.ones(40, np.int32), "time": np.ones(40)}, "a task with two classes"),
        ({"label": np.linspace(0, 1, 40)}, "a task with two classes"),
        ({"weight": np.ones(40)}, "has weighted rows"),
        ({"client": ["Hår"] * 40}, "tested no patient of 'Här'; choose one of Hår; did you mean 'Hår'?"),
        ({"client": ["Här"] * 5 + ["Där"] * 35}, "tested 5 patients of Här, and 10 are the fewest"),
        ({"score": np.full(40, np.nan, np.float32)}, "scores of Där that are not finite"),
    ],
)
def test_runs_that_say_nothing_of_it(tmp_path: Path, put: Put, change: dict[str, Any], said: str):
    held = predictions({"Här": 1, "Där": 1}) | change
    cell = {"algorithm": "fedavg", "seed": 0}
    plan = {put(cell, predictions={k: v for k, v in held.items() if v is not None}): cell}
    rows, decision = read(tmp_path, plan)
    with pytest.raises(RequestError, match="run algorithm=fedavg-seed=0") as error:
        evidence.show(rows, decision, decision.choice, "again")
    assert said in str(error.value)


def test_missing_and_doubled_runs(tmp_path: Path, put: Put):
    cell = {"algorithm": "local", "seed": 0}
    held = predictions({"Här": 1, "Där": 1})
    plan = {put(cell, predictions=held): cell, "gone": {"algorithm": "fedavg", "seed": 0}}
    rows, decision = read(tmp_path, plan)
    with pytest.raises(RequestError) as error:
        evidence.needed(rows, decision, decision.choice, "fedsim sweep demo")
    assert str(error.value) == "no finished run of together (algorithm=fedavg); run: fedsim sweep demo"
    cell = {"algorithm": "local", "split": "iid", "seed": 0}
    plan |= {put(cell, predictions=held): cell}
    rows, decision = read(tmp_path, plan)
    with pytest.raises(RequestError, match="differ in split; name it in where"):
        evidence.needed(rows, decision, decision.baseline, "again")
    cell = {"algorithm": "fedavg", "seed": 0}
    rows, decision = read(tmp_path, {put(cell): cell})
    with pytest.raises(RequestError, match="kept no predictions"):
        evidence.needed(rows, decision, decision.choice, "again")
