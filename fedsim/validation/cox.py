"""Cox regression with an offset, by Newton's method on the partial likelihood with Efron's ties.

Sources: Cox, "Partial Likelihood", Biometrika 1975, eq. 4; Efron, "The Efficiency of Cox's Likelihood
Function for Censored Data", JASA 1977, section 5.
"""

from __future__ import annotations

import numpy as np

from fedsim.validation.ascent import Point, climb
from fedsim.validation.logistic import Fit, Floats, independent

_FAR = 30.0  # log relative risks further apart than this by an update belong to no maximum
_FLAT = 1e-9  # share of a direction's information that is left there either


class _Sums:
    """The partial likelihood of rows whose times are sorted once, latest first.

    x: [n, p]; event, time, offset: [n]. Memory is of n * p numbers: sums of squares over risk sets add up
    over events before they are made.
    """

    def __init__(self, x: Floats, event: Floats, time: Floats, offset: Floats) -> None:
        order = np.argsort(-time, kind="stable")
        self.x, self.offset, time = x[order], offset[order], time[order]
        self.event = event[order] > 0
        self.ends = np.flatnonzero(np.diff(time, append=np.nan) != 0)  # where runs of equal times end
        self.run = np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=-1))
        mine = self.run[self.event]
        count = np.bincount(mine, minlength=len(self.ends))
        first = np.cumsum(count) - count
        self.mine = mine
        self.gone = (np.arange(len(mine)) - first[mine]) / np.maximum(count[mine], 1)

    def at(self, b: Floats) -> tuple[float, Floats, Floats]:
        """(log-likelihood, gradient [p], information [p, p])."""
        eta = self.offset + self.x @ b
        most = float(eta.max())
        risk = np.exp(eta - most)
        weighted = risk[:, None] * self.x
        runs, x = len(self.ends), self.x[self.event]
        s0, s1 = np.cumsum(risk)[self.ends], np.cumsum(weighted, axis=0)[self.ends]
        t0 = np.bincount(self.mine, risk[self.event], runs)
        t1 = np.zeros((runs, self.x.shape[1]), np.float64)
        np.add.at(t1, self.mine, weighted[self.event])
        left = s0[self.mine] - self.gone * t0[self.mine]  # at risk, as each event sees it
        mean = (s1[self.mine] - self.gone[:, None] * t1[self.mine]) / left[:, None]
        value = float(np.sum(eta[self.event] - most - np.log(left)))
        # A row is in the risk sets of all events up to its own time, tied ones in part.
        every = np.cumsum(np.bincount(self.mine, 1.0 / left, runs)[::-1])[::-1][self.run]
        every[self.event] -= np.bincount(self.mine, self.gone / left, runs)[self.mine]
        information = self.x.T @ (every[:, None] * weighted) - mean.T @ mean
        return value, (x - mean).sum(axis=0), information


def fit(x: Floats, event: Floats, time: Floats, offset: Floats, ridge: float = 0.0) -> Fit:
    """The coefficients b that maximise the partial likelihood of hazards exp(offset + x b), less
    ridge |b|^2 / 2.

    Args:
      x: [n, p]; p may be 0. event: [n], 1 or 0 (censored); at least one; time, offset: [n].

    Raises:
      FedsimError: Newton's method does not end, of which no case is known.
    """
    n, p = x.shape
    columns = np.column_stack([np.ones(n), x - x.mean(axis=0)])
    gram = columns.T @ columns
    kept = independent(gram)[1:]
    # What varies only where nobody has an event, or after the last one, is in no risk set.
    information = _Sums(columns[:, 1:], event, time, offset).at(np.zeros(p, np.float64))[2]
    nothing = ~kept | (np.diag(information) <= 1e-10 * np.diag(gram)[1:] * event.mean())
    information[nothing], information[:, nothing] = 0.0, 0.0
    kept = independent(information) | (ridge > 0)
    free = np.flatnonzero(kept)
    sums = _Sums(columns[:, 1:][:, free], event, time, offset)
    start = np.zeros(len(free), np.float64)

    def at(b: Floats) -> Point:
        value, gradient, information = sums.at(b)
        penalised = information + ridge * np.eye(len(b))
        return Point(value - 0.5 * ridge * float(b @ b), value, gradient - ridge * b, penalised)

    root = np.linalg.inv(np.linalg.cholesky(at(start).information))

    def endless(b: Floats) -> bool:
        return ridge == 0 and float(np.ptp(sums.x @ b)) > _FAR + float(np.ptp(offset))

    b, (_, value, _, information), separated = climb(at, start, endless, "Cox")
    if len(free) and ridge == 0:  # where the likelihood rises without end the search stops on a plain
        separated |= bool(np.linalg.eigvalsh(root @ information @ root.T)[0] < _FLAT)
    coefficients, covariance = np.zeros(p, np.float64), np.zeros((p, p), np.float64)
    coefficients[free] = b
    if not separated and len(free):
        covariance[np.ix_(free, free)] = np.linalg.pinv(information, hermitian=True)
    return Fit(coefficients, covariance, value, kept, separated)
