"""Which rows of which runs a table takes, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.base import RequestError
from fedsim.report import paired
from fedsim.report import spec as declared
from tests.report.made import BASIC, Put, build, cells, three_seeds


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
    amiss: dict[str, Any] = {"rows": ["site"], "where": {"site": ["Halland", "Orebro"]}, "from": "site"}
    with pytest.raises(RequestError, match=r"where: no run has site=Orebro; .*did you mean 'Örebro'"):
        build(tmp_path, runs, **amiss)
    for status in ("missing", "failed"):  # a run that is not done may have it
        more = "b" if status == "missing" else put({"algorithm": "b", "seed": 0}, status="failed")
        assert build(tmp_path, [*runs, more], **amiss).row_keys == (("Halland",),)
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


def test_tables_say_whether_seeds_draw_new_patients(tmp_path: Path, put: Put) -> None:
    def stored(name: str, data_seeds: list[int | None]) -> list[str]:
        return [
            put({"algorithm": name, "seed": s}, [{"auroc": 0.5 + s / 10}], experiment={"data": {"seed": d}})
            for s, d in enumerate(data_seeds)
        ]

    new, same, none = stored("new", [0, 1, 2]), stored("same", [1, 1, 1]), stored("none", [None] * 3)
    text = build(tmp_path, new).markdown()
    assert (
        "Each seed draws new patients, splits them and trains on them; the interval is one over new" in text
    )
    for runs in (same, none, [*new, *same], new[:1] + none):
        text = build(tmp_path, runs).markdown()
        assert "Seeds repeat the split and the training; the interval is not one over new patients." in text
    notes = [paired.note(report.read(tmp_path / "store", runs, levels=["pooled"])) for runs in (new, same)]
    assert "both are about new patients" in notes[0] and "neither is about new patients" in notes[1]


def test_a_cell_never_mixes_two_configurations(tmp_path: Path, put: Put) -> None:
    runs = [put({"algorithm": "a", "mu": mu, "seed": 0}, [{"auroc": 0.5}]) for mu in (0.1, 1.0)]
    with pytest.raises(RequestError, match=r"table t: two values for algorithm=a.*seed 0.*differ in mu"):
        build(tmp_path, runs)
    assert cells(build(tmp_path, runs, where={"mu": 0.1}))["a", "auroc"].seeds == 1
    assert len(cells(build(tmp_path, runs, columns=["mu"]))) == 2


def test_a_damaged_run_is_named(tmp_path: Path, put: Put) -> None:
    run = put({"algorithm": "a", "seed": 0}, [{"auroc": 0.5}])
    with pytest.raises(RequestError, match=r"clients\.parquet is absent or damaged"):
        report.read(tmp_path / "store", [run])
    (tmp_path / "store" / run / "rounds.parquet").write_bytes(b"PAR1, cut off")
    with pytest.raises(RequestError, match=r"rounds\.parquet is absent or damaged"):
        report.read(tmp_path / "store", [run], levels=["pooled"])


def test_a_run_is_called_as_the_sweep_does_that_asks(tmp_path: Path, put: Put) -> None:
    """Two sweeps may share a run, and the one that stored it has other axes."""
    run = put({"algorithm": "fedavg", "seed": 0}, [{"auroc": 0.8}])
    labels = {"mechanism": "none", "epsilon": "inf", "seed": 0}
    assert cells(build(tmp_path, {run: labels}, rows="mechanism", columns="epsilon")).keys() == {
        ("none", "inf", "auroc")
    }


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="none of the 2 runs asked for"):
        report.read(tmp_path / "store", ["a", "b"])
