"""Imputation and standardisation constants, fitted on training rows only; exact ones (with noise:
`private_moments`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedsim.base import require
from fedsim.config import Preprocess
from fedsim.data.federation import MadeFeatures
from fedsim.data.partition import Partition

CHUNK_VALUES = 1 << 22  # values converted to float64 at a time
Features = np.ndarray | MadeFeatures
_AS_THEY_ARE = ("none", "keep")
RESOLUTION = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Constants:
    """A row x of client k enters a model as (where(isnan(x), impute[i], x) - shift[i]) * scale[i],
    i = of_client[k].

    impute, shift, scale: float32[n, *features], n = 1 if clients share them; of_client: int32[K].
    """

    impute: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    of_client: np.ndarray


def fit(x: Features, partition: Partition, cfg: Preprocess) -> Constants | None:
    """Constants for one partition; None if nothing is to be done.

    shift and 1 / scale are mean and standard deviation after imputation (divisor: number of rows), or, where
    nothing is imputed, with the mean for what is missing (mean: of what is there);
    scale is 1 where a feature does not vary, and a feature that no training row has becomes 0.

    *federated*: every client sends counts, sums and sums of squared deviations; added up in float64
    they are the pooled constants. A median takes 33 rounds of counts of values below a threshold,
    and is exact too. *client*: each client's own; a feature that all its rows lack
    takes the federated constants. A client without training rows (external, or left out) uses all
    its rows, never their labels. *pooled*: as if all training rows lay in one place.
    Rows of clients that join late have no part in what clients share.

    Args:
      x: [N, *features], float32 with NaN = missing, or uint8; where rows are generated they are made some at
        a time, twice, and none is kept.

    Raises:
      RequestError: a median is asked for, and rows are generated.
    """
    # Only float features can be missing.
    impute = cfg.impute not in _AS_THEY_ARE and x.dtype != np.uint8
    if not (impute or cfg.standardise):
        return None
    require(
        cfg.impute != "median" or not isinstance(x, MadeFeatures),
        "data.preprocess.impute=median needs all rows at once, and data.mode=generated keeps none; use "
        "data.preprocess.impute=mean or zero, or data.mode=resident",
    )
    rows, owner = partition.part("federated")
    clients = partition.clients
    together = np.zeros(clients, dtype=np.int32)
    if cfg.scope == "pooled":
        return constants_of(_moments(x, rows, together[owner], 1, cfg.impute), cfg, together)
    if cfg.scope == "federated":
        return constants_of(_moments(x, rows, owner, clients, cfg.impute, add_up=True), cfg, together)

    shared = _moments(x, rows, owner, clients, cfg.impute, add_up=True)
    own = _moments(x, *_own_rows(partition), clients, cfg.impute)
    unseen = own.seen == 0
    mixed = Moments(*(np.where(unseen, theirs, mine) for mine, theirs in zip(own, shared, strict=True)))
    return constants_of(mixed, cfg, np.arange(clients, dtype=np.int32))


class Moments(NamedTuple):
    """What imputation fills in, mean and standard deviation after it, and the number of values
    that are not missing: float64[n, *features] each."""

    fill: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    seen: np.ndarray


def _own_rows(partition: Partition) -> tuple[np.ndarray, np.ndarray]:
    """(rows, client of each) that a client's own constants come from, clients in order."""
    found = [partition.part("train")]
    idle = partition.train == 0
    for rows, owner in (partition.part("valid"), partition.part("test")):
        found.append((rows[idle[owner]], owner[idle[owner]]))
    rows, owner = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    order = np.argsort(owner, kind="stable")
    return rows[order], owner[order]


