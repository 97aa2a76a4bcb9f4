"""What noise that is correlated between rounds protects: how often a client comes, and how far that moves it.

With strategy C a whole run releases C X + Z, X being the clients' clipped messages round by round and Z
independent noise; what is made of it, such as models, is made afterwards. A client that comes in the rounds
of u moves that by at most the clip norm times |C u|: C has no entry below 0, so it is furthest where all its
messages point the same way, and missing a turn takes it no further.
"""

from __future__ import annotations

import numpy as np

from fedsim.accounting.events import Refusal
from fedsim.config import All
from fedsim.config.world import Blocks, Cyclic, Fixed, WorldConfig


def period(world: WorldConfig, population: int) -> int:
    """Rounds from one of a client's turns to the next, the same for all, though it may miss some.

    Raises Refusal in worlds that may ask a client in any round.
    """
    match world:
        case All() | Fixed():
            return 1
        case Blocks():
            return world.blocks
        case Cyclic(order="fixed"):
            return population
    raise Refusal(
        f"world={world.name} may ask a client in any round, and noise that is correlated between rounds then has "
        "no account but that of clients who always come",
        "set world=blocks, all, fixed, or cyclic with world.order=fixed, or independent noise, privacy=gaussian",
    )


def tree_sensitivity(rounds: int, period: int, restart: int = 0) -> float:
    """|C u| of the tree's nodes that end by `rounds`, at most, for a client that comes every `period` rounds.

    Kairouz et al. (ICML 2021) bound it for clients that come once, and for restarts; here it is counted. The
    nodes of a sum are left children, or the root: of those at level l, those whose place is odd, from 1.
    """
    length = restart or rounds
    most = 0.0
    for first in range(min(period, rounds)):
        turns = np.zeros(rounds + 1, np.int64)
        turns[1 + first :: period] = 1
        came = np.cumsum(turns)
        total = 0
        for begin in range(0, rounds, length):
            size, end = 1, min(length, rounds - begin)
            while size <= end:
                ends = begin + np.arange(size, end + 1, 2 * size)
                total += int(((came[ends] - came[ends - size]) ** 2).sum())
                size *= 2
        most = max(most, total**0.5)
    return most
