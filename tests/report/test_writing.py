"""What is written, and that it is written whole."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from fontTools.ttLib import TTFont

from fedsim import report
from fedsim.base import FedsimError, RequestError
from tests.report.made import SPEC, Put, build, three_seeds


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


def fonts_in(pdf: bytes) -> list[TTFont]:
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    contents = [zlib.decompress(s) for s in streams if s.startswith(b"x")]
    return [TTFont(io.BytesIO(c)) for c in contents if c.startswith(b"\0\1\0\0")]


def test_write(tmp_path: Path, experiment: Any) -> None:
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml")
    files = report.write(*args, tmp_path / "out", experiment)
    assert {str(f.relative_to(tmp_path / "out")) for f in files} == {
        *(f"tables/pooled.{s}" for s in ("md", "tex", "csv", "runs.json")),
        *(f"figures/{n}.{s}" for n in ("gain", "convergence") for s in ("png", "svg", "pdf", "csv")),
    }
    assert sorted(f for f in (tmp_path / "out").rglob("*") if f.is_file()) == sorted(files)
    for name in ("gain", "convergence"):
        png = (tmp_path / f"out/figures/{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 15_000
        svg = (tmp_path / f"out/figures/{name}.svg").read_text()
        assert len(svg) > 10_000 and "dc:date" not in svg
        pdf = (tmp_path / f"out/figures/{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf
        fonts = fonts_in(pdf)
        assert fonts
        for font in fonts:  # whole letters, and nothing that only shapers read
            tables = {*font.keys()}
            assert {"glyf", "cmap", "hmtx"} <= tables and not {"GSUB", "GPOS", "GDEF"} & tables
    gain = list(csv.DictReader((tmp_path / "out/figures/gain.csv").read_text().splitlines()))
    assert [line["site"] for line in gain[::6]] == ["Small", "Large"]  # in order of gain
    assert float(gain[1]["gain"]) == pytest.approx(0.21) and gain[1]["seed"] == "1"
    curve = list(csv.DictReader((tmp_path / "out/figures/convergence.csv").read_text().splitlines()))
    assert len(curve) == 3 * 3 * 2 + 3
    again = report.write(*args, tmp_path / "again", experiment)
    assert [f.read_bytes() for f in again] == [f.read_bytes() for f in files]


def test_an_interruption_leaves_the_old_files_or_the_new_ones(
    tmp_path: Path, experiment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml", tmp_path / "out", experiment)
    (tmp_path / "tables.yaml").write_text(SPEC.split("figures")[0])
    report.write(*args)

    def there() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    before = there()
    (tmp_path / "tables.yaml").write_text(SPEC.split("figures")[0].replace("Pooled AUROC", "Another title"))
    writes = Path.write_bytes

    for error, raised in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space"), FedsimError)):
        for last in (1, 3):
            left = iter(range(last))

            def stop(path: Path, content: bytes, left: Any = left, error: Any = error) -> int:
                written = writes(path, content[:1])  # cut short
                if next(left, None) is None:
                    raise error
                return written

            with monkeypatch.context() as patch, pytest.raises(raised):
                patch.setattr(Path, "write_bytes", stop)
                report.write(*args)
            assert there() == before

    # What a killed process left behind goes with the next call; that of a living one stays.
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    dead = tmp_path / f"out/tables/.pooled.md.{int(gone.stdout)}.part"
    alive = dead.with_name(f".pooled.md.{os.getppid()}.part")
    dead.touch()
    alive.touch()
    report.write(*args)
    assert not dead.exists() and alive.exists()
    assert "Another title" in (tmp_path / "out/tables/pooled.md").read_text()


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "No space left on device); free space there"),
        (errno.EROFS, "Read-only file system); set results=... to a folder that can be written"),
    ],
)
def test_what_cannot_be_written_is_named_with_the_reason_and_what_helps(
    tmp_path: Path, experiment: Any, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml", tmp_path / "out", experiment)
    (tmp_path / "tables.yaml").write_text(SPEC.split("figures")[0])

    def refuse(path: Path, content: bytes) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(FedsimError) as raised:
        report.write(*args, again="fedsim tables demo --reduced")
    assert str(raised.value) == (
        f"{tmp_path}/out/tables/pooled.md cannot be written ({advice}, then run fedsim tables demo --reduced "
        "again: what was there before was kept"
    )


def test_a_place_behind_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    cases = {
        "file/page.html": rf"cannot be written \({tmp_path}/file is no folder\); go elsewhere, then run it",
        "folder": r"folder cannot be written \(Is a directory\); go elsewhere, then run it again: what was",
    }
    for place, words in cases.items():
        with pytest.raises(FedsimError, match=words):
            report.publish({tmp_path / place: b""}, "it", "go elsewhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_the_runs_behind_each_cell(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.1, None), "fedavg": (0.2,)})
    runs.append(put({"algorithm": "fedavg", "split": "natural", "seed": 1}, status="failed"))
    found = json.loads(build(tmp_path, runs).runs())
    assert found == [
        {"algorithm": "local", "metric": "auroc", "runs": {"0": runs[0], "1": runs[1]}},
        {"algorithm": "fedavg", "metric": "auroc", "runs": {"0": runs[2]}},
    ]


def test_a_metric_that_no_run_has(tmp_path: Path, experiment: Any) -> None:
    (tmp_path / "bad.yaml").write_text("tables: [{name: t, title: T, rows: algorithm, metrics: [aurok]}]")
    args = (tmp_path / "store", tmp_path / "bad.yaml", tmp_path / "out", experiment)
    said = r"unknown metric 'aurok'; choose one of auroc, brier, n; did you mean 'auroc'\?"
    with pytest.raises(RequestError, match=rf"^demo: table t: {said}$"):
        report.write("demo", *args)
    assert not (tmp_path / "out").exists()


def test_wrong_requests_name_the_experiment(tmp_path: Path, experiment: Any) -> None:
    with pytest.raises(RequestError, match=r"demo: .*none\.yaml does not exist"):
        report.write("demo", tmp_path / "store", tmp_path / "none.yaml", tmp_path / "out", experiment)
    (tmp_path / "bad.yaml").write_text("tables: [\n")
    with pytest.raises(RequestError, match=r"demo: .*bad.yaml, line 2: not YAML"):
        report.write("demo", tmp_path / "store", tmp_path / "bad.yaml", tmp_path / "out", experiment)
    (tmp_path / "bad.yaml").write_text("figures: [{name: g, kind: gain, baseline: nobody}]")
    with pytest.raises(RequestError, match=r"demo: figure g: no finished run with algorithm=nobody"):
        report.write("demo", tmp_path / "store", tmp_path / "bad.yaml", tmp_path / "out", experiment)


def test_what_has_no_runs_is_left_out_where_that_is_asked_for(tmp_path: Path, experiment: Any) -> None:
    """As after a sweep over some values of an axis; what judges others may be no column of the runs' task."""
    text = (tmp_path / "tables.yaml").read_text(encoding="utf-8")
    other = "  - {name: other, title: T, rows: algorithm, metrics: uno_c, where: {algorithm: nobody}}\n"
    gain = "  - {name: g, kind: gain, metric: uno_c, baseline: local, where: {split: none}}\n"
    (tmp_path / "more.yaml").write_text(
        text.replace("tables:\n", f"tables:\n{other}", 1).replace("figures:\n", f"figures:\n{gain}", 1)
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


def test_tables_start_neither_jax_nor_matplotlib() -> None:
    code = "import sys, fedsim.report; print([m for m in ('jax', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
