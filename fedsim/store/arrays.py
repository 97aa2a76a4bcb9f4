"""Named arrays as one safetensors file.

Written and read here and not by the safetensors package, whose NumPy side copies everything once
more, stores a transposed array in the wrong order, writes through a file of its own naming, and
does not know every dtype. The files are the format's own, and the package reads them.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
NAMES = {code: name for name, code in CODES.items()}


def sha256(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of sorted names, dtypes, shapes and bytes: equal for equal bits, in whatever file they lie."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        value = _little(arrays[name])
        total.update(_described(name, value.dtype, value.shape))
        total.update(_bytes(value))
    return total.hexdigest()


@functools.lru_cache(4096)  # a sweep's runs have the same ones, which may be many and small
def _described(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return json.dumps([name, dtype.name, shape]).encode()


@functools.cache
def _code(dtype: np.dtype) -> str:
    return CODES[dtype.name]


def write(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], *, sync: bool = False
) -> None:
    """Write one file; `sync` returns only when it is on the disk.

    Raises:
      OSError: it could not be written; what was written so far stays at `path`.
      KeyError: a dtype that safetensors does not have.
    """
    values = {name: _little(value) for name, value in arrays.items()}
    order, said = _laid_out(tuple((name, value.dtype, value.shape) for name, value in values.items()))
    about = json.dumps({"__metadata__": dict(metadata)}, separators=(",", ":"))
    text = f"{about[:-1]}{said}}}".encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(_bytes(values[name]))
        if sync:
            file.flush()
            os.fsync(file.fileno())


@functools.lru_cache(256)  # as above
def _laid_out(arrays: tuple[tuple[str, np.dtype, tuple[int, ...]], ...]) -> tuple[list[str], str]:
    """The order of arrays in a file, and what its header says of them, each with a comma in front."""
    # Wide types first, so that every array is aligned when the file is read in one piece.
    order = sorted(arrays, key=lambda array: (-array[1].itemsize, array[0]))
    begin, said = 0, []
    for name, dtype, shape in order:
        end = begin + math.prod(shape) * dtype.itemsize
        about = {"dtype": _code(dtype), "shape": shape, "data_offsets": [begin, end]}
        said.append(f",{json.dumps(name)}:{json.dumps(about, separators=(',', ':'))}")
        begin = end
    return [name for name, _, _ in order], "".join(said)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays, writable and in the file's order, and metadata.

    Raises:
      OSError: the file could not be read.
      ValueError: it is not a whole safetensors file.
    """
    with open(path, "rb") as file:
        data = bytearray(os.fstat(file.fileno()).st_size)
        length = file.readinto(data)
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        if length != len(data) or start > length:
            raise ValueError("cut short")
        header = json.loads(data[8:start])
        metadata = header.pop("__metadata__", {})
        arrays = {name: _view(data, start, **entry) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a whole safetensors file: {error}") from error
    return arrays, metadata


def _view(data: bytearray, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    begin, end = data_offsets
    kind = _dtype(NAMES[dtype])
    if not 0 <= begin <= end <= len(data) - start:
        raise ValueError("cut short")
    return np.frombuffer(data, kind, (end - begin) // kind.itemsize, start + begin).reshape(shape)


def _dtype(name: str) -> np.dtype:
    if name.startswith(("bfloat", "float8")):
        import ml_dtypes  # comes with JAX; NumPy alone has no such types

        return np.dtype(getattr(ml_dtypes, name))
    return np.dtype(name)


def _little(value: np.ndarray) -> np.ndarray:
    """`value` in C order and little endian, as the format wants it."""
    value = np.asarray(value, order="C")
    return value.astype(value.dtype.newbyteorder("<")) if value.dtype.byteorder == ">" else value


def _bytes(value: np.ndarray) -> memoryview:
    return value.reshape(-1).view(np.uint8).data
