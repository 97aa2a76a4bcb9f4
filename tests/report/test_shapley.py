"""What each member brings: hand-computed games, the axioms, and tables of them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.report.shapley import values
from tests.report.made import Put, build, cells

# Gloves: a has a left one, b and c a right one each, and a pair is worth 1 (Shapley and Shubik 1969).
GLOVES = {"a": 0.0, "b": 0.0, "c": 0.0, "a+b": 1.0, "a+c": 1.0, "b+c": 0.0, "a+b+c": 1.0}
SHAPLEY = {"over": "coalition", "empty": 0.5}


def game(v: dict[str, float], empty: float = 0.0) -> dict[frozenset[str], float]:
    return {frozenset(): empty} | {frozenset(label.split("+")): value for label, value in v.items()}


def test_the_glove_game_is_as_by_hand() -> None:
    assert values(game(GLOVES)) == pytest.approx({"a": 2 / 3, "b": 1 / 6, "c": 1 / 6})
    # Two players: each has the mean of coming first and second.
    assert values(game({"a": 0.7, "b": 0.6, "a+b": 0.76}, 0.5)) == pytest.approx({"a": 0.18, "b": 0.08})


def test_values_are_efficient_symmetric_and_blind_to_dummies() -> None:
    rng = np.random.default_rng(0)
    everyone = [frozenset(c) for k in range(5) for c in combinations("abcd", k)]
    for _ in range(20):
        v = {c: float(rng.normal()) for c in everyone}
        found = values(v)
        assert sum(found.values()) == pytest.approx(v[frozenset("abcd")] - v[frozenset()])
        # Who swaps with whom changes nothing: v depends on how many of a and b are there.
        even = {c: v[frozenset("ab"[: len(c & {"a", "b"})]) | (c - {"a", "b"})] for c in everyone}
        assert values(even)["a"] == pytest.approx(values(even)["b"])
        idle = {c: v[c - {"d"}] for c in everyone}
        assert values(idle)["d"] == pytest.approx(0.0, abs=1e-12)


def runs(
    put: Put, seeds: int = 2, leave: tuple[str, int] | None = None, n: dict[str, int] | None = None
) -> Any:
    return [
        put(
            {"coalition": label, "seed": seed},
            [{"auroc": 0.5 + 0.1 * value * (seed + 1), "n": (n or {}).get(label, 100)}],
        )
        for label, value in GLOVES.items()
        for seed in range(seeds)
        if (label, seed) != leave
    ]


def table(tmp_path: Path, ids: Any, **more: Any) -> Any:
    return build(tmp_path, ids, rows="coalition", shapley=SHAPLEY, **more)


def test_a_table_has_each_members_value_by_seed(tmp_path: Path, put: Put) -> None:
    made = table(tmp_path, runs(put), interval="bootstrap")
    found = {key[0]: cell for key, cell in cells(made).items()}
    assert list(found) == ["a", "b", "c"]
    # Seed 0 has a tenth of the game, seed 1 two tenths; the bootstrap of two draws both ends.
    assert (found["a"].mean, found["a"].low, found["a"].high) == pytest.approx((0.1, 0.2 / 3, 0.4 / 3))
    assert found["b"].mean == pytest.approx(0.025) and found["b"].seeds == 2
    assert len(found["a"].runs) == 14 and found["a"].runs["a+b/1"] == "coalition=a+b-seed=1"
    assert "Without anyone it is 0.5 by definition" in made.markdown()


def test_a_seed_without_every_coalition_is_marked_and_left_out(tmp_path: Path, put: Put) -> None:
    found = cells(table(tmp_path, runs(put, leave=("b+c", 1))))
    assert {cell.seeds for cell in found.values()} == {1} and {cell.missing for cell in found.values()} == {
        (1,)
    }


def test_what_makes_no_game_is_refused(tmp_path: Path, put: Put) -> None:
    ids = runs(put, seeds=1)
    with pytest.raises(RequestError, match=r"no finished run of coalition=b\+c; run it"):
        table(tmp_path, [run for run in ids if "b+c" not in run or "a+" in run])
    with pytest.raises(RequestError, match=r"shapley\.over is a choice of the sweep"):
        build(tmp_path, ids, rows="coalition", shapley={"over": "regions", "empty": 0.5})
    with pytest.raises(RequestError, match="shapley takes interval: t or bootstrap"):
        table(tmp_path, ids, interval="patients")
    with pytest.raises(RequestError, match=r"shapley\.empty must be a number"):
        build(tmp_path, ids, rows="coalition", shapley={"over": "coalition", "empty": float("nan")})


def test_coalitions_are_judged_on_the_same_rows(tmp_path: Path, put: Put) -> None:
    with pytest.raises(RequestError, match=r"coalition=a\+b is judged on 90 rows and a on 100 \(seed 0\)"):
        table(tmp_path, runs(put, seeds=1, n={"a+b": 90}))


def test_too_many_players_are_refused(tmp_path: Path, put: Put) -> None:
    ids = [put({"coalition": "+".join("abcdefghijk"), "seed": 0}, [{"auroc": 0.6}])]
    with pytest.raises(RequestError, match="at most 10 players, got 11"):
        table(tmp_path, ids)
