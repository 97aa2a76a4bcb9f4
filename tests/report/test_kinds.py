"""Heat maps, costs to a target, calibration curves and shares of wins: the numbers behind them."""

from __future__ import annotations

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedsim import report
from fedsim.base import RequestError
from fedsim.report import calibration, drawing, heat, reach, wins
from fedsim.report.drawing import Drawing
from fedsim.report.figures import figures
from fedsim.report.spec import FigureSpec, parse
from tests.report.made import Put


def asked(**options: Any) -> FigureSpec:
    return parse({"figures": [{"name": "f", **options}]}).figures[0]


def pooled(tmp_path: Path, runs: list[str]) -> report.Rows:
    return report.read(tmp_path / "store", runs, levels=["pooled"])


def drawn(tmp_path: Path, runs: list[str], **options: Any) -> tuple[Drawing, list[dict[str, str]]]:
    spec = parse({"figures": [{"name": "f", **options}]})
    (figure,) = figures(pooled(tmp_path, runs), spec)
    assert figure.png.startswith(b"\x89PNG") and b"</svg>" in figure.svg and figure.pdf.startswith(b"%PDF")
    return figure, list(csv.DictReader(figure.csv.splitlines()))


def inside(figure: Drawing) -> None:
    """Marks lie in the picture."""
    width, height = (float(n) for n in figure.svg.split(b'viewBox="0 0 ')[1].split(b'"')[0].split())
    assert figure.marks and all(0 < m.x < width and 0 < m.y < height for m in figure.marks)


# --- heat ------------------------------------------------------------------------------------


def grid_of_runs(put: Put) -> list[str]:
    return [
        put(
            {"algorithm": a, "split": split, "seed": s},
            [{"auroc": base + 0.01 * s}],
            [{"name": "A", "auroc": base}],
            heterogeneity={"label_js": base / 2, "size_gini": 3.0},
        )
        for a, split, base in (("local", "iid", 0.6), ("fedavg", "iid", 0.7), ("fedavg", "natural", 0.8))
        for s in range(3)
    ]


def test_a_heat_map_has_the_mean_of_each_cell(tmp_path: Path, put: Put) -> None:
    figure, lines = drawn(tmp_path, grid_of_runs(put), kind="heat", x="split")
    assert list(lines[0]) == ["algorithm", "split", "seed", "value"] and len(lines) == 9
    inside(figure)
    assert [mark.text for mark in figure.marks] == [
        "local, iid: 0.61 [0.5852, 0.6348], 3 seeds",
        "fedavg, iid: 0.71 [0.6852, 0.7348], 3 seeds",
        "fedavg, natural: 0.81 [0.7852, 0.8348], 3 seeds",
    ]
    x, y = [mark.x for mark in figure.marks], [mark.y for mark in figure.marks]
    assert x[0] == x[1] < x[2] and y[0] < y[1] == y[2]  # local above fedavg, iid left of natural


def test_a_heat_map_of_several_metrics(tmp_path: Path, put: Put) -> None:
    runs = grid_of_runs(put)
    metrics = ["manifest.heterogeneity.label_js", "manifest.heterogeneity.size_gini"]
    spec = asked(kind="heat", by="split", metrics=metrics, where={"algorithm": "fedavg"})
    found = heat.cells(pooled(tmp_path, runs), spec)
    assert found["iid", metrics[0]] == {0: 0.35, 1: 0.35, 2: 0.35}
    assert found["natural", metrics[0]][0] == 0.4 and found["natural", metrics[1]][2] == 3.0
    figure, _ = drawn(tmp_path, runs, kind="heat", by="split", metrics=metrics, where={"algorithm": "fedavg"})
    assert [m.text.split(":")[0] for m in figure.marks[:2]] == ["iid, labels (JS)", "iid, sizes (Gini)"]


# --- target ----------------------------------------------------------------------------------


