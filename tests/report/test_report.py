"""Tables and figures of made-up stores, against numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedsim import report
from fedsim.base import RequestError
from fedsim.report import spec as declared

Put = Callable[..., str]
T2 = 4.302652729749464  # 97.5 % quantile of Student's t, 2 degrees of freedom
BASIC: dict[str, Any] = {"name": "t", "title": "A title", "rows": "algorithm", "metrics": "auroc"}


def build(tmp_path: Path, runs: Any, stale: str = "refuse", **table: Any) -> report.Table:
    spec = declared.parse({"tables": [{**BASIC, **table}]})
    rows = report.read(tmp_path / "store", runs, levels=[spec.tables[0].level])
    return report.tables(rows, spec, stale)[0]


def cells(table: report.Table) -> dict[tuple[Any, ...], report.Cell]:
    return {table.key(*at): cell for at, cell in table.each()}


def three_seeds(put: Put, values: dict[str, tuple[float | None, ...]], **more: Any) -> list[str]:
    return [
        put({"algorithm": a, "split": "natural", "seed": s}, [{"auroc": v, "brier": 0.25}], **more)
        for a, of_seeds in values.items()
        for s, v in enumerate(of_seeds)
    ]


# --- cells -----------------------------------------------------------------------------------


def test_mean_interval_and_bold(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.7, 0.8, 0.9)})
    table = build(tmp_path, runs)
    cell = cells(table)["fedavg", "auroc"]
    half = T2 * 0.1 / math.sqrt(3)
    assert (cell.mean, cell.low, cell.high) == pytest.approx((0.8, 0.8 - half, 0.8 + half))
    assert (cell.seeds, cell.missing, cell.undefined, cell.diverged) == (3, (), 0, 0)
    text = table.markdown()
    assert "| local | 0.700 [0.452, 0.948] |" in text
    assert "| fedavg | **0.800 [0.552, 1.048]** |" in text
    assert "Mean over 3 seeds and 95 % interval (Student's t over seeds)" in text
    assert "†" not in text


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("brier", {"a": 0.1, "b": 0.2}, "a"),
        ("auroc", {"a": 0.1, "b": 0.2}, "b"),
        ("calibration_slope", {"a": 0.7, "b": 1.2, "c": 2.0}, "b"),
    ],
)
def test_best_is_the_metrics_own(
    tmp_path: Path, put: Put, metric: str, values: dict[str, float], best: str
) -> None:
    runs = [put({"algorithm": a, "seed": 0}, [{metric: v}]) for a, v in values.items()]
    table = build(tmp_path, runs, metrics=[metric])
    assert [table.row_keys[i][0] for i, _ in table.bold] == [best]
    assert not build(tmp_path, runs, metrics=[metric], best="none").bold


def test_missing_seeds_are_marked_and_listed(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.7, 0.8)})
    table = build(tmp_path, [*runs, "never-ran"], mark="*")
    assert cells(table)["fedavg", "auroc"].missing == (2,)
    assert cells(table)["local", "auroc"].missing == ()
    text = table.markdown()
    assert re.search(r"\| fedavg \| \*\*0\.750 .* \(2\)\*\*\* \|", text)
    assert "- * Seeds without a finished run: fedavg: 2." in text
    assert "1 of 6 runs are not in the store." in text
    assert "up to 3 seeds (the count in round brackets)" in text


def test_with_the_plans_labels_each_cell_is_held_to_its_own_seeds(tmp_path: Path, put: Put) -> None:
    plan = {}
    for cell in (
        {"algorithm": "local", "split": "natural", "seed": 0},
        {"algorithm": "fedavg", "split": "natural", "seed": 0},
        {"algorithm": "fedavg", "split": "iid", "seed": 0},
    ):
        plan[put(cell, [{"auroc": 0.5}])] = cell
    plan["gone"] = {"algorithm": "fedavg", "split": "iid", "seed": 1}
    plan["also gone"] = {"algorithm": "fedprox", "split": "natural", "seed": 0}
    table = build(tmp_path, plan, columns=["split"])
    got = cells(table)
    assert got["fedavg", "iid", "auroc"].missing == (1,)
    assert got["fedprox", "natural", "auroc"].missing == (0,)
    assert got["fedprox", "natural", "auroc"].seeds == 0
    assert got["local", "iid", "auroc"].missing == ()  # never planned
    assert table.texts[table.row_keys.index(("local",))][table.column_keys.index(("iid", "auroc"))] == ""
    # Without labels nobody knows that, and the cell counts as lacking.
    assert cells(build(tmp_path, list(plan), columns=["split"]))["local", "iid", "auroc"].missing == (0,)


def test_failed_runs_are_missing_and_diverged_ones_are_counted(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.9,)})
    runs.append(put({"algorithm": "fedavg", "split": "natural", "seed": 1}, status="failed"))
    runs.append(
        put({"algorithm": "fedavg", "split": "natural", "seed": 2}, [{"auroc": 0.1}], status="diverged")
    )
    runs.append(put({"algorithm": "fedprox", "split": "natural", "seed": 0}, status="diverged"))
    table = build(tmp_path, runs)
    cell = cells(table)["fedavg", "auroc"]
    assert (cell.mean, cell.seeds, cell.missing, cell.diverged) == (0.9, 1, (1,), 1)
    assert "| fedavg | **0.900 (1)†‡** |" in table.markdown()
    assert "‡ Seeds that diverged, which the mean leaves out: fedavg: 1; fedprox: 1." in table.markdown()
    assert cells(table)["fedprox", "auroc"].missing == (1, 2)


def test_undefined_is_a_dash_with_a_count(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (None, None, None), "fedavg": (0.7, None, 0.9)})
    table = build(tmp_path, runs)
    assert cells(table)["fedavg", "auroc"].mean == pytest.approx(0.8)
    assert cells(table)["fedavg", "auroc"].undefined == 1
    assert table.texts[0][0] == "– (3)"
    assert table.texts[1][0].endswith(", – (1)")
    assert "undefined for k seeds" in table.markdown()
    assert "local,auroc,,,,0,3,0," in table.csv()


def test_mixed_sources_are_refused_or_footnoted(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7)}, source="old")
    runs += three_seeds(put, {"fedavg": (0.6, 0.7)}, source="new")
    with pytest.raises(
        RequestError, match=r"2 versions of the code \(old: 2 runs, new: 2 runs\).*stale=keep"
    ):
        build(tmp_path, runs)
    assert "Runs of 2 versions of the code together" in build(tmp_path, runs, stale="keep").markdown()
    build(tmp_path, runs[:2])  # one of them alone is fine


# --- which rows ------------------------------------------------------------------------------


def test_last_round_of_each_run_counts(tmp_path: Path, put: Put) -> None:
    rows = [{"round": r, "auroc": r / 10} for r in (1, 3, 2)]
    runs = [put({"algorithm": "a", "seed": 0}, rows), put({"algorithm": "b", "seed": 0}, rows[:1])]
    last = cells(build(tmp_path, runs))
    assert (last["a", "auroc"].mean, last["b", "auroc"].mean) == (0.3, 0.1)
    assert cells(build(tmp_path, runs[:1], round=2))["a", "auroc"].mean == 0.2


def test_folds(tmp_path: Path, put: Put) -> None:
    """Out-of-fold predictions together where there are; else the mean over folds, each at its end."""
    rows = [
        {"replica": -1, "round": 5, "auroc": 0.9},
        *({"replica": k, "round": 5, "auroc": 0.1} for k in range(3)),
        {"set": "external", "replica": 0, "round": 5, "auroc": 0.4},
        {"set": "external", "replica": 1, "round": 3, "auroc": 0.8},
        {"set": "external", "replica": 1, "round": 2, "auroc": 0.0},
        {"set": "valid", "replica": 0, "auroc": 0.5},
        {"set": "valid", "replica": 1, "auroc": None},
    ]
    runs = [put({"algorithm": "a", "seed": 0}, rows)]
    table = build(tmp_path, runs, columns=["set"], where={"set": ["test", "external", "valid"]})
    got = cells(table)
    assert got["a", "test", "auroc"].mean == 0.9
    assert got["a", "external", "auroc"].mean == pytest.approx(0.6)
    assert got["a", "valid", "auroc"].undefined == 1
    assert [key[0] for key in table.column_keys] == ["test", "external", "valid"]


def test_levels_and_dimensions_inside_a_run(tmp_path: Path, put: Put) -> None:
    rounds = [{"aggregate": a, "auroc": v} for a, v in (("pooled", 0.9), ("mean", 0.8), ("worst", 0.5))]
    clients = [
        {"name": "Örebro", "auroc": 0.7, "n": 10},
        {"name": "Halland", "auroc": 0.6, "n": 20},
        {"name": "client 1", "group": "client", "auroc": 0.1},
    ]
    runs = [
        put(
            {"algorithm": "a", "seed": 0},
            rounds,
            clients,
            seconds=12.5,
            heterogeneity={"gradient_diversity": 1.5},
        )
    ]
    assert cells(build(tmp_path, runs, **{"from": "worst"}))["a", "auroc"].mean == 0.5
    by_site = build(tmp_path, runs, rows=["site"], metrics=["auroc", "n"], **{"from": "site"})
    assert {k: c.mean for k, c in cells(by_site).items()} == {
        ("Halland", "auroc"): 0.6,
        ("Halland", "n"): 20,
        ("Örebro", "auroc"): 0.7,
        ("Örebro", "n"): 10,
    }
    listed = build(tmp_path, runs, rows=["site"], where={"site": ["Örebro", "Halland"]}, **{"from": "site"})
    assert listed.row_keys == (("Örebro",), ("Halland",))
    by_client = build(tmp_path, runs, rows=["client"], **{"from": "client"})
    assert list(cells(by_client)) == [("client 1", "auroc")]
    by_aggregate = build(
        tmp_path, runs, rows=["aggregate", "metric"], where={"aggregate": ["pooled", "mean"]}
    )
    assert by_aggregate.row_keys == (("pooled", "auroc"), ("mean", "auroc"))
    assert cells(build(tmp_path, runs, metrics=["manifest.seconds"]))["a", "manifest.seconds"].mean == 12.5
    of = "manifest.heterogeneity.gradient_diversity"
    assert cells(build(tmp_path, runs, metrics=[of]))["a", of].mean == 1.5
    with pytest.raises(RequestError, match=r"no manifest has a number 'heterogeneity\.none'"):
        build(tmp_path, runs, metrics=["manifest.heterogeneity.none"])
    assert cells(build(tmp_path, runs, rows=["task.l2", "task"]))[0.5, "logistic", "auroc"].mean == 0.9


def test_order_and_words(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"zeta": (0.1,), "alpha": (0.2,), "left out": (0.3,)})
    spec = declared.parse(
        {
            "labels": {"zeta": "Ζ|ζ", "algorithm": "Method"},
            "tables": [{**BASIC, "where": {"algorithm": ["alpha", "zeta"]}, "format": {"auroc": ".1%"}}],
        }
    )
    (table,) = report.tables(report.read(tmp_path / "store", runs, levels=["pooled"]), spec)
    assert table.row_keys == (("alpha",), ("zeta",))
    assert "| Method | AUROC |" in table.markdown()
    assert "| Ζ\\|ζ | 10.0% |" in table.markdown()
    assert build(tmp_path, runs).row_keys == (("zeta",), ("alpha",), ("left out",))  # as planned


def test_a_cell_never_mixes_two_configurations(tmp_path: Path, put: Put) -> None:
    runs = [put({"algorithm": "a", "mu": mu, "seed": 0}, [{"auroc": 0.5}]) for mu in (0.1, 1.0)]
    with pytest.raises(RequestError, match=r"table t: two values for algorithm=a.*seed 0.*differ in mu"):
        build(tmp_path, runs)
    assert cells(build(tmp_path, runs, where={"mu": 0.1}))["a", "auroc"].seeds == 1
    assert len(cells(build(tmp_path, runs, columns=["mu"]))) == 2


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"metrics": "aurok"}, "unknown metric 'aurok'.*did you mean 'auroc'"),
        ({"rows": "algoritm"}, "unknown dimension 'algoritm'.*did you mean 'algorithm'"),
        ({"where": {"algorithm": "fedavg"}}, "no run fits"),
        ({"colums": ["split"]}, r"unknown option tables\[0\].colums.*did you mean 'columns'"),
        ({"format": ".3q"}, "is not a format"),
        ({"rows": ["site"]}, "rows from pooled have no site; use from: site"),
        ({"name": "../t"}, "is a path"),
        ({"from": "somewhere"}, "must be one of pooled"),
        ({"columns": ["algorithm"]}, "given twice"),
        ({"band": -1}, "band must be >= 0"),
    ],
)
def test_wrong_declarations_say_what_to_do(
    tmp_path: Path, put: Put, table: dict[str, Any], words: str
) -> None:
    runs = three_seeds(put, {"local": (0.5,)})
    with pytest.raises(RequestError, match=words):
        build(tmp_path, runs, **table)


def test_a_damaged_run_is_named(tmp_path: Path, put: Put) -> None:
    run = put({"algorithm": "a", "seed": 0}, [{"auroc": 0.5}])
    with pytest.raises(RequestError, match=r"clients\.parquet is absent or damaged"):
        report.read(tmp_path / "store", [run])
    (tmp_path / "store" / run / "rounds.parquet").write_bytes(b"PAR1, cut off")
    with pytest.raises(RequestError, match=r"rounds\.parquet is absent or damaged"):
        report.read(tmp_path / "store", [run], levels=["pooled"])


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none of the 2 runs asked for"):
        report.read(tmp_path / "store", ["a", "b"])


# --- writers ---------------------------------------------------------------------------------


def test_csv_has_full_precision(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.1, 0.2, 0.4)})
    (line,) = csv.DictReader(io.StringIO(build(tmp_path, runs).csv()))
    assert float(line["mean"]) == math.fsum([0.1, 0.2, 0.4]) / 3
    assert list(line) == [
        "algorithm",
        "metric",
        "mean",
        "low",
        "high",
        "seeds",
        "undefined",
        "diverged",
        "missing",
    ]


def test_terminal_table(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.1, 0.2, 0.4)})
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(build(tmp_path, runs).rich())
    text = console.export_text()
    assert "0.233 [−0.146, 0.613]" in text and "A title" in text and "Student's t" in text


SITES = {"Small": 0.2, "Large": -0.1}
SPEC = """
labels: {fedavg: FedAvg}
tables:
  - {name: pooled, title: Pooled AUROC, rows: algorithm, columns: split, metrics: [auroc, brier], band: 0.02}
