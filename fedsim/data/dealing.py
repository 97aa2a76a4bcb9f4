"""Dealing rows, or patients with all their rows, to training, validation and test. NumPy only."""

from __future__ import annotations

import numpy as np

TRAIN, VALID, TEST = 0, 1, 2


class Units:
    """What is dealt: rows, or patients with all their rows.

    person: int32[N], whose each row is, or None: every row is a unit. client, label: int64[U], of each unit.
    """

    def __init__(self, client: np.ndarray, y: np.ndarray, person: np.ndarray | None) -> None:
        self.client, self.label, self.person = client, strata(y), person
        if person is not None:
            _, first, self._unit = np.unique(person, return_index=True, return_inverse=True)
            self.client = client[first]
            self.label = self.gather(self.label)

    def gather(self, values: np.ndarray) -> np.ndarray:
        """[U]: the largest value among each unit's rows; rows that are tested have the largest part."""
        if self.person is None:
            return values
        found = np.full(len(self.client), -1, values.dtype)
        np.maximum.at(found, self._unit, values)
        return found

    def spread(self, values: np.ndarray) -> np.ndarray:
        """[N]: each row has its unit's value."""
        return values if self.person is None else values[self._unit]


def share_of(sizes: np.ndarray, share: float, available: np.ndarray) -> np.ndarray:
    """int64[K]: `share` of `sizes`, to the nearest row, leaving one of the `available`."""
    wanted = np.floor(share * sizes + 0.5).astype(np.int64)
    return np.minimum(wanted, np.maximum(available.astype(np.int64) - 1, 0))


def strata(labels: np.ndarray) -> np.ndarray:
    """int64[N] >= 0: classes are strata, a quantity has one."""
    if labels.dtype.kind == "f":
        return np.zeros(len(labels), dtype=np.int64)
    return labels.astype(np.int64)


def _shuffled(
    client: np.ndarray, label: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Order by client, then label, random inside; and the (client, label) key in that order."""
    key = client.astype(np.int64) * (label.max(initial=0) + 1) + label
    shuffled = rng.permutation(len(key))
    order = shuffled[np.argsort(key[shuffled], kind="stable")]
    return order, key[order]


def deal_folds(
    client: np.ndarray, label: np.ndarray, base: np.ndarray, folds: int, rng: np.random.Generator
) -> np.ndarray:
    """int64[N]: the fold that tests each row, or -1 (external).

    Folds are dealt round the table through (client, label) in order, so that any run of rows,
    and so every label of every client, is spread over as many folds as it can be.
    """
    rows = np.flatnonzero(base == TRAIN)
    order, _ = _shuffled(client[rows], label[rows], rng)
    fold = np.full(len(client), -1, dtype=np.int64)
    fold[rows[order]] = (np.arange(len(rows), dtype=np.int64) + rng.integers(folds)) % folds
    return fold


def move(
    part: np.ndarray,
    client: np.ndarray,
    label: np.ndarray,
    totals: np.ndarray,
    to: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A copy of `part` in which totals[k] training rows of client k, stratified by label, are in `to`."""
    if not totals.any():
        return part
    rows = np.flatnonzero(part == TRAIN)
    order, key = _shuffled(client[rows], label[rows], rng)
    first = np.flatnonzero(np.diff(key, prepend=-1))
    counts = np.diff(first, append=len(key))
    owner = client[rows[order[first]]].astype(np.int64)
    taken = _allot(counts, owner, totals, rng)
    rank = np.arange(len(key), dtype=np.int64) - np.repeat(first, counts)
    moved = part.copy()
    moved[rows[order[rank < np.repeat(taken, counts)]]] = to
    return moved


def _allot(counts: np.ndarray, owner: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64[S]: how many of counts[s] rows of stratum s to take, totals[owner[s]] in all per client.

    Largest remainder, in whole numbers; a stratum of one row comes last, ties are broken at random.
    """
    sizes = np.bincount(owner, counts, minlength=len(totals)).astype(np.int64)
    taken, remainder = np.divmod(counts * totals[owner], sizes[owner])
    short = totals - np.bincount(owner, taken, minlength=len(totals)).astype(np.int64)
    order = np.lexsort((rng.random(len(counts)), -remainder, counts == 1, owner))
    sorted_owner = owner[order]
    rank = np.arange(len(order), dtype=np.int64) - np.searchsorted(sorted_owner, sorted_owner)
    taken[order] += rank < short[sorted_owner]
    return taken
