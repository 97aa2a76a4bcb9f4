"""Imputation and standardisation constants from sums with noise, fitted on training rows only.

Every unit (record, patient or client) contributes one vector: the number of its rows and, of every feature,
how many values it has, their sum and the sum of their squares, values being clipped to a public range and
put on [-1, 1]. The vector is clipped whole to the most that one row can come to, so that a unit that comes
or goes moves the sums by that at most (in the 2-norm), and Gaussian noise is measured in it: one release of
the Gaussian mechanism (Dwork and Roth, "The Algorithmic Foundations of Differential Privacy", 2014, appendix
A). What follows is made of the noised sums alone. A unit of several rows that is clipped counts for less, and
in all of its sums alike, which moves weights and no unit of measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from fedsim.base import nearest, require
from fedsim.config import Preprocess
from fedsim.data.federation import Federation
from fedsim.data.partition import Partition
from fedsim.data.preprocess import CHUNK_VALUES, Constants, Moments, constants_of
from fedsim.data.rng import generator


class Protection(NamedTuple):
    """unit: whose presence the noise hides; where: who adds it, each region to its own sums or the server to
    the sum of all; seed: of the run."""

    unit: Literal["record", "patient", "client"]
    where: Literal["region", "server"]
    seed: int


class Statistics(NamedTuple):
    """What is summed: rows, and by feature the values there are (`seen`), themselves and their squares.

    features: numbers in a row; seen, squares: whether these are asked for; low, high: float64[features].
    """

    features: int
    seen: bool
    squares: bool
    low: np.ndarray
    high: np.ndarray

    @property
    def length(self) -> int:
        return 1 + self.features * (1 + self.seen + self.squares)

    @property
    def bound(self) -> float:
        """The most that a row's vector comes to in the 2-norm: none of its numbers exceeds 1."""
        return float(np.sqrt(self.length))

    def of_rows(self, x: np.ndarray) -> np.ndarray:
        """float64[n, length] of rows [n, features] in which NaN is missing."""
        present = ~np.isnan(x)
        middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        value = np.where(present, np.clip((x - middle) / half, -1.0, 1.0), 0.0)
        parts = [np.ones((len(x), 1), np.float64)]
        parts += [present.astype(np.float64)] if self.seen else []
        parts += [value, value**2] if self.squares else [value]
        return np.concatenate(parts, axis=1)


def fit(federation: Federation, partition: Partition, cfg: Preprocess, protection: Protection) -> Constants:
    """Constants for one partition, as `preprocess.fit` makes them but for noise and clipping.

    Noise depends on the run's seed, the fold, the region and how many of its rows train: models of a run that
    are fitted on other rows get noise of their own, those fitted on the same rows the same constants.

    Raises:
      RequestError: rows are generated, a feature has no range, or patients are not known.
    """
    require(
        federation.columns is not None,
        "data.preprocess needs the rows in memory; set data.mode=resident, or "
        "data.preprocess.impute=none and data.preprocess.standardise=false",
    )
    assert federation.columns is not None and cfg.noise_multiplier is not None
    x = federation.columns["x"]
    low, high = ranges(federation.features, int(np.prod(x.shape[1:])), cfg)
    what = Statistics(len(low), cfg.impute == "mean", cfg.standardise, low, high)
    rows, client = partition.part("federated")
    unit = _units(federation, rows, client, protection.unit)
    order = np.lexsort((unit, client))
    sums = _sums(x, (rows[order], client[order], unit[order]), partition.clients, what, cfg.impute == "zero")
    deviation = cfg.noise_multiplier * what.bound
    total, noises = sums.sum(axis=0), 1
    if protection.where == "server":
        total += deviation * _normals(protection, partition, "", len(rows), what.length)
    else:
        held = np.flatnonzero(partition.federated)
        noises = len(held)
        for k in held:
            mine = int(partition.federated[k])
            total += deviation * _normals(protection, partition, partition.names[int(k)], mine, what.length)
    moments = from_sums(total, what, deviation * np.sqrt(noises), cfg.impute == "zero")
    shaped = Moments(*(array.reshape(1, *x.shape[1:]) for array in moments))
    return constants_of(shaped, cfg, np.zeros(partition.clients, np.int32))


