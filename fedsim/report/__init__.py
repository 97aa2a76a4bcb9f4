"""Tables and figures from stored rows: nothing is trained, and JAX is never imported.

`read` takes the rows of the runs asked for, `tables` and `figures` turn them into what tables.yaml
declares, `write` puts that on disk, and `check` holds it against the committed tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedsim.base import RequestError, require
from fedsim.report import few
from fedsim.report import spec as declared
from fedsim.report.drift import Drift, compare
from fedsim.report.files import publish
from fedsim.report.known import Axes, require_known
from fedsim.report.page import About
from fedsim.report.rows import Rows, read
from fedsim.report.spec import ReportSpec
from fedsim.report.table import Cell, Table
from fedsim.report.tables import tables

__all__ = [
    "About",
    "Cell",
    "Drift",
    "ReportSpec",
    "Rows",
    "Table",
    "check",
    "publish",
    "read",
    "require_declared",
    "tables",
    "write",
    "write_page",
]

Runs = Sequence[str] | Mapping[str, Mapping[str, Any]]


def require_declared(name: str, spec_path: Path, axes: Axes) -> None:
    """What can be known of a tables.yaml before there are runs. Raises RequestError as `write`."""
    with _blame(name):
        require_known(declared.load(spec_path), axes)


def write(
    name: str, store_root: Path, spec_path: Path, out_dir: Path, runs: Runs, stale: str = "refuse",
    without_runs: list[str] | None = None, axes: Axes | None = None, again: str = "",
) -> list[Path]:  # fmt: skip
    """Regenerate every table and figure that an experiment declares.

    Args:
      name: the experiment's, for messages.
      store_root: the result store's folder.
      spec_path: the experiment's tables.yaml.
      out_dir: gets tables/*.md, *.tex, *.csv and, with the runs behind each cell, *.runs.json;
        figures/*.png, *.svg, *.pdf and, with the rows behind each figure, *.csv.
      runs: ids of the plan's cells; better, ids with their labels.
      stale: `keep` shows runs of several versions of the code together, with a footnote.
      without_runs: where given, it is told of tables and figures without runs, which are then no error.
      axes: {choice of the sweep: every label that it declares}; where given, a value in tables.yaml that is
        none of them is an error, and not a table without runs.
      again: the command that writes these files, for messages.

    Returns:
      The files written.

    Raises:
      RequestError: as `tables`, or tables.yaml is wrong, or no run is in the store.
      FedsimError: the files cannot be written.
    """
    with _blame(name):
        spec, rows = _load(store_root, spec_path, runs, axes)
        files: dict[Path, bytes] = {}
        for table in tables(rows, spec, stale, without_runs):
            for file, text in table.files().items():
                files[out_dir / "tables" / file] = text.encode()
        if spec.figures:
            from fedsim.report.figures import figures  # matplotlib takes a second: not for `check`

            for figure in figures(rows, spec, stale, without_runs):
                for file, content in figure.files().items():
                    files[out_dir / "figures" / file] = content
    publish(files, again or f"fedsim tables {name}")
    return list(files)


def write_page(
    name: str, about: About, store_root: Path, spec_path: Path, path: Path, runs: Runs, stale: str = "refuse",
    axes: Axes | None = None,
) -> Rows:  # fmt: skip
    """Write an HTML page of everything that an experiment declares, and return the rows behind it.

    Raises:
      RequestError: as `write`.
    """
    with _blame(name):
        from fedsim.report.figures import figures
        from fedsim.report.page.assemble import page

        spec, rows = _load(store_root, spec_path, runs, axes)
        left_out: list[str] = []
        made = tables(rows, spec, stale, left_out), figures(rows, spec, stale, left_out)
        html = page(replace(about, left_out=left_out), rows, *made)
    publish({path: html.encode()}, about.commands[-1], "give --to a file that can be written")
    return rows


def check(
    name: str, store_root: Path, spec_path: Path, committed: Path, runs: Runs, stale: str = "refuse",
    axes: Axes | None = None,
) -> list[Drift]:  # fmt: skip
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
        spec, rows = _load(store_root, spec_path, runs, axes, figures=False)
        # A small variant lacks some values: a table of these is no drift, unless it was committed.
        return compare(tables(rows, spec, stale, without_runs=[]), committed)


def _load(
    store_root: Path, spec_path: Path, runs: Runs, axes: Axes | None, figures: bool = True
) -> tuple[ReportSpec, Rows]:
    """A tables.yaml, and from the store only the columns that it asks for."""
    spec = declared.load(spec_path)
    if axes is not None:
        require_known(spec, axes)
    metrics = {m for t in spec.tables for m in t.metrics} | {*few.COLUMNS}
    levels = {t.level for t in spec.tables}
    if figures:
        metrics |= {metric for f in spec.figures for metric in f.columns}
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
