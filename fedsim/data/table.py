"""Your own CSV or Parquet file: a row per patient or several, a column that names the client, a label."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.base import RequestError, nearest, require
from fedsim.config import Table
from fedsim.data.federation import Federation, gather
from fedsim.data.labels import encode, events, times
from fedsim.data.onehot import block_names, one_hot
from fedsim.data.quantity import FEWEST, parses, require_one_unit, two_sizes

MISSING = ["", "NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "."]
MOST_LEVELS = 1000


def table(cfg: Table) -> Federation:
    """Load `cfg.path`. Rows are counted from 1 in errors, without the header.

    Text columns, and those in `data.categorical`, are one-hot encoded with the levels found at
    clients that train, first level dropped; a level met only at an external client gives an
    all-zero block and is counted in `metadata[client]["unknown_categories"]`. Features of which a
    client has no value are in `metadata[client]["without_values"]`, with its rows; columns of one level
    at clients that train make no feature, and are in `notes`, as are clients whose numbers of a
    column are of two sizes, as if in two units. Everything else must
    be a number; empty cells, NA, NaN, null, ? and . are missing. A client with a single row is
    welcome: it trains with it and has no test rows.

    Raises:
      RequestError: a file, column or value that cannot be used; the message names it.
    """
    return _federation(cfg, _read(cfg))


def with_site(cfg: Table, path: str, site: str) -> Federation:
    """The table of `cfg` and, as one more external client, the rows of a file that holds a site outside.

    Categories are coded by the levels of clients that train, as for any external client; a feature that the
    file has no column of is missing in all its rows, and columns that the table does not have are left out.
    Where the file has the column of clients, rows of others than `site` are left out too.

    Raises:
      RequestError: the file cannot be read, lacks the label or the site, or holds text where the table holds
        numbers, or the other way round.
    """
    frame, other = _plain(_read(cfg)), _plain(_read(replace(cfg, path=path)))
    name = Path(path).name
    if cfg.client in other.column_names:
        kept = [owner == site for owner in _owners(other, cfg.client)]
        known = sorted(set(_owners(other, cfg.client)))
        require(any(kept), f"{name} has no client {site!r} in column {cfg.client!r}; {nearest(site, known)}")
        other = other.filter(pa.array(kept))
        other = other.drop_columns([cfg.client])
    needed = [column for column in (cfg.target, cfg.time, cfg.patient, cfg.weight) if column is not None]
    for column in needed:
        require(
            column in other.column_names,
            f"{name} has no column {column!r}; {nearest(column, other.column_names)}",
        )
    other = other.append_column(cfg.client, pa.array([site] * other.num_rows))
    other = other.select([column for column in frame.column_names if column in other.column_names])
    for column in other.column_names:
        kinds = frame[column].type, other[column].type
        require(
            _numeric(kinds[0]) == _numeric(kinds[1]) or pa.types.is_null(kinds[1]),
            f"{name}: column {column!r} holds {kinds[1]}, and in {Path(cfg.path).name} {kinds[0]}; write it "
            "the same way",
        )
    try:
        both = pa.concat_tables([frame, other], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RequestError(f"{name} does not go with {Path(cfg.path).name}: {_first(error)}") from None
    external = (cfg.external,) if isinstance(cfg.external, str) else cfg.external
    return _federation(replace(cfg, path=path, external=(*external, site)), both)


def _plain(frame: pa.Table) -> pa.Table:
    """Columns of words as text, however a file encodes them."""
    for i, field in enumerate(frame.schema):
        if pa.types.is_dictionary(field.type):
            frame = frame.set_column(i, field.name, frame.column(i).cast(field.type.value_type))
    return frame


def _federation(cfg: Table, frame: pa.Table) -> Federation:
    require(
        cfg.target is not None,
        "data.label names the column to be predicted, and is missing; set data.label=COLUMN, or for the time "
        "to an event data.time=COLUMN data.event=COLUMN",
    )
    roles = _roles(cfg, frame.column_names)
    owner = _owners(frame, cfg.client)
    external = (cfg.external,) if isinstance(cfg.external, str) else cfg.external
    known = sorted(set(owner))
    for name in external:
        require(
            name in known,
            f"data.external: no client {name!r} in column {cfg.client!r}; {nearest(name, known)}",
        )
    outside = np.isin(np.array(owner, dtype=np.str_), np.array(external, dtype=np.str_))
    require(
        not outside.all(),
        f"data.external: all clients ({', '.join(known)}) are external, so none is left to train on",
    )

    option = "data.label" if cfg.event is None else "data.event"
    label, where = _complete(frame, roles[option[5:]], option), f"{option}: column {cfg.target!r}"
    columns: dict[str, np.ndarray] = {}
    if cfg.time is None:
        require(
            len(set(label[~outside].tolist())) > 1,
            f"{where} has only one value ({label[~outside][0]}) in all "
            f"{int((~outside).sum())} training rows; nothing can be learnt from it, choose another label",
        )
        columns["y"], kind, classes, labels = encode(label, cfg.kind, where)
    else:
        columns["y"], kind, classes, labels = events(label, where)
        require(columns["y"][~outside].any(), f"{where} has no event in any training row")
        columns["time"] = times(_complete(frame, cfg.time, "data.time"), f"data.time: column {cfg.time!r}")
    if cfg.weight is not None:
        columns["weight"] = _weight(frame, cfg.weight)

    calendar = None if cfg.calendar is None else _calendar(frame, cfg.calendar)
    blocks: list[np.ndarray] = []
    features: list[str] = []
    unknown: dict[str, dict[str, Any]] = {}
    told: list[str] = []
    names, holder = np.unique(np.array(owner, dtype=np.str_), return_inverse=True)
    ends = np.cumsum(np.bincount(holder, minlength=len(names)))
    at_client = np.split(np.argsort(holder, kind="stable"), ends[:-1])
    for column in _feature_columns(cfg, frame.column_names, set(roles.values())):
        values = frame[column]
        _check_present(values, column, outside)
        if column in cfg.categorical or _is_text(values, column):
            codes, levels = _levels(values, column, outside)
            blocks.append(one_hot(codes, len(levels)))
            features += block_names(column, levels)
            if len(levels) == 1:
                empty = int((codes[~outside] == -1).sum())
                hint = f"; if its {empty} empty cells mean another level, write that there" * (empty > 0)
                told.append(
                    f"column {column!r} has one level ({levels[0]}) in the rows that train, so it makes no "
                    f"feature{hint}"
                )
            for k in np.flatnonzero(codes == -2):
                notes = unknown.setdefault(owner[k], {}).setdefault("unknown_categories", {})
                notes[column] = notes.get(column, 0) + 1
        else:
            blocks.append(_numbers(values, column)[:, None])
            features.append(column)
            told += _of_two_sizes(blocks[-1][:, 0], column, names, at_client)
        missing = np.isnan(blocks[-1][:, :1]).any(axis=1)
        if missing.any():
            present = np.bincount(holder[~missing], minlength=len(names))
            for k in np.flatnonzero(present == 0):
                notes = unknown.setdefault(str(names[k]), {}).setdefault("without_values", {})
                notes[column] = int((holder == k).sum())
    require(features, "data: no feature column is left; see data.features and data.drop")
    columns["x"] = np.concatenate(blocks, axis=1)
    made = gather(
        owner,
        columns,
        kind=kind,
        classes=classes,
        external=external,
        patient_of_row=_patients(frame, cfg.patient) if cfg.patient is not None else None,
        calendar=calendar,
        kept={column: _kept(frame[column], column) for column in dict.fromkeys(cfg.keep)},
        features=tuple(features),
        labels=labels,
        licence="not stated",
        source=Path(cfg.path).name,
        metadata=unknown,
    )
    return replace(made, notes=tuple(told))


# --- the file --------------------------------------------------------------------------------


def _read(cfg: Table) -> pa.Table:
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
            f"data.path: {path.name} is not a readable Parquet file: {_first(error)}"
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
        hint = _first(error) if delimiter in header else _separator(header, _first(error))
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


def _first(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


# --- roles of columns ------------------------------------------------------------------------


def _roles(cfg: Table, present: Sequence[str]) -> dict[str, str]:
    """Role -> column, for the roles that are used."""
    names = ("client", "patient", "label", "event", "time", "weight", "calendar")
    wanted = {role: getattr(cfg, role) for role in names}
    if cfg.event is not None:
        del wanted["label"]
    roles = {role: column for role, column in wanted.items() if column is not None}
    for role, column in roles.items():
        _check_known(column, present, f"data.{role}")
    for column in cfg.keep:
        _check_known(column, present, "data.keep")
    for option in ("features", "drop", "categorical"):
        for column in getattr(cfg, option):
            _check_known(column, present, f"data.{option}")
            require(
                option == "drop" or column not in roles.values(),
                f"data.{option}: {column!r} is already the "
                f"{', '.join(r for r, c in roles.items() if c == column)} column",
            )
            require(
                option == "drop" or column not in cfg.drop,
                f"data.{option}: {column!r} is in data.drop too; take it out of one",
            )
    for role, column in roles.items():
        other = [r for r, c in roles.items() if c == column and r != role]
        require(not other, f"data.{role} and data.{other[:1]} are both column {column!r}")
    return roles


def _check_known(column: str, present: Sequence[str], option: str) -> None:
    require(column in present, f"{option}: no column {column!r} in the file; {nearest(column, present)}")


def _feature_columns(cfg: Table, present: Sequence[str], taken: set[str]) -> list[str]:
    apart = taken | set(cfg.keep)
    chosen = tuple(dict.fromkeys(cfg.features)) or tuple(c for c in present if c not in apart)
    return [column for column in chosen if column not in cfg.drop]


def _owners(frame: pa.Table, column: str) -> list[str]:
    """Name of each row's client, without spaces around it."""
    codes, words = _coded(frame[column], column)
    blank = np.array([*(not word.strip() for word in words), True], dtype=bool)[codes]
    if blank.any():
        raise RequestError(
            f"data.client: column {column!r} is empty in {blank.sum()} rows, first in row "
            f"{np.argmax(blank) + 1}; every row needs a client"
        )
    alike: dict[str, str] = {}
    for name in sorted(words):
        # Composed and decomposed letters (as in Örebro) look the same too.
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        other = alike.setdefault(key, name)
        require(
            other == name,
            f"data.client: {other!r} and {name!r} in column {column!r} differ only in spaces, capitals or "
            "encoding; write one client one way",
        )
    names = [word.strip() for word in words]
    return [names[code] for code in codes]


