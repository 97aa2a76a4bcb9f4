"""Figures of made-up stores: the numbers behind them."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.base import RequestError
from fedsim.report import spec as declared
from tests.report.made import T2, Put


def test_gain_is_paired_by_seed(tmp_path: Path, experiment: Any) -> None:
    from fedsim.report.gain import gains

    spec = declared.parse({"figures": [{"name": "g", "kind": "gain", "where": {"algorithm": "fedavg"}}]})
    rows = report.read(tmp_path / "store", experiment)
    pairs = gains(rows, spec.figures[0])
    assert set(pairs) == {("Small", "fedavg"), ("Large", "fedavg")}
    assert [round(p[2], 12) for p in pairs["Small", "fedavg"].values()] == [0.2, 0.21, 0.22]
    mean, low, high = report.intervals.mean_interval([p[2] for p in pairs["Small", "fedavg"].values()], "t")
    assert (mean, low, high) == pytest.approx(
        (0.21, 0.21 - T2 * 0.01 / math.sqrt(3), 0.21 + T2 * 0.01 / math.sqrt(3))
    )


def test_gain_leaves_out_pairs_without_both_and_turns_losses_round(tmp_path: Path, put: Put) -> None:
    from fedsim.report.gain import gains

    def one(algorithm: str, seed: int, brier: float | None) -> str:
        return put({"algorithm": algorithm, "seed": seed}, [{"brier": 0.1}], [{"name": "A", "brier": brier}])

    runs = [one("local", 0, 0.3), one("local", 1, None), one("fedavg", 0, 0.2), one("fedavg", 1, 0.1)]
    runs.append(one("fedavg", 2, 0.1))
    spec = declared.parse({"figures": [{"name": "g", "kind": "gain", "metric": "brier"}]})
    pairs = gains(report.read(tmp_path / "store", runs), spec.figures[0])
    assert list(pairs["A", "fedavg"]) == [0]
    assert pairs["A", "fedavg"][0] == pytest.approx((0.2, 0.3, 0.1))  # a lower Brier score is a gain


def test_figures_say_what_is_left_out(tmp_path: Path, put: Put, experiment: Any) -> None:
    from fedsim.report.drawing import left_out
    from fedsim.report.figures import figures

    spec = declared.parse({"figures": [{"name": "g", "kind": "gain", "where": {"algorithm": "fedavg"}}]})
    runs = [*experiment, put({"algorithm": "fedavg", "seed": 8}, status="diverged", source="abc")]
    runs.append(put({"algorithm": "pooled", "seed": 9}, status="diverged", source="abc"))  # not in the figure
    rows = report.read(tmp_path / "store", [*runs, "never-ran"])
    assert left_out(rows, spec.figures[0]) == ["Left out: of the runs, 1 diverged and 1 did not finish."]
    assert left_out(report.read(tmp_path / "store", experiment), spec.figures[0]) == []
    runs.append(put({"algorithm": "fedprox", "seed": 0}, status="diverged", source="other"))
    with pytest.raises(RequestError, match="2 versions of the code"):
        figures(report.read(tmp_path / "store", runs), spec)


def test_labels_of_lines_do_not_touch() -> None:
    from fedsim.report.drawing import apart

    assert apart([0.0, 50.0, 100.0], 10, 0, 100) == [0.0, 50.0, 100.0]
    places = apart([48.0, 50.0, 50.0, 99.0, 99.0], 10, 0, 100)
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(places))
    assert places[0] >= 0 and places[-1] <= 100
    assert places[:3] == pytest.approx([148 / 3 - 10, 148 / 3, 148 / 3 + 10])


def test_gain_by_size_stands_at_each_sites_rows(tmp_path: Path, experiment: Any) -> None:
    from fedsim.report.figures import figures

    spec = declared.parse({"figures": [{"name": "g", "kind": "size", "where": {"algorithm": "fedavg"}}]})
    rows = report.read(tmp_path / "store", experiment)
    (drawn,) = figures(rows, spec)
    lines = drawn.files()["g.csv"].decode().splitlines()
    assert lines[0] == "site,algorithm,seed,n,gain" and len(lines) == 7
    site, _, seed, n, gain = lines[-1].split(",")
    assert (site, seed, float(n)) == ("Small", "2", 40.0) and float(gain) == pytest.approx(0.22)


@pytest.mark.parametrize("large", [40, 41, 4000])
def test_sites_with_nearly_as_many_rows_do_not_hide_each_other(tmp_path: Path, put: Put, large: int) -> None:
    from fedsim.report.figures import figures

    runs = [
        put(
            {"algorithm": algorithm, "seed": 0},
            [{"auroc": 0.5}],
            [{"name": "A", "n": 40, "auroc": 0.5}, {"name": "B", "n": large, "auroc": 0.5 + up}],
        )
        for algorithm, up in (("local", 0.0), ("fedavg", 0.1), ("ditto", 0.1))
    ]
    spec = declared.parse({"figures": [{"name": "g", "kind": "size"}]})
    (drawn,) = figures(report.read(tmp_path / "store", runs), spec)
    assert ["40 rows" in drawn.marks[0].text, f"{large:,} rows" in drawn.marks[1].text] == [True, True]
    places = sorted(mark.x for mark in drawn.marks)
    assert len(places) == 4 and all(b - a > 5 for a, b in pairwise(places))  # points, of marks 6 wide
    assert ("are moved apart" in drawn.svg.decode()) == (large == 40)


def test_a_site_is_moved_no_further_than_it_must() -> None:
    from fedsim.report.size import SLOT, places

    found, low, high, moved = places({"A": 10.0, "B": 99.0, "C": 101.0, "D": 1000.0}, 200.0)
    assert found["A"] == pytest.approx(10.0) and found["D"] == pytest.approx(1000.0)
    assert math.log(found["C"] / found["B"]) == pytest.approx(SLOT * math.log(100) / 200)
    assert math.sqrt(found["B"] * found["C"]) == pytest.approx(math.sqrt(99 * 101))  # both by as much
    assert moved == pytest.approx(found["C"] / 101 - 1) and low < 10 < 1000 < high
    alone = places({"A": 7.0}, 200.0)
    assert alone.at == {"A": pytest.approx(7.0)} and alone.moved == pytest.approx(0, abs=1e-12)
    many, *_ = places({str(i): 50.0 for i in range(100)}, 200.0)  # more than there is room for
    assert len({*many.values()}) == 100 and all(34 <= n <= 71 for n in many.values())


@pytest.mark.parametrize(
    ("ends", "wanted"),
    [
        ((20, 450), [30, 100, 300]),
        ((41, 44), [41, 42, 43, 44]),
        ((1, 1e6), [1, 100, 1e4, 1e6]),
        ((7, 7.2), [7]),
    ],
)
def test_numbers_of_rows_are_few_and_whole(ends: tuple[float, float], wanted: list[float]) -> None:
    from fedsim.report.size import ticks

    assert ticks(*ends) == wanted


def test_rounds_below_a_convergence_figure_are_whole(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedsim.report import convergence, drawing
    from fedsim.report.figures import figures

    kept: list[Any] = []
    real = drawing.drawing

    def keep(name: str, fig: Any, *rest: Any) -> Any:
        kept.append(fig)
        return real(name, fig, *rest)

    monkeypatch.setattr(convergence, "drawing", keep)
    # Matplotlib alone would write 1.25, 1.50 and so on.
    runs = [put({"algorithm": "fedavg", "seed": 0}, [{"round": r, "auroc": 0.5 + r / 10} for r in (1, 2, 3)])]
    figures(
        report.read(tmp_path / "store", runs, levels=["pooled"]),
        declared.parse({"figures": [{"name": "c", "kind": "convergence"}]}),
    )
    low, high = kept[0].axes[0].get_xlim()
    inside = [t for t in kept[0].axes[0].get_xticks() if low <= t <= high]
    assert (low, high) == (1, 3) and inside == [1, 2, 3]
