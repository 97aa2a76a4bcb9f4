"""fedsim export: a sweep's rows in one file per table, with the cells' labels, for R and others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedsim.base import INCOMPLETE, SUCCESS, FedsimError, RequestError, not_written, require
from fedsim.cli import requested
from fedsim.cli.arguments import Options, Parser, add_name, add_quiet
from fedsim.cli.requested import Request

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "parquet", "json")
TRACKERS = ("tensorboard", "mlflow")
TABLES = ("runs", "rounds", "clients", "predictions", "tuning", "timeline")
ALWAYS = ("runs", "rounds", "clients")  # the others may be large, and are written when asked for


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument("--to", choices=FORMATS + TRACKERS, required=True, help="what to write")
    parser.add_argument(
        "--table",
        action="append",
        choices=TABLES,
        default=[],
        help=f"this table alone, may be given again; default: {', '.join(ALWAYS)}",
    )
    parser.add_argument("--folder", default="", help="folder to write to; default: export, beside the tables")
    add_quiet(parser)


def main(options: Options) -> int:
    request = requested.by_name(options)

    from fedsim.store import ResultStore

    store = ResultStore(request.store)
    states = store.states(request.cells)
    runs = [run for run, state in states.items() if state in request.finished]
    require(
        runs, f"{request.sweep.name}: no cell is done, so there are no rows; run: fedsim sweep {options.name}"
    )
    folder = Path(options.folder) if options.folder else request.out / "export"
    if options.to in TRACKERS:
        from fedsim.store import sinks

        labels = {run: request.cells[run].labels for run in _having(store, runs, "rounds")}
        sinks.write([options.to], store, folder, request.sweep.name, labels)
        if not options.quiet:
            print(f"{folder / options.to}: {len(runs)} runs", file=options.out)
        names: list[str] = []
    else:
        names = options.table or ["runs", *(name for name in ALWAYS[1:] if _having(store, runs, name))]
    for name in names:
        table = _table(store, request, runs, name)
        path = folder / f"{name}.{options.to}"
        _write(path, table, options.to)
        if not options.quiet:
            print(f"{path}: {table.num_rows} rows", file=options.out)
    if missing := len(states) - len(runs):
        print(f"fedsim: {missing} of {len(states)} cells are not done and left out", file=sys.stderr)
    return INCOMPLETE if missing else SUCCESS


def _table(store: Any, request: Request, runs: Sequence[str], name: str) -> pa.Table:
    """Rows of all `runs`, after columns `run` and one for each axis."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fedsim.store import kept

    axes = list(request.cells[runs[0]].labels)
    if name == "runs":
        rows, of = store.runs(runs), list(runs)
        taken = ["run", *(f"cell.{axis}" for axis in axes), *axes]  # a sweep's labels, not those of another
        rows = rows.select([column for column in rows.column_names if column not in taken])
    else:
        there = _having(store, runs, name)
        require(there, f"no run of {request.sweep.name} has a table {name!r}")

        def one(path: Path) -> pa.Table:
            try:
                return pq.read_table(path)
            except (OSError, pa.ArrowInvalid) as error:
                raise RequestError(
                    f"{path} is gone or damaged though its run is done; remove {path.parent} and sweep again"
                ) from error

        rows, _ = kept.read(store.root, f"{name}.parquet", there, one)
        of = [there[i] for i in rows["run"].to_pylist()]
        rows = rows.drop_columns(["run", *(axis for axis in axes if axis in rows.column_names)])
    columns: dict[str, Any] = {"run": pa.array(of, pa.string())}
    for axis in axes:
        labels = [request.cells[run].labels[axis] for run in of]
        mixed = len({isinstance(label, str) for label in labels}) > 1
        columns[axis] = pa.array([str(label) for label in labels] if mixed else labels)
    return pa.table(columns | {column: rows[column] for column in rows.column_names})


def _having(store: Any, runs: Sequence[str], name: str) -> list[str]:
    """Those of `runs` that have a table `name`. All have rounds: who reads them says where they are gone."""
    return [run for run in runs if name == "rounds" or (store.root / run / f"{name}.parquet").exists()]


def _write(path: Path, table: pa.Table, form: str) -> None:
    """Write aside and rename. Raises FedsimError if it cannot be written."""
    aside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _as(form, table, aside)
        aside.replace(path)
    except OSError as error:
        raise FedsimError(not_written(path, error, "give --folder another one")) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _as(form: str, table: pa.Table, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    if form == "parquet":
        pq.write_table(table, path)
    elif form == "json":
        path.write_text(json.dumps(table.to_pylist(), ensure_ascii=False, default=str), encoding="utf-8")
    else:
        for i, column in enumerate(table.schema):
            if pa.types.is_nested(column.type):  # several numbers per row, as JSON
                text = [None if v is None else json.dumps(v) for v in table.column(i).to_pylist()]
                table = table.set_column(i, column.name, pa.array(text, pa.string()))
        pyarrow.csv.write_csv(table, path)