figures:
  - {name: gain, kind: gain, where: {split: natural}}
  - {name: convergence, kind: convergence, where: {split: natural}}
"""


@pytest.fixture
def experiment(tmp_path: Path, put: Put) -> dict[str, dict[str, Any]]:
    """Three seeds of local and fedavg; at Small fedavg gains .2 + .01 seed, at Large it loses .1."""
    (tmp_path / "tables.yaml").write_text(SPEC)
    plan = {}
    for algorithm in ("local", "fedavg", "pooled"):
        for seed in range(3):
            cell = {"algorithm": algorithm, "split": "natural", "seed": seed}
            rounds = [
                {"round": r, "auroc": 0.5 + 0.05 * r + 0.01 * seed, "brier": 0.3 - 0.01 * r}
                for r in ([3] if algorithm == "pooled" else [1, 2, 3])
            ]
            clients = [
                {
                    "round": 3,
                    "name": site,
                    "n": 40,
                    # The seed moves the hospital by far more than the method does: only pairs see it.
                    "auroc": 0.5 + 0.1 * seed + (gain + 0.01 * seed if algorithm == "fedavg" else 0.0),
                }
                for site, gain in SITES.items()
            ]
            plan[put(cell, rounds, clients)] = cell
    return plan


def test_gain_is_paired_by_seed(tmp_path: Path, experiment: Any) -> None:
    from fedsim.report.figures import gains

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
    from fedsim.report.figures import gains

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


def test_write(tmp_path: Path, experiment: Any) -> None:
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml")
    files = report.write(*args, tmp_path / "out", experiment)
    assert {str(f.relative_to(tmp_path / "out")) for f in files} == {
        "tables/pooled.md",
        "tables/pooled.csv",
        *(f"figures/{n}.{s}" for n in ("gain", "convergence") for s in ("png", "svg", "csv")),
    }
    assert sorted(f for f in (tmp_path / "out").rglob("*") if f.is_file()) == sorted(files)
    for name in ("gain", "convergence"):
        png = (tmp_path / f"out/figures/{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 15_000
        svg = (tmp_path / f"out/figures/{name}.svg").read_text()
        assert len(svg) > 10_000 and "dc:date" not in svg
    gain = list(csv.DictReader((tmp_path / "out/figures/gain.csv").read_text().splitlines()))
    assert [line["site"] for line in gain[::6]] == ["Small", "Large"]  # in order of gain
    assert float(gain[1]["gain"]) == pytest.approx(0.21) and gain[1]["seed"] == "1"
    curve = list(csv.DictReader((tmp_path / "out/figures/convergence.csv").read_text().splitlines()))
    assert len(curve) == 3 * 3 * 2 + 3
    again = report.write(*args, tmp_path / "again", experiment)
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in files]


def test_wrong_requests_name_the_experiment(tmp_path: Path, experiment: Any) -> None:
    with pytest.raises(RequestError, match=r"demo: .*none\.yaml does not exist"):
        report.write("demo", tmp_path / "store", tmp_path / "none.yaml", tmp_path / "out", experiment)
    (tmp_path / "bad.yaml").write_text("tables: [\n")
    with pytest.raises(RequestError, match=r"demo: .*bad.yaml, line 2: not YAML"):
        report.write("demo", tmp_path / "store", tmp_path / "bad.yaml", tmp_path / "out", experiment)
    (tmp_path / "bad.yaml").write_text("figures: [{name: g, kind: gain, baseline: nobody}]")
    with pytest.raises(RequestError, match=r"demo: figure g: no finished run with algorithm=nobody"):
        report.write("demo", tmp_path / "store", tmp_path / "bad.yaml", tmp_path / "out", experiment)


def test_seeds_do_not_repeat_a_split_that_was_published(tmp_path: Path, put: Put) -> None:
    def said(split: str) -> str:
        about = {"experiment": {"split": {"name": split}}}
        cells = [{"split": split, "algorithm": "a", "seed": seed} for seed in range(2)]
        runs = [put(cell, [{"auroc": 0.5}], **about) for cell in cells]
        return build(tmp_path, runs, rows=["algorithm"], columns=[]).markdown()

    assert "Seeds repeat the training, on the same split;" in said("published")
    assert "Seeds repeat the split and the training;" in said("natural")


def test_what_has_no_runs_is_left_out_where_that_is_asked_for(tmp_path: Path, experiment: Any) -> None:
    """As after a sweep over some values of an axis."""
    text = (tmp_path / "tables.yaml").read_text(encoding="utf-8")
    other = "  - {name: other, title: T, rows: algorithm, metrics: [auroc], where: {algorithm: nobody}}\n"
    (tmp_path / "more.yaml").write_text(
        text.replace("tables:\n", f"tables:\n{other}", 1).replace(
            "figures:\n", "figures:\n  - {name: g, kind: gain, baseline: nobody}\n", 1
        )
    )
    without_runs: list[str] = []
    args = ("demo", tmp_path / "store", tmp_path / "more.yaml", tmp_path / "out", experiment)
    files = report.write(*args, without_runs=without_runs)
    assert [line.split(":")[0] for line in without_runs] == ["table other", "figure g"]
    assert len(files) == len(
        report.write(*args[:2], tmp_path / "tables.yaml", tmp_path / "again", experiment)
    )
    with pytest.raises(RequestError, match="table other: no run fits"):
        report.write(*args)


def test_check_finds_what_moved_beyond_the_band(tmp_path: Path, experiment: Any) -> None:
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml")
    report.write(*args, tmp_path / "out", experiment)
    committed = tmp_path / "out/tables"
    assert report.check(*args, committed, experiment) == []

    path = committed / "pooled.csv"
    lines = list(csv.DictReader(path.read_text().splitlines()))

    def commit() -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)

    lines[0]["mean"] = repr(float(lines[0]["mean"]) + 0.019)  # inside the band
    commit()
    assert report.check(*args, committed, experiment) == []
    lines[0]["mean"] = repr(float(lines[0]["mean"]) + 0.002)
    lines[1]["seeds"] = "2"
    lines[2]["mean"] = ""
    del lines[3]
    lines.append({**lines[0], "algorithm": "newton"})
    commit()
    drifts = report.check(*args, committed, experiment)
    assert [(d.cell, d.quantity) for d in drifts] == [
        ("local, natural, auroc", "mean"),
        ("local, natural, brier", "seeds"),
        ("fedavg, natural, auroc", "mean"),
        ("fedavg, natural, brier", "cell"),
        ("newton, natural, auroc", "cell"),
    ]
    assert drifts[0].band == 0.02 and "(band 0.02)" in str(drifts[0])

    path.rename(committed / "other.csv")
    assert [(d.table, d.new) for d in report.check(*args, committed, experiment)] == [
        ("pooled", "present"),
        ("other", "absent"),
    ]
    with pytest.raises(RequestError, match="has no committed tables"):
        report.check(*args, tmp_path / "nowhere", experiment)


# --- several rounds --------------------------------------------------------------------------


def test_a_table_over_the_last_rounds(tmp_path: Path, put: Put) -> None:
    losses = {"steady": (9.0, 0.5, 0.6, 0.7), "wild": (0.1, 0.2, 1.0, 0.6)}
    runs = [
        put({"algorithm": a, "seed": s}, [{"round": r, "log_loss": v + s} for r, v in enumerate(values)])
        for a, values in losses.items()
        for s in (0, 1)
    ]
    mean = build(tmp_path, runs, metrics="log_loss", over={"rounds": 3})
    got = {key[0]: cell.mean for key, cell in cells(mean).items()}
    assert got == pytest.approx({"steady": 1.1, "wild": 1.1})  # (0.6 + 1.6) / 2 both
    spread = build(tmp_path, runs, metrics="log_loss", over={"rounds": 3, "take": "spread"})
    got = {key[0]: cell.mean for key, cell in cells(spread).items()}
    assert got == pytest.approx({"steady": 0.1, "wild": 0.4})
    assert (
        "standard deviation over its last 3 evaluated rounds at most. Lower is steadier." in spread.markdown()
    )
    assert not spread.bold and "lower is better" not in spread.markdown()
    once = [put({"algorithm": "once", "seed": 0}, [{"log_loss": 0.5}])]
    with pytest.raises(RequestError, match=r"over: a spread needs .*evaluate\.every"):
        build(tmp_path, once, metrics="log_loss", over={"rounds": 3, "take": "spread"})
    with pytest.raises(RequestError, match="over takes the last rounds, and round names one"):
        build(tmp_path, runs, over={"rounds": 3}, round=2)


# --- published numbers -----------------------------------------------------------------------


def entry(algorithm: str, value: float, **more: Any) -> dict[str, Any]:
    return {"where": {"algorithm": algorithm}, "value": value, "band": 0.02, "source": "smith", **more}


def test_published_numbers_are_marked_and_listed(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.7, 0.8, 0.9), "fedprox": (None,)})
    known = [
        entry("local", 0.719),
        entry("fedavg", 0.75, spread=0.03),
        entry("fedprox", 0.5),
        entry("newton", 0.9),
    ]
    spec = declared.parse({"tables": [{**BASIC, "published": known}], "labels": {"smith": "Smith 2020"}})
    table = report.tables(report.read(tmp_path / "store", runs, levels=["pooled"]), spec)[0]
    text = table.markdown()
    assert "| local | 0.700 [0.452, 0.948] (3) ✓ 0.719 |" in text
    assert "[0.552, 1.048] (3) ✗ 0.750** |" in text
    assert "(Smith 2020). Within: 1 of 2." in text
    assert "- ✗ fedavg: 0.800, published 0.750 ± 0.030, band 0.020.\n" in text
    assert "- Published for cells that these runs lack: newton.\n" in text
    lines = {line["algorithm"]: line for line in csv.DictReader(io.StringIO(table.csv()))}
    assert [lines["fedavg"][c] for c in ("published", "band", "within")] == ["0.75", "0.02", "False"]
    assert lines["local"]["within"] == "True" and lines["fedprox"]["within"] == ""


def test_a_table_without_published_numbers_has_no_columns_for_them(tmp_path: Path, put: Put) -> None:
    table = build(tmp_path, three_seeds(put, {"local": (0.6,)}))
    assert table.csv().splitlines()[0].endswith(",seeds,undefined,diverged,missing")


def test_a_number_outside_its_band_is_no_drift(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8)})
    path = tmp_path / "tables.yaml"
    text = "tables: [{name: t, title: T, rows: algorithm, metrics: auroc, published: ["
    path.write_text(text + "{where: {algorithm: local}, value: 0.1, band: 0, source: s}]}]")
    args = ("demo", tmp_path / "store", path)
    report.write(*args, tmp_path / "out", runs)
    assert "✗ 0.100" in (tmp_path / "out/tables/t.md").read_text()
    assert report.check(*args, tmp_path / "out/tables", runs) == []


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ([entry("local", 0.5, band=-1)], "band must be >= 0"),
        ([{**entry("local", 0.5), "where": {"method": "local"}}], "where names 'method'"),
        ([{**entry("local", 0.5), "where": {}}], "lacks algorithm"),
        ([entry("local", 0.5), entry("local", 0.6)], "given twice"),
    ],
)
def test_wrong_published_numbers_are_refused(tmp_path: Path, put: Put, published: Any, message: str) -> None:
    runs = three_seeds(put, {"local": (0.6,)})
    with pytest.raises(RequestError, match=message):
        build(tmp_path, runs, published=published)


def test_labels_of_lines_do_not_touch() -> None:
    from fedsim.report.figures import _apart

    assert _apart([0.0, 50.0, 100.0], 10, 0, 100) == [0.0, 50.0, 100.0]
    places = _apart([48.0, 50.0, 50.0, 99.0, 99.0], 10, 0, 100)
    assert all(b - a >= 10 - 1e-9 for a, b in pairwise(places))
    assert places[0] >= 0 and places[-1] <= 100
    assert places[:3] == pytest.approx([148 / 3 - 10, 148 / 3, 148 / 3 + 10])


def test_230_runs_are_quick(tmp_path: Path, put: Put) -> None:
    runs = [
        put({"algorithm": f"a{a}", "seed": s}, [{"round": r, "auroc": 0.5, "brier": 0.2} for r in range(30)])
        for a in range(23)
        for s in range(10)
    ]
    start = time.perf_counter()
    build(tmp_path, runs, metrics=["auroc", "brier"])
    assert time.perf_counter() - start < 4  # a quarter of a second on an idle machine


def test_tables_start_neither_jax_nor_matplotlib() -> None:
    code = "import sys, fedsim.report; print([m for m in ('jax', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
