"""Who shares seeds with whom: all with all, or each with its neighbours in a random regular graph.

Source: Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020: a
Harary graph whose nodes are put in random order, and section 3's three conditions on how many neighbours
are enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

Members = np.ndarray  # bool[n], of those that began: who is in a set

# What a default number of neighbours is chosen for: this share of clients colluding with the server, this
# share lost, at most 2**-40 for any message exposed and 2**-30 for a sum lost without need.
COLLUDING = LOST = 1 / 5
SECURITY, CORRECTNESS = 40, 30


@dataclass(frozen=True)
class Complete:
    """All with all."""

    n: int

    @property
    def degree(self) -> int:
        return self.n - 1

    def adjacent(self, u: int) -> np.ndarray:
        return np.delete(np.arange(self.n), u)

    def count(self, of: Members) -> np.ndarray:
        """i64[n]: how many of `of` each has beside itself."""
        return of.sum() - of.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Harary:
    """Clients in a circle in the order `at`, each joined to the nearest on both sides, an even `degree` in
    all."""

    at: np.ndarray
    degree: int

    @property
    def n(self) -> int:
        return len(self.at)

    def adjacent(self, u: int) -> np.ndarray:
        place = int(np.flatnonzero(self.at == u)[0])
        steps = np.arange(1, self.degree // 2 + 1)
        return np.sort(self.at[(place + np.concatenate([-steps, steps])) % self.n])

    def count(self, of: Members) -> np.ndarray:
        """i64[n]: how many of `of` each has for neighbours."""
        half, circle = self.degree // 2, of[self.at].astype(np.int64)
        wide = np.concatenate([circle[self.n - half :], circle, circle[:half]])
        sums = np.concatenate([[0], np.cumsum(wide)])
        around = sums[2 * half + 1 :] - sums[: self.n] - circle
        out = np.empty(self.n, np.int64)
        out[self.at] = around
        return out


Graph = Complete | Harary


def pairs(graph: Graph, first: Members, second: Members) -> int:
    """Ordered pairs of neighbours, one of each set."""
    return int(graph.count(second)[first].sum())


@cache
def neighbours(n: int) -> int:
    """The least even number of neighbours, of n clients, for which all three conditions hold; n - 1 where
    there is none below: then the graph is complete.

    Neighbours are a sample without replacement. With more than half of their shares needed, k // 2 + 1:
    (1) nobody has that many colluding neighbours; (2) those who are honest and stay are connected, which
    fails only where k / 2 in a row are not; (3) everybody keeps that many neighbours.
    """
    from scipy.stats import hypergeom

    colluding, lost = int(COLLUDING * n), int(LOST * n)
    for k in range(2, n - 1, 2):
        needed = k // 2 + 1
        exposed = n * hypergeom.sf(needed - 1, n - 1, min(colluding, n - 1), k)
        cut = n * (COLLUDING + LOST) ** (k / 2)
        failed = n * hypergeom.cdf(needed - 1, n - 1, n - 1 - lost, k)
        if exposed + cut <= 2.0**-SECURITY and failed <= 2.0**-CORRECTNESS:
            return k
    return n - 1


def regular(n: int, degree: int, rng: np.random.Generator) -> Graph:
    """A random graph in which each of n clients has `degree` neighbours, or all others."""
    return Complete(n) if degree >= n - 1 else Harary(rng.permutation(n), degree)
