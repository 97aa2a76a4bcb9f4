"""Logistic regression by Newton's method, from sums that sites add up: no row leaves its site.

Every iteration needs of a site three sums over its rows: log-likelihood, gradient and information (McCullagh
and Nelder, Generalized Linear Models, 1989, section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from fedsim.validation.ascent import Point, climb

Floats = NDArray[np.float64]

_FLAT = 1e-9  # share of a column's squares that is left beside the columns before it
_FAR = 12.0  # linear predictors below this in size belong to a maximum that exists


@dataclass(frozen=True)
class Part:
    """A site's rows. x: [n, p], a column of ones for an intercept; y: [n], 0 or 1; offset: [n]."""

    x: Floats
    y: Floats
    offset: Floats


@dataclass(frozen=True)
class Fit:
    """A maximum of the likelihood.

    coefficients: [p], 0 where `kept` is False; covariance: [p, p], inverse of the information there.
    log_likelihood: nats, without the penalty. kept: [p], False for a column that those before it determine.
    separated: whether a maximum does not exist, since some direction parts the classes; the rest is then
      where the search stopped.
    """

    coefficients: Floats
    covariance: Floats
    log_likelihood: float
    kept: NDArray[np.bool_]
    separated: bool

    @property
    def rank(self) -> int:
        return int(self.kept.sum())


def fit(parts: Sequence[Part], ridge: Floats | None = None) -> Fit:
    """The coefficients b that maximise sum log p(y | offset + x b) - sum(ridge b^2) / 2.

    Args:
      ridge: [p] >= 0, 0 for maximum likelihood.

    Raises:
      FedsimError: Newton's method does not end, of which no case is known.
    """
    p = parts[0].x.shape[1]
    penalty = np.zeros(p, np.float64) if ridge is None else ridge
    gram = np.sum([part.x.T @ part.x for part in parts], axis=0)
    kept = independent(gram) | (penalty > 0)
    free = np.flatnonzero(kept)

    def whole(b: Floats) -> Floats:
        found = np.zeros(p, np.float64)
        found[free] = b
        return found

    def at(b: Floats) -> Point:
        sums = [_sums(part, whole(b), free) for part in parts]
        plain = float(np.sum([value for value, _, _ in sums]))
        gradient = np.sum([g for _, g, _ in sums], axis=0) - penalty[free] * b
        information = np.sum([h for _, _, h in sums], axis=0) + np.diag(penalty[free])
        return Point(plain - 0.5 * float(penalty @ whole(b) ** 2), plain, gradient, information)

    def endless(b: Floats) -> bool:
        far = max((float(np.abs(part.x @ whole(b)).max(initial=0.0)) for part in parts), default=0.0)
        return far > _FAR and not (penalty[free][1:] > 0).all() and separable(parts, free)

    found, (_, plain, _, information), separated = climb(
        at, np.zeros(free.size, np.float64), endless, "logistic"
    )
    covariance = np.zeros((p, p), np.float64)
    if not separated:
        covariance[np.ix_(free, free)] = np.linalg.pinv(information, hermitian=True)
    return Fit(whole(found), covariance, plain, kept, separated)


def _sums(part: Part, b: Floats, free: NDArray[np.intp]) -> tuple[float, Floats, Floats]:
    """What a site sends in one iteration."""
    x = part.x[:, free]
    eta = part.offset + x @ b[free]
    risk = special.expit(eta)
    weighted = x * (risk * special.expit(-eta))[:, None]
    return log_likelihood(part.y, eta), x.T @ (part.y - risk), x.T @ weighted


def log_likelihood(y: Floats, eta: Floats) -> float:
    """Sum of log p(y) in nats, of labels and linear predictors [n]."""
    return float(np.sum(y * eta - np.logaddexp(0.0, eta)))


def independent(gram: Floats) -> NDArray[np.bool_]:
    """bool[p]: columns that those before them do not determine, by their sums of products [p, p]."""
    kept: list[int] = []
    for j in range(len(gram)):
        left = gram[j, j]
        if kept and left > 0:
            own = gram[np.ix_(kept, kept)]
            scale = 1.0 / np.sqrt(np.diag(own))
            cross = gram[kept, j] * scale
            left -= float(cross @ np.linalg.solve(own * np.outer(scale, scale), cross))
        if left > _FLAT * gram[j, j]:
            kept.append(j)
    found = np.zeros(len(gram), np.bool_)
    found[kept] = True
    return found


def separable(parts: Sequence[Part], free: NDArray[np.intp]) -> bool:
    """Whether some b != 0 has x b >= 0 for all events and <= 0 for all others, complete or not: then
    no finite maximum exists (Albert and Anderson, Biometrika 1984; by the linear program of Konis, 2007)."""
    signed = np.concatenate([(2.0 * part.y - 1.0)[:, None] * part.x[:, free] for part in parts])
    scale = np.abs(signed).max(axis=0)
    signed = signed / np.where(scale > 0, scale, 1.0)
    found = optimize.linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1.0, 1.0), method="highs"
    )
    return bool(found.status == 0 and -found.fun > 1e-7)
