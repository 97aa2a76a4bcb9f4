"""Published numbers beside ours."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.base import RequestError
from fedsim.report import spec as declared
from tests.report.made import BASIC, Put, build, three_seeds


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
    assert "[0.552, 1.000] (3) ✗ 0.750** |" in text
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
