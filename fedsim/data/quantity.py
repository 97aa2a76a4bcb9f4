"""Quantities in a column, and their units."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fedsim.base import RequestError

# A number and its unit. One letter without a space is none: stages are written 3a and 3b.
_QUANTITY = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:\s+([^\W\d_]\S*)|([^\W\d_]\S+)|\s*(%))")


def parses(word: str) -> bool:
    """Whether text is a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def require_one_unit(codes: np.ndarray, words: Sequence[str], column: str) -> None:
    """Refuse a column of quantities, some with a unit and some without, or more than 20 of several units:
    taken for categories, their size would be lost.

    Raises:
      RequestError: such a column, with the first two rows that differ.
    """
    found = [_QUANTITY.fullmatch(word) for word in words]
    unit = ["" if m is None else (m[1] or m[2] or m[3]).casefold() for m in found]
    sized = np.array([m is not None or parses(w) for m, w in zip(found, words, strict=True)], dtype=bool)
    kinds = {u for u, known in zip(unit, sized, strict=True) if known}
    rows = np.flatnonzero(np.append(sized, False)[codes])
    if len(kinds) < 2 or 2 * len(rows) <= (codes >= 0).sum() or not ("" in kinds or sized.sum() > 20):
        return
    first = int(rows[0])
    other = next(int(r) for r in rows if unit[codes[r]] != unit[codes[first]])
    raise RequestError(
        f"data: column {column!r} mixes units: {words[codes[first]]!r} in row {first + 1}, "
        f"{words[codes[other]]!r} in row {other + 1}; write numbers of one unit without its name, or name "
        "the column in data.categorical if these are categories"
    )
