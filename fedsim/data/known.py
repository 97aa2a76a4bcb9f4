"""Files that are no part of fedsim, and whose contents are known: checked, then read as a table."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fedsim.base import RequestError, require
from fedsim.data.onehot import block_names, one_hot

MISSING = ["", "NA", "?"]
RARE = 50  # a level of fewer rows, standardised, would be a column of few large values


def read(source: str, path: str, name: str, sha256: str, whence: str) -> pa.Table:
    """`name`, or `name.gz`, in the folder `path`, as a table.

    Args:
      source: `data=...`, for errors. sha256: of the file, unpacked. whence: where the file is found.

    Raises:
      RequestError: no folder or file, or contents with another hash.
    """
    folder = Path(path)
    require(folder.is_dir(), f"data.path: no folder {path!r}; data={source} needs one with {name} ({whence})")
    plain, packed = folder / name, folder / f"{name}.gz"
    require(
        plain.is_file() or packed.is_file(),
        f"data.path: no file {name} or {name}.gz in {folder}; data={source} needs it ({whence})",
    )
    try:
        content = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"data.path: {name} in {folder} cannot be read: {error}") from None
    found = hashlib.sha256(content).hexdigest()
    require(
        found == sha256,
        f"data.path: {name} in {folder} has SHA-256 {found}, unpacked, and the published one has {sha256}; "
        f"get it again ({whence}), or read a table of your own with data=table",
    )
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        convert_options=pyarrow.csv.ConvertOptions(null_values=MISSING, strings_can_be_null=True),
    )


def numbers(frame: pa.Table, column: str) -> np.ndarray:
    """float64[N], NaN where missing."""
    return pc.fill_null(frame[column].cast(pa.float64()), float("nan")).to_numpy()


def words(frame: pa.Table, column: str, missing: str = "unknown") -> np.ndarray:
    """text[N], `missing` where there is none."""
    coded = pa.concat_arrays(frame[column].cast(pa.string()).chunks).dictionary_encode()
    levels = np.array([*coded.dictionary.to_pylist(), missing], dtype=np.str_)
    return levels[pc.fill_null(coded.indices, len(levels) - 1).to_numpy()]


def grouped(values: np.ndarray, groups: dict[str, tuple[str, ...]], otherwise: str) -> np.ndarray:
    """text[N]: the group that lists each value, or `otherwise`."""
    of = {value: group for group, members in groups.items() for value in members}
    levels, codes = np.unique(values, return_inverse=True)
    return np.array([of.get(str(level), otherwise) for level in levels], dtype=np.str_)[codes]


class Features:
    """Columns of x under their names, in the order in which they are added."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._blocks: list[np.ndarray] = []

    def number(self, name: str, values: np.ndarray) -> None:
        """A column as it is: NaN where missing. One without two different values is left out."""
        if len(np.unique(values[~np.isnan(values)])) > 1:
            self.names.append(name)
            self._blocks.append(values[:, None].astype(np.float32))

    def levels(self, name: str, values: np.ndarray, reference: str) -> None:
        """One-hot columns of the words of at least `RARE` rows; `reference` and the others are all zero."""
        words, at, counts = np.unique(values, return_inverse=True, return_counts=True)
        kept = (words != reference) & (counts >= RARE)
        if not kept.any():
            return
        found = [reference, *words[kept].tolist()]
        codes = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[at]
        self.names += block_names(name, found)
        self._blocks.append(one_hot(codes, len(found)))

    @property
    def x(self) -> np.ndarray:
        """float32[N, F]."""
        return np.concatenate(self._blocks, axis=1)


def merged(owner: np.ndarray, least: int) -> np.ndarray:
    """text[N]: clients with fewer than `least` rows are one, called `other`."""
    names, codes, counts = np.unique(owner, return_inverse=True, return_counts=True)
    return np.where(counts < least, "other", names)[codes]
