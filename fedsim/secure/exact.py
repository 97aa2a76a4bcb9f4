"""A protocol run for real among simulated clients: keys, shares, sealed messages, and every byte counted.

The messages' flow is the same for all three, in four rounds: advertise, share, mask, unmask. A client that
is lost in one sends nothing in it or later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedsim.config.secure import STEPS, LightSecAgg, SecureSum
from fedsim.secure import lightsecagg, pairwise
from fedsim.secure.attendance import Aborted, Attendance, terms
from fedsim.secure.cost import Traffic
from fedsim.secure.graphs import Graph
from fedsim.secure.wire import size


def aggregate(
    cfg: SecureSum,
    vectors: Mapping[int, np.ndarray],
    seen: Attendance,
    graph: Graph,
    length: int,
    rng: Callable[[int], np.random.Generator],
    count: Callable[[Traffic], object] = lambda traffic: None,
) -> np.ndarray:
    """The sum u64[length], below the modulus, of the vectors of those that were there to send theirs.

    Args:
      vectors: whole numbers below the modulus, of the clients (0 .. n - 1) that were.
      rng: client -> where its keys, seeds and masks come from.
      count: told the bytes of all clients together, however the round ends.

    Raises Aborted when too few are left in a round.
    """
    agreed = terms(cfg, graph.n)
    of: Any = lightsecagg if isinstance(cfg, LightSecAgg) else pairwise
    server = of.Server(cfg, agreed, graph, length)
    clients = {u: of.Client(cfg, agreed, u, length, vectors.get(u), rng(u)) for u in range(graph.n)}
    up = down = 0

    def sent(step: int, told: Mapping[int, Any] | None) -> dict[int, Any]:
        """What those that are there send, given what each was told."""
        nonlocal up
        there = [int(u) for u in np.flatnonzero(seen[step])]
        act = STEPS[step]
        came = {
            u: getattr(clients[u], act)() if told is None else getattr(clients[u], act)(told[u])
            for u in there
        }
        up += sum(map(size, came.values()))
        if len(came) < agreed.threshold:
            raise Aborted(act, len(came), agreed.threshold)
        return came

    try:
        told = None
        for step, tell in enumerate((server.tell_keys, server.tell_shares, server.tell_survivors)):
            told = tell(sent(step, told))
            down += sum(map(size, told.values()))
        total = server.total(sent(3, told))
        if isinstance(total, int):
            raise Aborted(STEPS[-1], total, agreed.shares)
        return np.asarray(total)
    finally:
        count(Traffic(up, down))
