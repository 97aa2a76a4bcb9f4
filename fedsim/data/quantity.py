"""Quantities in a column, and their units."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedsim.base import RequestError

# A number and its unit. One letter without a space is none: stages are written 3a and 3b.
_QUANTITY = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:\s+([^\W\d_]\S*)|([^\W\d_]\S+)|\s*(%))")
FEWEST = 10  # values, and different ones, of a unit
EMPTY = 3.0
APART = 5.0


class TwoSizes(NamedTuple):
    """Values below a gap, their median, those above it, their median, and the gap's two ends."""

    below: int
    low: float
    above: int
    high: float
    gap: tuple[float, float]


def two_sizes(values: np.ndarray) -> TwoSizes | None:
    """Whether positive numbers lie in two heaps, as those of one quantity in two units do (creatinine in
    umol/L is 88.4 times that in mg/dL, haemoglobin in g/L ten times that in g/dL); NaN is missing.

    Either side has a twentieth of the values at least, and `FEWEST`, as many of them different, so that
    neither codes nor single outliers are taken for a unit. There are two where the widest gap (of logarithms)
    that leaves so many is a factor of `EMPTY`, and not narrower than the middle nine tenths of either side,
    and the medians of both differ by `APART`. Units a smaller factor apart, or of a quantity that varies by
    more than their factor, overlap, and are not found.
    """
    known = values[~np.isnan(values)].astype(np.float64)
    if len(known) < 2 * FEWEST or known.min() <= 0:
        return None
    ends = round(0.05 * (len(known) - 1))
    tails = np.partition(known, (ends, len(known) - 1 - ends))
    if tails[-1 - ends] < EMPTY * tails[ends]:  # cheaply: most columns
        return None
    logs = np.log(np.sort(known))
    least = max(FEWEST, math.ceil(0.05 * len(logs)))
    at = least + int(np.argmax(np.diff(logs)[least - 1 : len(logs) - least]))
    sides, gap = (logs[:at], logs[at:]), logs[at] - logs[at - 1]
    low, high = (float(np.median(side)) for side in sides)
    if gap < math.log(EMPTY) or high - low < math.log(APART):
        return None
    for side in sides:
        if len(np.unique(side)) < FEWEST or np.quantile(side, 0.95) - np.quantile(side, 0.05) > gap:
            return None
    between = math.exp(logs[at - 1]), math.exp(logs[at])
    return TwoSizes(at, math.exp(low), len(logs) - at, math.exp(high), between)


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
