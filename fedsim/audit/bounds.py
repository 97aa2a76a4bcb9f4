"""What one run's canaries show of epsilon: a lower bound, at a confidence, and an estimate.

Each of m canaries was included by a fair coin of its own, and has a score that is to be higher where it was.

- `one_run`, without assumptions: the highest scores are guessed included and the lowest left out, and a
  mechanism of (epsilon, delta) allows only so many correct guesses.
  Source: Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, Theorem 5.2.
- `gaussian`, where scores are Gaussian with one spread, which sums over many coordinates tend to: the
  distance mu of the two means in spreads makes a mu-GDP trade-off, and its epsilon.
  Sources: Andrew et al., "One-shot Empirical Privacy Estimation for Federated Learning", ICLR 2024, section
  3; epsilon of mu: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018,
  Theorem 8. Here mu is replaced by a lower confidence bound for the bound, which pure noise keeps at 0.

NumPy and SciPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy
from scipy import special

GUESSED = (1.0, 1 / 3, 0.1)  # shares of the canaries that are guessed, each tried with a third of the risk
MOST = 100.0  # an epsilon beyond which nobody asks


class Shown(NamedTuple):
    """What canaries show. epsilon: the lower bound; guesses, correct: of which it follows."""

    epsilon: float
    guesses: int
    correct: int


def p_value(m: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """Most probable that as many of so many guesses, of m canaries, are correct under (epsilon, delta)."""
    q = special.expit(epsilon)
    tail = float(scipy.stats.binom.sf(correct - 1, guesses, q))
    if delta == 0 or correct == 0:
        return min(tail, 1.0)
    # What delta adds: the largest mean mass of the i outcomes below the one that was seen.
    below = np.cumsum(scipy.stats.binom.pmf(np.arange(correct - 1, -1, -1), guesses, q))
    return min(tail + 2 * m * delta * float(np.max(below / np.arange(1, correct + 1))), 1.0)


@lru_cache(maxsize=4096)
def lower(m: int, guesses: int, correct: int, delta: float, risk: float) -> float:
    """The largest epsilon that is refuted, with at most `risk` to be wrong; 0 where none is."""

    def refuted(epsilon: float) -> bool:
        return p_value(m, guesses, correct, epsilon, delta) < risk

    return largest(refuted)


def largest(holds: Callable[[float], bool]) -> float:
    """The largest epsilon for which something holds that holds for all smaller ones; 0 for none."""
    if not holds(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while high < MOST and holds(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def one_run(scores: np.ndarray, included: np.ndarray, delta: float, confidence: float) -> Shown:
    """The best of the bounds that a third, a tenth and all of the canaries give, all of which hold together
    with this confidence."""
    m = len(scores)
    order = np.argsort(scores, kind="stable")
    shown = []
    for share in GUESSED:
        half = max(1, int(share * m / 2))
        correct = int(included[order[m - half :]].sum() + (~included[order[:half]]).sum())
        risk = (1 - confidence) / len(GUESSED)
        shown.append(Shown(lower(m, 2 * half, correct, delta, risk), 2 * half, correct))
    return max(shown, key=lambda s: s.epsilon)


def highest(m: int, delta: float, confidence: float) -> float:
    """What `one_run` would say if every guess were right: no audit of m canaries can show more."""
    perfect = np.arange(m)
    return one_run(perfect.astype(np.float64), perfect >= m - m // 2, delta, confidence).epsilon


def epsilon_of(mu: float, delta: float) -> float:
    """Epsilon at delta of a Gaussian mechanism whose two means lie mu spreads apart."""
    if mu <= 0:
        return 0.0
    if delta == 0:
        return math.inf

    def exceeds(epsilon: float) -> bool:
        tail = scipy.stats.norm.logcdf(-epsilon / mu - mu / 2)
        return float(scipy.stats.norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + tail)) > delta

    return largest(exceeds)


class Distance(NamedTuple):
    """How far apart included and left-out scores lie, in spreads: the estimate, and a lower bound."""

    estimate: float
    bound: float


def gaussian(scores: np.ndarray, included: np.ndarray, confidence: float) -> Distance:
    """Of Gaussian scores; the bound is 0 where it could be below."""
    few = min(int(included.sum()), int((~included).sum()))
    if few < 2 or not np.isfinite(scores).all():
        return Distance(0.0, 0.0)
    inside, outside = scores[included], scores[~included]
    freedom = len(scores) - 2
    pooled = (np.var(inside) * len(inside) + np.var(outside) * len(outside)) / freedom
    apart = float(np.mean(inside) - np.mean(outside))
    if pooled <= 0:
        return Distance(math.inf, math.inf) if apart > 0 else Distance(0.0, 0.0)
    mu = apart / math.sqrt(pooled)
    # The spread of mu's own error, which grows with mu since the spread is estimated too.
    error = math.sqrt(1 / len(inside) + 1 / len(outside) + mu**2 / (2 * freedom))
    bound = mu - float(scipy.stats.t.ppf(confidence, freedom)) * error
    return Distance(max(mu, 0.0), max(bound, 0.0))


def summary(
    scores: np.ndarray, totals: np.ndarray, included: np.ndarray, delta: float, confidence: float
) -> dict[str, Any]:
    """All of it as plain data. scores: what guesses go by; totals: what is taken for Gaussian."""
    if not (np.isfinite(scores).all() and np.isfinite(totals).all()):
        return {"epsilon_bound": None, "reason": "scores are not finite: the run diverged"}
    shown = one_run(scores, included, delta, confidence)
    apart = gaussian(totals, included, confidence)
    return {
        "epsilon_bound": shown.epsilon,
        "epsilon_bound_highest": highest(len(scores), delta, confidence),
        "epsilon_bound_gaussian": min(epsilon_of(apart.bound, delta), MOST),
        "epsilon_estimate_gaussian": min(epsilon_of(apart.estimate, delta), MOST),
        "confidence": confidence,
        "delta": delta,
        "canaries": len(scores),
        "included": int(included.sum()),
        "guesses": shown.guesses,
        "correct": shown.correct,
    }