def _patients(frame: pa.Table, column: str) -> np.ndarray:
    """int32[N]: a number for each row's patient."""
    codes, _ = _coded(frame[column], column)
    empty = np.flatnonzero(codes < 0)
    if len(empty):
        raise RequestError(
            f"data.patient: column {column!r} is empty in {len(empty)} rows, first in row {empty[0] + 1}; "
            "every row needs a patient"
        )
    return codes


# --- values of columns -----------------------------------------------------------------------


def _coded(values: pa.ChunkedArray, column: str) -> tuple[np.ndarray, list[str]]:
    """int32[N] codes, -1 where missing, and the distinct texts they stand for."""
    try:
        coded = pa.concat_arrays(values.cast(pa.string()).chunks).dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise RequestError(f"data: column {column!r} holds {values.type}, which is not text") from None
    return pc.fill_null(coded.indices, -1).to_numpy(), coded.dictionary.to_pylist()


def _numeric(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _float64(values: pa.ChunkedArray) -> np.ndarray:
    """float64[N], NaN where missing."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    return pc.fill_null(values.cast(pa.float64(), safe=False), float("nan")).to_numpy()


def _check_present(values: pa.ChunkedArray, column: str, outside: np.ndarray) -> None:
    present = values.is_valid().to_numpy()
    if pa.types.is_floating(values.type):
        present = present & ~np.isnan(_float64(values))
    require(
        present[~outside].any(),
        f"data: column {column!r} has no value in any training row; drop it with data.drop=[{column}]",
    )


def _is_text(values: pa.ChunkedArray, column: str) -> bool:
    """Whether a column holds categories rather than numbers.

    Raises:
      RequestError: text in a column of numbers, several units in one column, or a type that is neither.
    """
    kind = values.type
    if _numeric(kind):
        return False
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    require(
        text,
        f"data: column {column!r} holds {kind}, which is neither a number nor a category; turn it into a "
        f"number or drop it with data.drop=[{column}]",
    )
    codes, words = _coded(values, column)
    counts = np.bincount(codes + 1, minlength=len(words) + 1)[1:]  # codes are -1 where missing
    bad = np.array([not parses(word) for word in words], dtype=bool)
    comma = bad & np.array([parses(word.replace(",", ".", 1)) for word in words], dtype=bool)
    if bad.any():
        row = int(np.flatnonzero(np.append(bad, False)[codes])[0])
        cell = f"{words[codes[row]]!r} in row {row + 1}"
        if 2 * counts[comma].sum() > counts.sum():
            raise RequestError(
                f"data: column {column!r} writes decimals with a comma ({cell}); write them with a point"
            )
        require_one_unit(codes, words, column)
        if 2 * counts[bad].sum() < counts.sum():
            raise RequestError(
                f"data: column {column!r} holds numbers, but {cell} is text ({counts[bad].sum()} such rows); "
                "correct it, or name the column in data.categorical"
            )
    return True


def _numbers(values: pa.ChunkedArray, column: str) -> np.ndarray:
    """float32[N], NaN where missing."""
    wide = _float64(values)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    bad = np.flatnonzero(np.isinf(narrow))
    if len(bad):
        raise RequestError(
            f"data: column {column!r} has an infinite value or one beyond float32 ({wide[bad[0]]:g}) in row "
            f"{bad[0] + 1} ({len(bad)} such rows); correct it, or leave the cell empty"
        )
    return narrow


def _of_two_sizes(
    values: np.ndarray, column: str, names: np.ndarray, at_client: Sequence[np.ndarray]
) -> list[str]:
    """A note for each client whose values of a column look like two units. at_client: rows, by client."""
    told = []
    for name, rows in zip(names, at_client, strict=True):
        found = two_sizes(values[rows]) if len(rows) >= 2 * FEWEST else None
        if found is not None:
            told.append(
                f"{name}: column {column!r} has {found.below} values around {found.low:.3g} and "
                f"{found.above} around {found.high:.3g}, and none between {found.gap[0]:.3g} and "
                f"{found.gap[1]:.3g}; if these are two units, write them in one"
            )
    return told


def _complete(frame: pa.Table, column: str, where: str) -> np.ndarray:
    """float64[N] or text[N] without missing or infinite values."""
    values = frame[column]
    number = _numeric(values.type)
    found = _float64(values) if number else np.zeros(len(values), dtype=np.float64)
    empty = np.flatnonzero(np.isnan(found) if number else ~values.is_valid().to_numpy())
    if len(empty):
        raise RequestError(
            f"{where}: column {column!r} is empty in {len(empty)} rows, first in row {empty[0] + 1}; "
            "fill it or leave these rows out"
        )
    if not number:
        _is_text(values, column)
        codes, words = _coded(values, column)
        return np.array(words, dtype=np.str_)[codes]
    bad = np.flatnonzero(np.isinf(found))
    if len(bad):
        raise RequestError(f"{where}: column {column!r} is infinite in row {bad[0] + 1}; correct it")
    return found


def _calendar(frame: pa.Table, column: str) -> np.ndarray:
    """float64[N]: days since 1970 of dates, numbers as they are; none missing."""
    values, where = frame[column], f"data.calendar: column {column!r}"
    kind = values.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        empty = np.flatnonzero(~values.is_valid().to_numpy())
        require(
            not len(empty),
            f"{where} is empty in {len(empty)} rows, first in row {empty[:1].sum() + 1}; fill it "
            "or leave these rows out",
        )
        micro: np.ndarray = values.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
        return micro.astype(np.float64) / 86_400e6
    require(
        _numeric(kind),
        f"{where} holds {kind}, which is neither a date nor a number; write dates as 2024-12-31",
    )
    return _complete(frame, column, "data.calendar")


def _kept(values: pa.ChunkedArray, column: str) -> np.ndarray:
    """float64[N], NaN where missing, or text[N], "" where missing."""
    if _numeric(values.type):
        return _float64(values)
    codes, words = _coded(values, column)
    return np.array([*words, ""], dtype=np.str_)[codes]


def _weight(frame: pa.Table, column: str) -> np.ndarray:
    """float32[N] >= 0, none missing."""
    where = f"data.weight: column {column!r}"
    found = _complete(frame, column, "data.weight")
    require(found.dtype == np.float64, f"{where} must hold numbers, got {str(found[0])!r} in row 1")
    require(found.min() >= 0, f"{where} must be in [0, inf), got {found.min():g}")
    require(found.max() > 0, f"{where} is 0 in every row; one weight must be positive")
    return found.astype(np.float32)


def _levels(values: pa.ChunkedArray, column: str, outside: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """int32 codes (-1 missing, -2 unknown to clients that train) and the names of the levels, sorted."""
    if _numeric(values.type):
        cells = _float64(values)
        numbers, codes = np.unique(cells, return_inverse=True)
        words = [str(int(v)) if v.is_integer() else str(v) for v in numbers.tolist()]
        order = {word: i for i, word in enumerate(words)}  # by value, not as text
        codes = np.where(np.isnan(cells), -1, codes)
    else:
        codes, words = _coded(values, column)
        order = {word: i for i, word in enumerate(sorted(words))}
    training = codes[~outside]
    levels = sorted((words[c] for c in np.unique(training) if c >= 0), key=order.__getitem__)
    require(
        len(levels) <= min(MOST_LEVELS, max(20, len(training) // 2)),
        f"data: column {column!r} has {len(levels)} distinct values in {len(training)} training rows, as an "
        f"identifier or free text would; drop it with data.drop=[{column}]",
    )
    position = {level: i for i, level in enumerate(levels)}
    place = [position.get(word, -2) for word in words]
    return np.array([*place, -1], dtype=np.int32)[codes], levels
