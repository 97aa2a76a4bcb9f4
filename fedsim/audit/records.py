"""Canary records: training rows that are left out by a coin, and may carry a wrong label.

Source: Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, Alg. 1 and
section 6 (black box: an example's score is its loss in the end).

NumPy only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fedsim.base import require
from fedsim.config.audit import CanaryRecords
from fedsim.data.federation import Federation
from fedsim.data.partition import Partition
from fedsim.data.rng import generator


class Planted(NamedTuple):
    """A federation with canaries in it. canaries: row ids i64[m]; included: bool[m]."""

    federation: Federation
    partition: Partition
    canaries: np.ndarray
    included: np.ndarray


def plant(federation: Federation, part: Partition, cfg: CanaryRecords, seed: int) -> Planted:
    """Draw canaries among the training rows; those that are left out lie behind their client's tested rows.

    Every client keeps a training row that is no canary. Raises RequestError where there are too few rows, or
    labels that are no classes.
    """
    require(
        federation.columns is not None and part.rows is not None and part.time is None,
        "audit=records plants rows in memory, without an order in time; set data.mode=resident, and no drift",
    )
    require(
        federation.classes >= 2 and federation.kind in ("binary", "multiclass"),
        f"audit=records needs labels that are classes, and these are of kind {federation.kind}",
    )
    assert federation.columns is not None and part.rows is not None
    rng = generator(seed, "audit", "records")
    counts = part.federated.astype(np.int64)
    client = np.repeat(np.arange(part.clients), counts)
    position = np.arange(len(client)) - np.repeat(np.cumsum(counts) - counts, counts)
    free = rng.permutation(np.flatnonzero(position < np.repeat(counts - 1, counts)))
    most = len(free) // 4
    require(
        cfg.canaries <= most,
        f"audit.canaries={cfg.canaries} is more than the {most} that are a quarter of the training rows "
        "there are; lower it, for a run of mostly canaries says nothing of others",
    )
    chosen = np.sort(free[: cfg.canaries])
    at = part.offsets[:-1][client[chosen]] + position[chosen]
    rows = part.rows[at].astype(np.int64)
    included = rng.random(cfg.canaries) < 0.5
    held = federation
    if cfg.labels == "wrong":
        y = federation.columns["y"].copy()
        y[rows] = (y[rows] + rng.integers(1, federation.classes, len(rows))) % federation.classes
        held = replace(
            federation, columns=federation.columns | {"y": y.astype(federation.columns["y"].dtype)}
        )
    out = np.zeros(len(part.rows), bool)
    out[at[~included]] = True
    owner = np.repeat(np.arange(part.clients), np.diff(part.offsets))
    order = np.lexsort((np.arange(len(out)), out, owner))
    gone = np.bincount(owner[out], minlength=part.clients).astype(np.int32)
    return Planted(held, replace(part, rows=part.rows[order], train=part.train - gone), rows, included)