def test_what_a_target_takes(tmp_path: Path, put: Put) -> None:
    def run(algorithm: str, seed: int, losses: list[float], rate: float) -> str:
        rounds = [
            {
                "round": r,
                "log_loss": loss,
                "bytes_up": 1e6 * r,
                "bytes_down": 5e5 * r,
                "simulated_seconds": rate * r,
            }
            for r, loss in enumerate(losses, 1)
        ]
        return put({"algorithm": algorithm, "seed": seed}, rounds)

    runs = [
        run("fast", 0, [0.9, 0.5, 0.4, 0.6], 10.0),
        run("fast", 1, [0.5, 0.4, 0.4, 0.4], 10.0),
        run("slow", 0, [0.9, 0.8, 0.7, 0.5], 1.0),
        run("slow", 1, [0.9, 0.8, 0.7, 0.6], 1.0),
    ]
    options: dict[str, Any] = {"kind": "target", "metric": "log_loss", "target": 0.5}
    found = reach.reached(pooled(tmp_path, runs), asked(**options))
    assert found == {
        "fast": {0: reach.Reached(2, 3.0, 20.0), 1: reach.Reached(1, 1.5, 10.0)},
        "slow": {0: reach.Reached(4, 6.0, 4.0), 1: None},
    }
    figure, lines = drawn(tmp_path, runs, **options)
    inside(figure)
    assert lines[-1] == {
        "algorithm": "slow",
        "seed": "1",
        "rounds": "",
        "megabytes": "",
        "simulated_seconds": "",
    }
    assert "fast: rounds 1.5, 2 of 2 reach it" in [mark.text for mark in figure.marks]
    assert "slow: simulated seconds 4, 1 of 2 reach it" in [mark.text for mark in figure.marks]
    nobody, _ = drawn(tmp_path, runs, **options | {"target": 0.1})  # and is no error
    assert nobody.marks == ()


def test_without_machines_there_are_no_seconds(tmp_path: Path, put: Put) -> None:
    runs = [put({"algorithm": "a", "seed": 0}, [{"auroc": 0.9, "bytes_up": 2e6, "bytes_down": 0.0}])]
    figure, lines = drawn(tmp_path, runs, kind="target", target=0.8)
    assert lines[0]["megabytes"] == "2.0" and lines[0]["simulated_seconds"] == "" and len(figure.marks) == 2


# --- calibration -----------------------------------------------------------------------------


def predicted(scores: Any, labels: Any, which: str = "test") -> dict[str, Any]:
    return {
        "set": [which] * len(scores),
        "label": np.asarray(labels, np.int32),
        "score": np.asarray(scores, np.float32),
    }


def test_bins_have_equally_many_rows() -> None:
    score = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.7])
    mean, share = calibration.binned(np.array([1.0, 0, 0, 1, 1, 0]), score, 3)
    assert mean == pytest.approx([0.15, 0.5, 0.85]) and share == pytest.approx([0.0, 0.5, 1.0])


def test_a_calibrated_model_lies_on_the_diagonal(tmp_path: Path, put: Put) -> None:
    runs = []
    for algorithm, bend in (("calibrated", 1.0), ("bold", 2.0)):
        for seed in range(2):
            rng = np.random.default_rng(seed)
            score = rng.uniform(size=20_000)
            label = rng.uniform(size=20_000) < score**bend
            runs.append(
                put(
                    {"algorithm": algorithm, "seed": seed},
                    [{"auroc": 0.5}],
                    predictions=predicted(score, label),
                )
            )
    options: dict[str, Any] = {"kind": "calibration", "bins": 5}
    found = calibration.curves(pooled(tmp_path, runs), asked(**options))
    for curve in found["calibrated"].values():
        assert curve.positive == pytest.approx(curve.predicted, abs=0.03)
        assert curve.fitted == pytest.approx(curve.x, abs=0.03) and curve.share.sum() == pytest.approx(1.0)
    for curve in found["bold"].values():
        assert curve.predicted[1] - curve.positive[1] > 0.15
        assert curve.fitted == pytest.approx(curve.x**2, abs=0.03)
    spec = parse({"figures": [{"name": "f", **options}]})
    (figure,) = figures(pooled(tmp_path, runs), spec)
    inside(figure)
    assert len(figure.marks) == 10 and figure.csv.splitlines()[0] == "algorithm,seed,bin,predicted,positive"


