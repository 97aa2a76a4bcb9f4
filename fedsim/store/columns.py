"""What Python and NumPy hold as columns of Arrow, and numbers back. pyarrow's own ways there and back import
pandas, which takes half a second, as long as all else that a command imports."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

_MOST = 2**31  # bytes of text that 32-bit offsets do not reach
_NONE = type(None)
_FLOAT, _INT = frozenset({float}), frozenset({int})  # the types in a list that is one of numbers


def table(named: Mapping[str, Any]) -> pa.Table:
    """Columns by name, each as `column` makes it. Raises ValueError where they differ in length."""
    return tables([named])[0]


def tables(many: Sequence[Mapping[str, Any]]) -> list[pa.Table]:
    """`table` of each; those whose columns have the same names and types are made as one and cut apart,
    since making a column takes longer than its values do."""
    alike: dict[Any, list[int]] = {}
    for i, named in enumerate(many):
        kinds = tuple((name, _type(values)) for name, values in named.items())
        uneven = len(set(map(len, named.values()))) > 1
        alike.setdefault((kinds, i if uneven else None), []).append(i)  # of one that is, Arrow says where
    found: dict[int, pa.Table] = {}
    for (kinds, _), members in alike.items():
        whole = _whole({name: _joined([many[i][name] for i in members]) for name, _ in kinds}, dict(kinds))
        begin = 0
        for i in members:
            length = len(next(iter(many[i].values()), ()))
            found[i] = whole.slice(begin, length) if len(members) > 1 else whole
            begin += length
    return [found[i] for i in range(len(many))]


def _type(values: Any) -> Any:
    """What decides what type of column `values` becomes."""
    if isinstance(values, np.ndarray):
        return values.dtype, values.shape[1:]
    if isinstance(values, pa.Array):
        return values.type
    kinds = frozenset(map(type, values))
    return _FLOAT if kinds == _FLOAT | {_NONE} else kinds


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return pa.concat_arrays(parts) if isinstance(parts[0], pa.Array) else list(chain.from_iterable(parts))


def _whole(named: Mapping[str, Any], kinds: Mapping[str, Any]) -> pa.Table:
    """Lists of numbers all at once, as most of a run's are."""
    found: dict[str, pa.Array] = {}
    for kind, dtype in ((_FLOAT, np.float64), (_INT, np.int64)):
        alike = [name for name, has in kinds.items() if has == kind]
        if len({len(named[name]) for name in alike}) == 1:  # else Arrow says which differ
            found |= zip(alike, _rows(np.array([named[name] for name in alike], dtype)), strict=True)
    return pa.table(
        {
            name: found[name] if name in found else _column(values, kinds[name])
            for name, values in named.items()
        }
    )


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
      values: [n], or [n, k] of numbers for a list of k in each row; one of Arrow's is taken as it is.
    """
    return _column(values, _type(values))


def _column(values: Any, kind: Any) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        if values.ndim == 2:
            return pa.FixedSizeListArray.from_arrays(column(values.reshape(-1)), values.shape[1])
        if values.dtype.kind in "biuf" and values.dtype.isnative:
            return _of(values, np.isnan(values) if values.dtype.kind == "f" else None)
    elif kind <= {_NONE}:
        return pa.nulls(len(values))
    elif kind == {str}:
        return texts(values)
    elif kind == _FLOAT:
        found = np.array(values, np.float64)  # where None is NaN
        return _of(found, np.isnan(found))
    elif kind == {bool}:
        return _of(np.array(values), None)
    elif kind <= {int, _NONE}:
        none = np.array([x is None for x in values]) if _NONE in kind else None
        return _of(np.array([0 if x is None else x for x in values], np.int64), none)
    return pa.array(values, from_pandas=True)


def repeated(names: Sequence[str], of: np.ndarray) -> pa.StringArray:
    """A column of text that has few values: names[of[i]], of: i[n]."""
    return texts(names).take(_of(of, None))


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
