"""One column of a table: whether it holds numbers, categories or dates, and its values as an array."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fedsim.base import RequestError, require
from fedsim.data.quantity import parses, require_one_unit

MOST_LEVELS = 1000


def coded(values: pa.ChunkedArray, column: str) -> tuple[np.ndarray, list[str]]:
    """int32[N] codes, -1 where missing, and the distinct texts they stand for."""
    try:
        coded = pa.concat_arrays(values.cast(pa.string()).chunks).dictionary_encode()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise RequestError(f"data: column {column!r} holds {values.type}, which is not text") from None
    return pc.fill_null(coded.indices, -1).to_numpy(), coded.dictionary.to_pylist()


def numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers, or yes and no."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _float64(values: pa.ChunkedArray) -> np.ndarray:
    """float64[N], NaN where missing."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    return pc.fill_null(values.cast(pa.float64(), safe=False), float("nan")).to_numpy()


def check_present(values: pa.ChunkedArray, column: str, outside: np.ndarray) -> None:
    """Raises RequestError unless a row of a client that trains has a value. outside: bool[N], those that do
    not train."""
    present = values.is_valid().to_numpy()
    if pa.types.is_floating(values.type):
        present = present & ~np.isnan(_float64(values))
    require(
        present[~outside].any(),
        f"data: column {column!r} has no value in any training row; drop it with data.drop=[{column}]",
    )


def is_text(values: pa.ChunkedArray, column: str) -> bool:
    """Whether a column holds categories rather than numbers.

    Raises:
      RequestError: text in a column of numbers, several units in one column, or a type that is neither.
    """
    kind = values.type
    if numeric(kind):
        return False
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
    require(
        text,
        f"data: column {column!r} holds {kind}, which is neither a number nor a category; turn it into a "
        f"number or drop it with data.drop=[{column}]",
    )
    codes, words = coded(values, column)
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


def numbers(values: pa.ChunkedArray, column: str) -> np.ndarray:
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


def complete(frame: pa.Table, column: str, where: str) -> np.ndarray:
    """float64[N] or text[N] without missing or infinite values."""
    values = frame[column]
    number = numeric(values.type)
    found = _float64(values) if number else np.zeros(len(values), dtype=np.float64)
    empty = np.flatnonzero(np.isnan(found) if number else ~values.is_valid().to_numpy())
    if len(empty):
        raise RequestError(
            f"{where}: column {column!r} is empty in {len(empty)} rows, first in row {empty[0] + 1}; "
            "fill it or leave these rows out"
        )
    if not number:
        is_text(values, column)
        codes, words = coded(values, column)
        return np.array(words, dtype=np.str_)[codes]
    bad = np.flatnonzero(np.isinf(found))
    if len(bad):
        raise RequestError(f"{where}: column {column!r} is infinite in row {bad[0] + 1}; correct it")
    return found


def days(frame: pa.Table, column: str) -> np.ndarray:
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
        numeric(kind),
        f"{where} holds {kind}, which is neither a date nor a number; write dates as 2024-12-31",
    )
    return complete(frame, column, "data.calendar")


def kept(values: pa.ChunkedArray, column: str) -> np.ndarray:
    """float64[N], NaN where missing, or text[N], "" where missing."""
    if numeric(values.type):
        return _float64(values)
    codes, words = coded(values, column)
    return np.array([*words, ""], dtype=np.str_)[codes]


def weights(frame: pa.Table, column: str) -> np.ndarray:
    """float32[N] >= 0, none missing."""
    where = f"data.weight: column {column!r}"
    found = complete(frame, column, "data.weight")
    require(found.dtype == np.float64, f"{where} must hold numbers, got {str(found[0])!r} in row 1")
    require(found.min() >= 0, f"{where} must be in [0, inf), got {found.min():g}")
    require(found.max() > 0, f"{where} is 0 in every row; one weight must be positive")
    return found.astype(np.float32)


def levels_of(values: pa.ChunkedArray, column: str, outside: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """int32 codes (-1 missing, -2 unknown to clients that train) and the names of the levels, sorted."""
    if numeric(values.type):
        cells = _float64(values)
        numbers, codes = np.unique(cells, return_inverse=True)
        words = [str(int(v)) if v.is_integer() else str(v) for v in numbers.tolist()]
        order = {word: i for i, word in enumerate(words)}  # by value, not as text
        codes = np.where(np.isnan(cells), -1, codes)
    else:
        codes, words = coded(values, column)
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