def test_what_has_no_calibration_curve_says_so(tmp_path: Path, put: Put) -> None:
    many = {**predicted([0.5] * 20, [0] * 20), "score": [[0.1, 0.9]] * 20}
    runs = [
        put({"algorithm": "none", "seed": 0}, [{"auroc": 0.5}]),
        put({"algorithm": "many", "seed": 0}, [{"auroc": 0.5}], predictions=many),
        put({"algorithm": "two", "x": 0, "seed": 0}, [{}], predictions=predicted([0.5] * 20, [0] * 20)),
        put({"algorithm": "two", "x": 1, "seed": 0}, [{}], predictions=predicted([0.5] * 20, [0] * 20)),
    ]
    rows = pooled(tmp_path, runs)
    for algorithm, words in (
        ("none", "kept no predictions, or they are damaged; run it with"),
        ("many", "predicts several classes"),
        ("two", "two runs for algorithm=two and seed 0"),
        ("gone", "no finished run has predictions"),
    ):
        with pytest.raises(RequestError, match=words):
            calibration.curves(rows, asked(kind="calibration", where={"algorithm": algorithm}))


# --- net benefit ------------------------------------------------------------------------------


def test_net_benefit_is_drawn_against_everybody_and_nobody(tmp_path: Path, put: Put) -> None:
    rng = np.random.default_rng(0)
    score = rng.uniform(size=4000)
    label = rng.uniform(size=4000) < score
    runs = [
        put({"algorithm": name, "seed": seed}, [{}], predictions=predicted(scores, label))
        for name, scores in (("good", score), ("bad", score[::-1]))
        for seed in range(2)
    ]
    (figure,) = figures(
        pooled(tmp_path, runs), parse({"figures": [{"name": "f", "kind": "benefit", "most": 0.8}]})
    )
    inside(figure)
    lines = list(csv.DictReader(figure.csv.splitlines()))
    assert len(lines) == 2 * 2 * 50 and sum("good" in mark.text for mark in figure.marks) == 10
    assert len(figure.marks) < 20  # the other method's lowest are far below acting on nobody
    for line in lines:
        t = float(line["threshold"])
        acted = (score if line["algorithm"] == "good" else score[::-1]).astype(np.float32) >= t
        wanted = (label[acted].sum() - (~label[acted]).sum() * t / (1 - t)) / 4000
        assert float(line["net_benefit"]) == pytest.approx(wanted, abs=1e-9)
        assert float(line["everybody"]) == pytest.approx(label.mean() - (1 - label.mean()) * t / (1 - t))


def test_times_to_an_event_need_a_horizon(tmp_path: Path, put: Put) -> None:
    rng = np.random.default_rng(1)
    risk = rng.uniform(0.01, 0.99, 3000)
    died, left = rng.exponential(1 / -np.log1p(-risk)), rng.uniform(0.2, 3, 3000)  # by time 1 with `risk`
    held = predicted(np.log(-np.log1p(-risk)), died <= left)
    held["event"] = held.pop("label")
    held |= {"time": np.minimum(died, left), "risk": risk}
    runs = [put({"algorithm": a, "seed": 0}, [{}], predictions=held) for a in ("with", "without")]
    config = tmp_path / "store" / runs[0] / "config.yaml"
    config.write_text(config.read_text() + "evaluate: {horizon: 1.0}\n")
    rows = pooled(tmp_path, runs[:1])
    (curve,) = calibration.curves(rows, asked(kind="calibration"))["with"].values()
    assert curve.fitted == pytest.approx(curve.x, abs=0.06)  # though a third left before
    assert curve.positive == pytest.approx(curve.predicted, abs=0.06)
    (figure,) = figures(rows, parse({"figures": [{"name": "f", "kind": "benefit"}]}))
    first = next(csv.DictReader(figure.csv.splitlines()))
    assert float(first["everybody"]) == pytest.approx(risk.mean() - (1 - risk.mean()) / 99, abs=0.03)
    held.pop("risk")
    bare = put({"algorithm": "bare", "seed": 0}, [{}], predictions=held)
    with pytest.raises(RequestError, match=r"set evaluate.horizon"):
        calibration.curves(pooled(tmp_path, [bare]), asked(kind="calibration"))


# --- in grey ---------------------------------------------------------------------------------


