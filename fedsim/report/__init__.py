"""Tables and figures from stored rows: nothing is trained, and JAX is never imported.

`read` takes the rows of the runs asked for, `tables` and `figures` turn them into what tables.yaml
declares, `write` puts that on disk, and `check` holds it against the committed tables.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsim.base import RequestError, require
from fedsim.report import spec as declared
from fedsim.report.intervals import end_band
from fedsim.report.rows import Rows, read
from fedsim.report.spec import ReportSpec
from fedsim.report.tables import Cell, Table, tables

__all__ = ["Cell", "Drift", "ReportSpec", "Rows", "Table", "check", "read", "tables", "write"]

Runs = Sequence[str] | Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Drift:
    """A committed number that the rows no longer give. band: how far it may move; None: not at all."""

    table: str
    cell: str
    quantity: str
    old: str
    new: str
    band: float | None

    def __str__(self) -> str:
        allowed = f" (band {self.band:.3g})" if self.band is not None else ""
        return f"{self.table}: {self.cell}: {self.quantity} was {self.old}, is {self.new}{allowed}"


def write(
    name: str, store_root: Path, spec_path: Path, out_dir: Path, runs: Runs, stale: str = "refuse",
    without_runs: list[str] | None = None,
) -> list[Path]:  # fmt: skip
    """Regenerate every table and figure that an experiment declares.

    Args:
      name: the experiment's, for messages.
      store_root: the result store's folder.
      spec_path: the experiment's tables.yaml.
      out_dir: gets tables/*.md, tables/*.csv, figures/*.png, figures/*.svg and, with the rows behind
        each figure, figures/*.csv.
      runs: ids of the plan's cells; better, ids with their labels.
      stale: `keep` shows runs of several versions of the code together, with a footnote.
      without_runs: where given, it is told of tables and figures without runs, which are then no error.

    Returns:
      The files written.

    Raises:
      RequestError: as `tables`, or tables.yaml is wrong, or no run is in the store.
    """
    with _blame(name):
        spec, rows = _load(store_root, spec_path, runs)
        files: dict[Path, bytes] = {}
        for table in tables(rows, spec, stale, without_runs):
            files[out_dir / "tables" / f"{table.name}.md"] = table.markdown().encode()
            files[out_dir / "tables" / f"{table.name}.csv"] = table.csv().encode()
        if spec.figures:
            from fedsim.report.figures import figures  # matplotlib takes a second: not for `check`

            for figure in figures(rows, spec, stale, without_runs):
                for suffix, content in (
                    ("png", figure.png),
                    ("svg", figure.svg),
                    ("csv", figure.csv.encode()),
                ):
                    files[out_dir / "figures" / f"{figure.name}.{suffix}"] = content
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_bytes(content)
        os.replace(aside, path)
    return list(files)


def check(
    name: str, store_root: Path, spec_path: Path, committed: Path, runs: Runs, stale: str = "refuse"
) -> list[Drift]:
    """Compare regenerated tables with `committed`/*.csv; empty when nothing drifted.

    A mean may move by the table's band, an end of its interval by what follows when each seed moves
    by the band. Counts of seeds, undefined and diverged runs, and the cells themselves, must be equal.

    Raises:
      RequestError: as `write`, or there are no committed tables.
    """
    with _blame(name):
        require(
            committed.is_dir(), f"{committed} has no committed tables; write them there once and commit them"
        )
        spec, rows = _load(store_root, spec_path, runs, figures=False)
        drifts: list[Drift] = []
        made = tables(rows, spec, stale)
        for table in made:
            path = committed / f"{table.name}.csv"
            if path.is_file():
                drifts += _compare(table, path.read_text(encoding="utf-8"))
            else:
                drifts.append(Drift(table.name, "table", "file", "absent", "present", None))
        for path in sorted(committed.glob("*.csv")):
            if path.stem not in {table.name for table in made}:
                drifts.append(Drift(path.stem, "table", "file", "present", "absent", None))
    return drifts


def _load(store_root: Path, spec_path: Path, runs: Runs, figures: bool = True) -> tuple[ReportSpec, Rows]:
    """A tables.yaml, and from the store only the columns that it asks for."""
    spec = declared.load(spec_path)
    metrics = {m for t in spec.tables for m in t.metrics}
    levels = {t.level for t in spec.tables}
    if figures:
        metrics |= {f.metric for f in spec.figures} | {"n"}
        levels |= {f.source for f in spec.figures}
    return spec, read(store_root, runs, metrics, levels)


class _blame:
    """Puts the experiment's name before what is wrong with its report."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RequestError):
            raise RequestError(f"{self.name}: {error}") from None


def _compare(table: Table, text: str) -> Iterator[Drift]:
    new, old = _cells(table, table.csv()), _cells(table, text)
    methods = table.spec.interval
    for key in dict.fromkeys([*new, *old]):
        place = ", ".join(key)
        if key not in old or key not in new:
            was, now = ("present", "absent") if key in old else ("absent", "present")
            yield Drift(table.name, place, "cell", was, now, None)
            continue
        a, b = old[key], new[key]
        metric = key[table.dimensions.index("metric")]
        band = table.spec.allowed(metric)
        for quantity in ("seeds", "undefined", "diverged", "missing"):
            if a.get(quantity) != b[quantity]:
                yield Drift(table.name, place, quantity, str(a.get(quantity)), b[quantity], None)
        for quantity in ("mean", "low", "high"):
            allowed = band if quantity == "mean" else end_band(band, int(b["seeds"]), methods)
            was, now = a.get(quantity) or "", b[quantity]
            if was == now:
                continue
            if not was or not now or not abs(float(was) - float(now)) <= allowed:
                yield Drift(table.name, place, quantity, was or "undefined", now or "undefined", allowed)


def _cells(table: Table, text: str) -> dict[tuple[str, ...], dict[str, str]]:
    lines = list(csv.DictReader(text.splitlines()))
    return {tuple(line.get(d) or "" for d in table.dimensions): line for line in lines}
