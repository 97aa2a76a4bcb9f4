"""NumPy's numbers as columns of Arrow, and back. pyarrow's own ways there and back import pandas, which takes
half a second, as long as all else that a command imports."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


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
