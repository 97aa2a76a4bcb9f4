"""What noise that is correlated between rounds protects: how often a client comes, and how far that moves it.

With strategy C a whole run releases C X + Z, X being the clients' clipped messages round by round and Z
independent noise; what is made of it, such as models, is made afterwards. A client that comes in the rounds
of u moves that by at most the clip norm times |C u|: C has no entry below 0, so it is furthest where all its
messages point the same way, and missing a turn takes it no further.
"""

from __future__ import annotations

import numpy as np

from fedsim.accounting.events import (
    Composition,
    Gaussian,
    Matrix,
    PoissonGaussian,
    blt_coefficients,
    toeplitz_sensitivity,
)
from fedsim.base import Refusal
from fedsim.config import All, BandedPrivacy, BltPrivacy, Correlated, TreePrivacy
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
        f"world={world.name} may ask a client in any round, and noise that is correlated between rounds then "
        "has no account but that of clients who always come",
        "set world=blocks, all, fixed, or cyclic with world.order=fixed, or independent noise, "
        "privacy=gaussian",
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


def composition(privacy: Correlated, world: WorldConfig, population: int, rounds: int) -> Composition:
    """What `rounds` rounds release, the strategy being known (`fedsim.privacy.prepared`).

    Raises Refusal for worlds and relations without an account, and for a strategy that is not known.
    """
    apart, noise = period(world, population), privacy.noise()
    turns = -(-rounds // apart)
    if not isinstance(world, All) and privacy.relation == "add_or_remove_one":
        raise Refusal(
            f"world={world.name} gives clients turns by their places, which move when one comes or goes",
            "set privacy.relation=replace_special",
        )
    if isinstance(privacy, BandedPrivacy) and privacy.bands <= apart:
        # The columns of C that one client is in share no row: its turns are as good as independent.
        if isinstance(world, Blocks) and world.rate < 1:
            return [(PoissonGaussian(noise_multiplier=noise, rate=world.rate), turns)]
        return [(Gaussian(noise_multiplier=noise), turns)]
    sensitivity = strategy_sensitivity(privacy, turns, apart, rounds)
    return [(Matrix(noise_multiplier=noise, sensitivity=sensitivity), 1)]


def strategy_sensitivity(privacy: Correlated, turns: int, apart: int, rounds: int) -> float:
    """|C u| at most, C being cut to the rounds there were."""
    if isinstance(privacy, TreePrivacy):
        return tree_sensitivity(rounds, apart, privacy.restart)
    assert isinstance(privacy, BandedPrivacy | BltPrivacy)
    if not (privacy.coefficients if isinstance(privacy, BandedPrivacy) else privacy.decay and privacy.rounds):
        raise Refusal(
            f"the strategy of privacy={privacy.name} is not known before it is optimised for a run",
            "give one, with the rounds it is made for, or run the experiment",
        )
    if isinstance(privacy, BandedPrivacy):
        whole = np.array(privacy.coefficients)
    else:
        whole = blt_coefficients(privacy.decay, privacy.scale, privacy.rounds)
    column = np.concatenate([whole / np.linalg.norm(whole), np.zeros(rounds)])[:rounds]
    return toeplitz_sensitivity(column, turns, apart)
