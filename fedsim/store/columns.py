"""What Python and NumPy hold as columns of Arrow, and numbers back. pyarrow's own ways there and back import
pandas, which takes half a second, as long as all else that a command imports."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_MOST = 2**31  # bytes of text that 32-bit offsets do not reach
_NONE = type(None)
# The types in a list that is one of numbers.
_FLOATS = {frozenset({float}), frozenset({float, _NONE})}
_INTS = {frozenset({int})}


def table(named: Mapping[str, Any]) -> pa.Table:
    """Columns by name, each as `column` makes it; lists of numbers all at once, as most of a run's are."""
    kinds = {n: frozenset(map(type, v)) if isinstance(v, list) else None for n, v in named.items()}
    found: dict[str, pa.Array] = {}
    for kind, dtype in ((_FLOATS, np.float64), (_INTS, np.int64)):
        alike = [name for name, has in kinds.items() if has in kind]
        if len({len(named[name]) for name in alike}) == 1:  # else Arrow says which differ
            found |= zip(alike, _rows(np.array([named[name] for name in alike], dtype)), strict=True)
    return pa.table({name: found[name] if name in found else column(v) for name, v in named.items()})


def _rows(values: np.ndarray) -> list[pa.Array]:
    """A column of each row of `values` [k, n], numbers of which NaN are null."""
    none = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
    valid, kind = np.packbits(~none, axis=1, bitorder="little"), _kind(values.dtype)
    return [
        pa.Array.from_buffers(kind, len(row), [pa.py_buffer(bits) if nulls else None, pa.py_buffer(row)])
        for row, bits, nulls in zip(values, valid, np.count_nonzero(none, axis=1), strict=True)
    ]


def column(values: Any) -> pa.Array:
    """A column of `values`, an array or a list; None and NaN, which mean undefined, are null.

    Args:
      values: [n], or [n, k] of numbers for a list of k in each row.
    """
    if isinstance(values, np.ndarray):
        if values.ndim == 2:
            return pa.FixedSizeListArray.from_arrays(column(values.reshape(-1)), values.shape[1])
        if values.dtype.kind in "biuf" and values.dtype.isnative:
            return _of(values, np.isnan(values) if values.dtype.kind == "f" else None)
    kinds = set(map(type, values)) if isinstance(values, list) else {Any}
    if kinds <= {_NONE}:
        return pa.nulls(len(values))
    if kinds <= {float, _NONE}:
        found = np.array(values, np.float64)  # where None is NaN
        return _of(found, np.isnan(found))
    if kinds <= {int, _NONE}:
        known = [0 if x is None else x for x in values]
        none = np.array([x is None for x in values]) if _NONE in kinds else None
        return _of(np.array(known, np.int64), none)
    return texts(values) if kinds == {str} else pa.array(values, from_pandas=True)


def texts(values: Sequence[str]) -> pa.Array:
    """A column of text."""
    joined = "".join(values)
    parts: Sequence[str | bytes] = values if joined.isascii() else [text.encode() for text in values]
    data = joined.encode()
    if len(data) >= _MOST:
        return pa.array(values, pa.string())
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, parts), np.int32, len(values)), out=ends[1:])
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(ends), pa.py_buffer(data))


def _of(values: np.ndarray, none: np.ndarray | None) -> pa.Array:
    """Numbers or truths [n]; none: bool[n], where they are null; None: nowhere."""
    data = (
        np.packbits(values, bitorder="little") if values.dtype.kind == "b" else np.ascontiguousarray(values)
    )
    valid = pa.py_buffer(np.packbits(~none, bitorder="little")) if none is not None and none.any() else None
    return pa.Array.from_buffers(_kind(values.dtype), len(values), [valid, pa.py_buffer(data)])


_kind = functools.cache(pa.from_numpy_dtype)


def ints(values: np.ndarray) -> pa.Array:
    """A column of `values`, i64[n]."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values.astype(np.int64).data)])


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column without nulls, [n], not to be written to. Raises ValueError if it has one."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if whole.null_count:
        raise ValueError("a column with nulls")
    return _in_memory(whole)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, f64[n], nan where it is null."""
    whole = column.cast(pa.float64()).combine_chunks()
    values = _in_memory(whole)
    return (
        np.where(_in_memory(whole.is_valid().cast(pa.int8())), values, np.nan) if whole.null_count else values
    )


def _in_memory(array: pa.Array) -> np.ndarray:
    """Whatever stands where there is a null."""
    dtype = np.dtype(array.type.to_pandas_dtype())
    values = array.buffers()[1]
    if not len(array) or values is None:
        return np.zeros(len(array), dtype)
    return np.frombuffer(values, dtype, len(array), array.offset * dtype.itemsize)


NONE = pa.Table.from_arrays([ints(np.zeros(0, np.int64))], names=["run"])  # rows of no run