def lines_of(kind: str, methods: int, tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The lines that a figure names, as Matplotlib has them."""
    rng = np.random.default_rng(0)
    score = rng.uniform(size=300)
    label = rng.uniform(size=300) < score
    runs = [
        put(
            {"algorithm": name, "x": x, "seed": 0},
            [{"round": r, "auroc": 0.5 + 0.01 * r * x} for r in (1, 2)],
            predictions=predicted(score, label),
        )
        for name in ["local", *(f"m{i}" for i in range(methods))]
        for x in (1, 2)
    ]
    kept: list[Figure] = []
    real = drawing.drawing

    def keep(name: str, fig: Figure, *rest: Any) -> Drawing:
        kept.append(fig)
        return real(name, fig, *rest)

    monkeypatch.setattr(f"fedsim.report.{kind}.drawing", keep)
    where = {} if kind == "against" else {"x": 1}
    drawn(tmp_path, runs, kind=kind, where=where, **{"x": "x"} if kind == "against" else {})
    lines = kept[0].axes[0].get_lines()
    return [line for line in lines if line.get_marker() not in ("None", "", None)]


@pytest.mark.parametrize("kind", ["benefit", "calibration", "convergence", "against"])
def test_methods_are_told_apart_without_colour(
    kind: str, tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = lines_of(kind, 9, tmp_path, put, monkeypatch)
    if kind == "calibration":
        lines = [line for line in lines if line.get_linestyle() != "None"]  # in its legend both are together
    looks = [(str(line._unscaled_dash_pattern), line.get_marker()) for line in lines]
    assert len(looks) == 10 and len({*looks}) == 10
    for one, other in pairwise(looks):
        assert one[0] != other[0] and one[1] != other[1]  # neighbours differ in dash and in mark
    # What lies on bands and other lines has an edge.
    assert all(
        line.get_markeredgecolor() == "white" or line.get_markerfacecolor() == "white" for line in lines
    )


def test_marks_of_decision_curves_do_not_lie_on_each_other(
    tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of methods with the same predictions, as here."""
    lines = lines_of("benefit", 9, tmp_path, put, monkeypatch)
    starts = [line.get_markevery()[0] for line in lines]
    assert len({*starts}) == 10 and {line.get_markevery()[1] for line in lines} == {10}


# --- wins ------------------------------------------------------------------------------------


def test_shares_of_wins(tmp_path: Path, put: Put) -> None:
    values = {"a": (0.1, 0.2, 0.3, 0.4), "b": (0.2, 0.2, 0.1, 0.5), "c": (0.0, None, 0.0, 0.0)}
    runs = [
        put({"algorithm": name, "split": f"s{i % 2}", "seed": i // 2}, [{"brier": value}])
        for name, of_name in values.items()
        for i, value in enumerate(of_name)
    ]
    options = {"kind": "wins", "metric": "brier"}
    found = wins.shares(pooled(tmp_path, runs), asked(**options))
    # A lower Brier score is better: a wins twice, loses once, and one is equal.
    assert found["a", "b"] == (2.5 / 4, 4) and found["b", "a"] == (1.5 / 4, 4)
    assert found["c", "a"] == (1.0, 3) and found["a", "c"] == (0.0, 3)
    spec = parse({"figures": [{"name": "f", **options}]})
    (figure,) = figures(pooled(tmp_path, runs), spec)
    inside(figure)
    assert figure.marks[0].text == "c better than a: 1.000 of 3 pairs"  # who wins most stands on top
    with pytest.raises(RequestError, match="bytes_up has no better side"):
        wins.shares(pooled(tmp_path, runs), asked(kind="wins", metric="bytes_up"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "heat"}, "stands on x or on several metrics, got x=None and 0 metrics"),
        ({"kind": "heat", "x": "split", "metrics": ["auroc"]}, "got x=split and 1 metrics"),
        ({"kind": "target"}, "set both or neither"),
        ({"kind": "wins", "target": 0.5}, "set both or neither"),
        ({"kind": "wins", "metrics": ["auroc"]}, "metrics are for kind=heat"),
        ({"kind": "calibration", "bins": 1}, "bins must be in 2 to 100, got 1"),
        ({"kind": "calibration", "from": "site"}, "from must be one of pooled, got site"),
        ({"kind": "pie"}, "must be one of"),
    ],
)
def test_wrong_figures_say_what_to_do(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        asked(**options)