def _moments(
    x: Features, rows: np.ndarray, group: np.ndarray, groups: int, impute: str, add_up: bool = False
) -> Moments:
    """Moments of each group's rows (`group` rises), or of all rows from sums that groups send."""

    def send(sums: np.ndarray) -> np.ndarray:
        return sums.sum(axis=0, keepdims=True) if add_up else sums

    seen, total, count = map(send, _sums(x, rows, group, groups))
    fill = np.zeros_like(total)
    if impute == "mean":
        fill = total / np.maximum(seen, 1)
    elif impute == "median":
        # Of all rows it is what bisection by the groups' counts ends at, which has one zero.
        fill = _medians(x, rows, 0 * group, 1) + 0.0 if add_up else _medians(x, rows, group, groups)
    over = np.maximum(seen if impute in _AS_THEY_ARE else count, 1)
    mean = (total if impute in _AS_THEY_ARE else total + (count - seen) * fill) / over
    # Nothing is missing where nothing is imputed, up to values that then count as the mean.
    filler = mean if impute in _AS_THEY_ARE else fill
    squares = send(_squares(x, rows, group, groups, filler, mean))
    return Moments(fill, mean, np.sqrt(squares / over), seen)


def _sums(x: Features, rows: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, ...]:
    """(values that are not missing, their sum, rows) of each group, float64[groups, *features]."""
    seen = np.zeros((groups, *x.shape[1:]), dtype=np.float64)
    total, count = np.zeros_like(seen), np.zeros_like(seen)
    for piece, of, head in _pieces(x, rows, group):
        present = ~np.isnan(piece)
        seen[of] += np.add.reduceat(present, head, axis=0, dtype=np.float64)
        total[of] += np.add.reduceat(np.where(present, piece, 0.0), head, axis=0)
        count[of] += np.diff(head, append=len(piece)).reshape(-1, *(1,) * (x.ndim - 1))
    return seen, total, count


def _squares(
    x: Features, rows: np.ndarray, group: np.ndarray, groups: int, fill: np.ndarray, mean: np.ndarray
) -> np.ndarray:
    """Sum of squared deviations from `mean` after imputation, of each group."""
    found = np.zeros((groups, *x.shape[1:]), dtype=np.float64)
    for piece, of, head in _pieces(x, rows, group):
        of_row = np.repeat(of if len(mean) > 1 else np.zeros_like(of), np.diff(head, append=len(piece)))
        filled = np.where(np.isnan(piece), fill[of_row], piece)
        found[of] += np.add.reduceat((filled - mean[of_row]) ** 2, head, axis=0)
    return found


def _pieces(
    x: Features, rows: np.ndarray, group: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (float64 rows, groups met, where each begins) for some rows at a time."""
    step = max(1, CHUNK_VALUES // max(1, int(np.prod(x.shape[1:]))))
    for start in range(0, len(rows), step):
        of = group[start : start + step]
        head = np.flatnonzero(np.diff(of, prepend=-1))
        yield x[rows[start : start + step]].astype(np.float64), of[head], head


def _medians(x: Features, rows: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Median of what is not missing, of each group; 0 where all is."""
    found = np.zeros((groups, *x.shape[1:]), dtype=np.float64)
    ends = np.searchsorted(group, np.arange(groups + 1))
    for g in np.flatnonzero(np.diff(ends)):
        values = np.sort(x[rows[ends[g] : ends[g + 1]]].astype(np.float64), axis=0)  # NaN last
        seen = (~np.isnan(values)).sum(axis=0, keepdims=True)
        low, high = np.maximum(seen - 1, 0) // 2, np.minimum(seen // 2, len(values) - 1)
        middle = np.take_along_axis(values, low, 0) + np.take_along_axis(values, high, 0)
        found[g] = np.where(seen > 0, middle / 2, 0.0)[0]
    return found


def constants_of(moments: Moments, cfg: Preprocess, of_client: np.ndarray) -> Constants:
    shift, scale = np.zeros_like(moments.mean), np.ones_like(moments.mean)
    if cfg.standardise:
        # A deviation below float32's resolution of the mean is rounding, not variation.
        flat = moments.deviation <= RESOLUTION * np.abs(moments.mean)
        shift, scale = moments.mean, 1.0 / np.where(flat, 1.0, moments.deviation)
    fill = np.full_like(moments.fill, np.nan) if cfg.impute == "keep" else moments.fill
    return Constants(
        impute=fill.astype(np.float32),
        shift=shift.astype(np.float32),
        scale=scale.astype(np.float32),
        of_client=of_client,
    )
