"""How many rows an attacker got right: decoded to values that a column can take, and matched to true rows.

A row counts as reconstructed where all of its values are right. Against it stand two who have seen no
message: `mode`, who says every column's most frequent value, and `random row`, who says other people's rows.

NumPy and SciPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

Floats = np.ndarray


class Right(NamedTuple):
    """rows: of the true rows, those that came out whole; values: share of all values that did."""

    rows: int
    values: float


def levels(x: Floats) -> list[Floats]:
    """The values of every column of rows x [n, F], rising."""
    return [np.unique(column) for column in x.T]


def decode(x: Floats, known: Sequence[Floats]) -> Floats:
    """Rows [n, F] with every value replaced by the nearest one that its column can take."""
    out = np.empty_like(x)
    for f, values in enumerate(known):
        at = np.clip(np.searchsorted(values, x[:, f]), 1, max(len(values) - 1, 1))
        below, above = values[at - 1], values[np.minimum(at, len(values) - 1)]
        out[:, f] = np.where(x[:, f] - below <= above - x[:, f], below, above)
    return out


def right(true: Floats, guessed: Floats) -> Right:
    """Guesses [m, F] matched to true rows [n, F] so that most values are right; each serves one row."""
    if len(guessed) == 0:
        return Right(0, 0.0)
    equal = true[:, None] == guessed[None]
    # A whole row counts for more than any number of single values.
    gain = equal.sum(axis=2) + true.shape[1] * len(true) * equal.all(axis=2)
    i, j = linear_sum_assignment(gain, maximize=True)
    return Right(int(equal[i, j].all(axis=1).sum()), float(equal[i, j].sum() / true.size))


def mode(x: Floats) -> Floats:
    """The most frequent value of every column [F]."""
    found = [np.unique(column, return_counts=True) for column in x.T]
    return np.array([values[np.argmax(counts)] for values, counts in found], x.dtype)
