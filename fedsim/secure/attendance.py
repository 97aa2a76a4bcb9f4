"""Who is there in each of a protocol's rounds, and whether that is enough: NumPy on the host.

The rules are the protocols' own, so what is said here of a round is what running it comes to; a test holds
the two together for every pattern of dropouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedsim.base import FedsimError, require
from fedsim.config.secure import STEPS, LightSecAgg, SecAggPlus, SecureConfig, SecureSum
from fedsim.data.rng import generator
from fedsim.secure.graphs import LOST, Complete, Graph, Members, neighbours, regular


class Aborted(FedsimError):
    """Too few clients were left in one of the protocol's rounds: nothing was released.

    step: which round; left, threshold: clients that were left, and that were needed.
    """

    def __init__(self, step: str, left: int, threshold: int) -> None:
        super().__init__(
            f"secure aggregation gave up: {left} clients were left in its round {step!r}, and {threshold} "
            "are needed; nothing was released"
        )
        self.step, self.left, self.threshold = step, left, threshold


class Terms(NamedTuple):
    """What a protocol among n clients agrees on.

    threshold: clients without whom a round is given up; shares: that recover a client's seed, or decode a
    mask; hidden: clients whose shares together tell nothing; degree: neighbours of each.
    """

    n: int
    threshold: int
    shares: int
    hidden: int
    degree: int


def terms(cfg: SecureSum, n: int) -> Terms:
    """Of a protocol that n clients begin."""
    threshold = cfg.threshold or 2 * n // 3 + 1
    if isinstance(cfg, SecAggPlus):
        threshold = cfg.threshold or int(np.ceil((1 - LOST) * n))
        degree = min(cfg.neighbours or neighbours(n), n - 1)
        # A circle joins each to as many on both sides.
        degree = degree if degree >= n - 1 else max(2, degree - degree % 2)
        shares = cfg.shares or degree // 2 + 1
        return Terms(n, max(threshold, 2), shares, shares - 1, degree)
    if isinstance(cfg, LightSecAgg):
        colluders = cfg.colluders or max(1, (n - 1) // 2)
        return Terms(n, max(threshold, 2), max(threshold, 2), colluders, n - 1)
    return Terms(n, max(threshold, 2), max(threshold, 2), max(threshold, 2) - 1, n - 1)


class Attendance(NamedTuple):
    """Of n clients, who sent their part in each of the protocol's rounds, each set within the one before."""

    advertised: Members
    shared: Members
    masked: Members
    unmasking: Members

    @classmethod
    def lost_in(cls, step: np.ndarray) -> Attendance:
        """step: i[n], the round in which each is lost, `len(STEPS)` for none."""
        return cls(*(step > i for i in range(len(STEPS))))


def attendance(
    cfg: SecureSum, seed: int, rnd: int, clients: np.ndarray, names: Sequence[str] = ()
) -> Attendance:
    """Of the `clients` (positions) that begin in round `rnd`; names: of clients by position, which
    `secure.drop` is looked up in."""
    step = np.full(len(clients), len(STEPS))
    if any(cfg.dropout):
        population = int(clients.max(initial=0)) + 1
        drawn = generator(seed, "secure", rnd).random((population, len(STEPS)))[clients]
        lost = drawn < np.array(cfg.dropout)
        step = np.where(lost.any(axis=1), lost.argmax(axis=1), step)
    for name, where in cfg.drop.items():
        mine = np.array([names[int(k)] == name for k in clients], bool)
        step[mine] = np.minimum(step[mine], STEPS.index(where))
    return Attendance.lost_in(step)


def graph(cfg: SecureSum, seed: int, rnd: int, n: int) -> Graph:
    """Who shares with whom in round `rnd`; the server draws it."""
    if not isinstance(cfg, SecAggPlus):
        return Complete(n)
    return regular(n, terms(cfg, n).degree, generator(seed, "neighbours", rnd))


def aborted(cfg: SecureSum, seen: Attendance, graph: Graph) -> Aborted | None:
    """Why nothing is released, if nothing is."""
    agreed = terms(cfg, graph.n)
    for step, there in zip(STEPS, seen, strict=True):
        if there.sum() < agreed.threshold:
            return Aborted(step, int(there.sum()), agreed.threshold)
    if isinstance(cfg, SecAggPlus):
        # Seeds of those whose masks are in the sum: their own, or that of one who was lost beside them.
        needed = seen.masked | (seen.shared & (graph.count(seen.masked) > 0))
        least = int(graph.count(seen.unmasking)[needed].min())
        if least < agreed.shares:
            return Aborted(STEPS[-1], least, agreed.shares)
    return None


def check(cfg: SecureConfig, expected: float, most: int) -> None:
    """Refuse what cannot work, or promises too little, for cohorts of `expected` clients on average and
    `most` at most."""
    if not isinstance(cfg, SecureSum):
        return
    require(
        expected >= 2,
        f"secure={cfg.name} sums messages of several clients, and {expected:.3g} take part in a round; take "
        "a larger cohort, or set secure=none",
    )
    agreed = terms(cfg, most)
    require(
        agreed.threshold <= expected + 1e-6,
        f"secure.threshold={agreed.threshold} is more than the {expected:.3g} clients of a round, so that no "
        "round would release anything; lower it, or take larger cohorts",
    )
    require(
        2 * agreed.threshold > most,
        f"secure.threshold={agreed.threshold} is no more than half of up to {most} clients: a server that "
        "tells two halves different survivors would unmask a single message; set it to "
        f"{most // 2 + 1} or more",
    )
    top, bound = 2 ** (cfg.bits - 1) - 1, (cfg.modulus - 1) // 2
    fits = bound // most
    require(
        most * top <= bound,
        f"the modulus {cfg.modulus} is too small: {most} clients' numbers of secure.bits={cfg.bits} sum to "
        f"up to {most * top}, and {bound} is the bound beyond which a sum wraps; "
        + (
            f"lower secure.bits to {(fits + 1).bit_length()}"
            if fits
            else "raise secure.modulus_bits, or take smaller cohorts"
        ),
    )
    if isinstance(cfg, SecAggPlus):
        require(
            agreed.shares <= agreed.degree,
            f"secure.shares={agreed.shares} is more than the {agreed.degree} neighbours of a client; "
            "lower it",
        )
        require(
            2 * agreed.shares > agreed.degree,
            f"secure.shares={agreed.shares} is no more than half of {agreed.degree} neighbours: a server "
            "that tells two halves different survivors would unmask a single message; set it to "
            f"{agreed.degree // 2 + 1} or more",
        )
    if isinstance(cfg, LightSecAgg):
        require(
            agreed.hidden < agreed.threshold,
            f"secure.colluders={agreed.hidden} must be below secure.threshold={agreed.threshold}, whose "
            "shares decode the sum of masks; lower it",
        )
