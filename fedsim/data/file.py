"""A CSV or Parquet file as it is: separators, encodings, what stands for a missing value."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fedsim.base import RequestError, require
from fedsim.config import Table

MISSING = ["", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "."]


def read(cfg: Table) -> pa.Table:
    """The file at `cfg.path`: at least a row, and no two columns of one name.

    Raises:
      RequestError: it cannot be read; with what to do.
    """
    path = Path(cfg.path)
    require(path.exists(), f"data.path: no file {cfg.path!r}")
    require(path.is_file(), f"data.path: {cfg.path!r} is a folder; name a CSV or Parquet file")
    require(path.stat().st_size > 0, f"data.path: {path.name} is empty")
    frame = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path, cfg.delimiter)
    require(frame.num_rows > 0, f"data.path: {path.name} has a header but no rows")
    twice = sorted({c for c in frame.column_names if frame.column_names.count(c) > 1})
    require(not twice, f"data.path: {path.name} has two columns called {twice[:1]}; rename one")
    return frame


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise RequestError(
            f"data.path: {path.name} is not a readable Parquet file: {first_line(error)}"
        ) from None


def _csv(path: Path, delimiter: str) -> pa.Table:
    import pyarrow.csv

    require(len(delimiter) == 1, f"data.delimiter must be one character, got {delimiter!r}")
    try:
        frame = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                null_values=MISSING,
                strings_can_be_null=True,
            ),
        )
        names = frame.column_names
    except UnicodeDecodeError:
        raise RequestError(
            f"data.path: the header of {path.name} is not UTF-8; save the file as UTF-8"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        # Decimal commas in a file separated by semicolons give as many columns as it happens.
        with path.open(encoding="utf-8", errors="replace") as file:
            header = file.readline()
        hint = first_line(error) if delimiter in header else _separator(header, first_line(error))
        raise RequestError(
            f"data.path: {path.name} cannot be read with data.delimiter={delimiter!r}: {hint}"
        ) from None
    if len(names) == 1:
        hint = _separator(names[0], "client, label and at least one feature are needed")
        raise RequestError(
            f"data.path: only one column was found in {path.name} with data.delimiter={delimiter!r}; {hint}"
        )
    for name, column in zip(names, frame.columns, strict=True):
        require(
            not pa.types.is_binary(column.type),
            f"data.path: column {name!r} of {path.name} is not UTF-8; save the file as UTF-8",
        )
    return frame


def _separator(header: str, otherwise: str) -> str:
    likely = max(";\t|,", key=header.count)
    hint = f"the header looks separated by {likely!r}, set data.delimiter={likely!r}"
    return hint if likely in header else otherwise


def first_line(error: Exception) -> str:
    """What the library said, short enough for a sentence."""
    return str(error).splitlines()[0][:200]