def ranges(features: Sequence[str], number: int, cfg: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """(least, greatest) value of every feature, float64[number]. Raises RequestError for one without."""
    for name in cfg.ranges:
        require(
            name in features, f"data.preprocess.ranges.{name} names no feature; {nearest(name, features)}"
        )
    found = []
    for name in features or [""] * number:
        limits = cfg.ranges.get(name, [0, 1] if "=" in name else cfg.range)
        require(
            limits is not None,
            "data.preprocess.noise_multiplier needs the public range of every feature, and "
            f"{name or 'features without names'} has none; set data.preprocess.ranges={{NAME: [LEAST, "
            "GREATEST]} or, for all others, data.preprocess.range=[LEAST,GREATEST]",
        )
        found.append(limits)
    low, high = np.array(found, np.float64).reshape(number, 2).T
    return low, high


def _units(federation: Federation, rows: np.ndarray, client: np.ndarray, unit: str) -> np.ndarray:
    """Whose each row is: int64[n], within its client."""
    if unit == "client":
        return np.zeros(len(rows), np.int64)
    if unit == "record":
        return np.arange(len(rows), dtype=np.int64)
    assert federation.columns is not None
    require(
        "patient" in federation.columns,
        "privacy.unit=patient needs to know whose each row is; use data=table with data.patient=COLUMN, or "
        "set privacy.unit=record",
    )
    return federation.columns["patient"][rows].astype(np.int64)


def _sums(
    x: np.ndarray,
    of: tuple[np.ndarray, np.ndarray, np.ndarray],
    clients: int,
    what: Statistics,
    fill_zero: bool,
) -> np.ndarray:
    """Sums of the clipped vectors of each client's units: float64[clients, length].

    of: (row, client, unit) of what is summed, a unit's rows side by side.
    """
    rows, client, unit = of
    found = np.zeros((clients, what.length), np.float64)
    for begin, end, head in _pieces(client, unit, max(1, CHUNK_VALUES // what.length)):
        piece = x[rows[begin:end]].astype(np.float64).reshape(end - begin, -1)
        piece = np.nan_to_num(piece, nan=0.0) if fill_zero else piece
        np.add.at(found, client[begin:end][head], clipped(np.add.reduceat(what.of_rows(piece), head), what))
    return found


def clipped(vectors: np.ndarray, what: Statistics) -> np.ndarray:
    """Each unit's vector, scaled down where it is longer than a row's can be."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: np.ndarray = vectors * np.minimum(1.0, what.bound / np.maximum(norms, 1.0))
    return scaled


def _pieces(client: np.ndarray, unit: np.ndarray, step: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (begin, end, where each unit begins in between) for about `step` rows at a time, whole units."""
    first = (np.diff(client, prepend=-1) != 0) | (np.diff(unit, prepend=-1) != 0)
    heads = np.append(np.flatnonzero(first), len(client))
    begin = 0
    while begin < len(client):
        end = int(heads[min(int(np.searchsorted(heads, begin + step)), len(heads) - 1)])
        yield begin, end, np.flatnonzero(first[begin:end])
        begin = end


def _normals(protection: Protection, partition: Partition, name: str, rows: int, size: int) -> np.ndarray:
    own = generator(protection.seed, "statistics", partition.fold, rows, name)
    return own.standard_normal(size, dtype=np.float64)


def from_sums(total: np.ndarray, what: Statistics, noise: float, fill_zero: bool) -> Moments:
    """What noised sums float64[length] say of every feature: float64[features] each.

    A feature of which there is no value, as far as one can see, is taken to have the middle of its range for
    mean and half of it for deviation. A variance is no less than the noise in it, so that a feature that does
    not vary is not blown up.

    Args:
      noise: standard deviation of the noise in each sum.
    """
    rows, rest = max(float(total[0]), 1.0), total[1:].reshape(-1, what.features)
    seen = rest[0] if what.seen else np.full(what.features, rows)
    known = seen >= max(1.0, noise)
    over = np.maximum(seen, 1.0)
    mean = np.where(known, np.clip(rest[int(what.seen)] / over, -1.0, 1.0), 0.0)
    variance = np.ones_like(mean)
    if what.squares:
        # Of those that are filled in with the mean, none deviates.
        spread = (rest[-1] / over - mean**2) * np.minimum(seen / rows, 1.0)
        variance = np.where(known, np.clip(spread, np.minimum(noise / over, 1.0), 1.0), 1.0)
    middle, half = (what.low + what.high) / 2, (what.high - what.low) / 2
    fill = np.zeros_like(mean) if fill_zero else middle + half * mean
    return Moments(fill, middle + half * mean, half * np.sqrt(variance), seen)
