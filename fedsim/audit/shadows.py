"""The rows of shadow models: each client's training and test rows, dealt anew. NumPy only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedsim.base import require
from fedsim.data.partition import Partition
from fedsim.data.rng import generator


def redrawn(part: Partition, seed: int, number: int) -> Partition:
    """The partition of shadow model `number`: as many training and test rows at every client, other ones.

    Raises RequestError for rows that have an order in time, or are not in memory.
    """
    require(
        part.rows is not None and part.time is None,
        "audit=membership draws training rows anew, so they must be in memory and have no order in time; set "
        "data.mode=resident, and no drift",
    )
    assert part.rows is not None
    counts = np.stack([part.train, part.valid, part.test], axis=1).astype(np.int64)
    counts[sorted(part.external | part.late)] = 0
    owner = np.repeat(np.arange(part.clients), np.diff(part.offsets))
    position = np.arange(len(owner)) - part.offsets[:-1][owner]
    train, valid, test = (counts[owner, i] for i in range(3))
    dealt = (position < train) | ((position >= train + valid) & (position < train + valid + test))
    places = np.flatnonzero(dealt)
    drawn = generator(seed, "audit", "shadow", number).random(len(places))
    # Into the same places, client by client.
    order = places[np.lexsort((drawn, owner[places]))]
    rows = part.rows.copy()
    rows[places] = part.rows[order]
    return replace(part, rows=rows)


def pool(part: Partition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row ids, client of each, whether it trains), of the training and test rows of those that train."""
    train, client = part.part("federated")
    test, owner = part.part("test")
    mine = ~np.isin(owner, sorted(part.external | part.late)) & (part.train[owner] > 0)
    rows = np.concatenate([train, test[mine]]).astype(np.int64)
    member = np.arange(len(rows)) < len(train)
    return rows, np.concatenate([client, owner[mine]]), member
