"""How risk scores order times to an event: metrics of survival, in float64. NumPy only.

Sources: Harrell, Lee, Mark, "Multivariable Prognostic Models", Statistics in Medicine 1996, section 5.5,
for the concordance index; Kaplan, Meier, JASA 1958; Breslow, discussion of Cox, JRSS B 1972, for the baseline
of absolute risks; Cox, "Partial Likelihood", Biometrika 1975; Efron, "The Efficiency of Cox's
Likelihood Function for Censored Data", JASA 1977, section 5, for tied times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def c_index(
    event: NDArray[np.bool_], time: Floats, risk: Floats, w: Floats, factor: Floats | None = None
) -> float | None:
    """Share of comparable pairs in which the higher risk has the earlier event; equal risks count half.

    A pair can be compared if the earlier time is an event's; of equal times if one is an event's and the
    other censored, which counts as later. None without such a pair. A pair weighs the product of weights, and
    by `factor` [n] of the row with the earlier event.
    """
    factor = np.ones(len(w), np.float64) if factor is None else factor
    # Latest first, and of equal times the censored first: an event is compared with a prefix.
    order = np.lexsort((event, -time))
    event, time, w, factor = event[order], time[order], w[order], factor[order]
    rank = np.unique(risk[order], return_inverse=True)[1]
    same = np.flatnonzero(np.diff(time, prepend=np.nan) != 0)  # where runs of equal times start
    run = np.repeat(np.arange(len(same)), np.diff(same, append=len(time)))
    censored = np.bincount(run, ~event, len(same)).astype(np.int64)
    prefix = (same + censored)[run][event]
    below, equal = _ranked_below(rank, w, prefix, rank[event])
    counted = (w * factor)[event]
    pairs = float(counted @ _running(w)[prefix])
    return float(counted @ (below + 0.5 * equal)) / pairs if pairs > 0 else None


def _ranked_below(
    rank: NDArray[np.int64], w: Floats, prefix: NDArray[np.int64], query: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Weight in the first prefix[q] entries of ranks below query[q], and of ranks equal to it.

    One stable partition per bit of a rank, the highest first, and all queries at once: a wavelet matrix
    (Claude, Navarro, Ordóñez, "The Wavelet Matrix", Information Systems 2015), n log n in all.
    """
    start, end = np.zeros_like(prefix), prefix
    below = np.zeros(len(query), np.float64)
    for bit in reversed(range(int(rank.max(initial=0)).bit_length())):
        low = (rank >> bit) & 1 == 0
        count, weight = _running(low.astype(np.float64)).astype(np.int64), _running(np.where(low, w, 0.0))
        high = (query >> bit) & 1 == 1
        below += np.where(high, weight[end] - weight[start], 0.0)
        start = np.where(high, count[-1] + start - count[start], count[start])
        end = np.where(high, count[-1] + end - count[end], count[end])
        order = np.argsort(~low, kind="stable")
        rank, w = rank[order], w[order]
    weight = _running(w)
    return below, weight[end] - weight[start]


def _running(x: Floats) -> Floats:
    """Sums of the first 0, 1, ..., n entries."""
    return np.concatenate(([0.0], np.cumsum(x)))


def cox_loss(event: NDArray[np.bool_], time: Floats, risk: Floats, w: Floats) -> float | None:
    """Negative log partial likelihood per event, nats, risk being the log hazard ratio; Efron's ties.

    None without an event. Weights count a row as that many, and tied events as their mean.
    """
    if not event.any():
        return None
    order = np.argsort(-time, kind="stable")
    event, time, risk, w = event[order], time[order], risk[order], w[order]
    ends = np.flatnonzero(np.diff(time, append=np.nan) != 0)  # where runs of equal times end
    run = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))[event]
    at_risk = np.logaddexp.accumulate(risk + np.log(w))[ends][run]  # log sum of exp(risk) at the event
    risk, w = risk[event], w[event]
    tied = np.bincount(run, w * np.exp(risk - at_risk), len(ends))[run]  # share of it that is tied events'
    count, total = np.bincount(run, None, len(ends)), np.bincount(run, w, len(ends))
    first = np.cumsum(count) - count
    before = (np.arange(len(run)) - first[run]) / count[run]
    log_risk = at_risk + np.log1p(-before * tied)
    return float((total / np.maximum(count, 1))[run] @ log_risk - w @ risk) / float(w.sum())


def kaplan_meier(
    event: NDArray[np.bool_], time: Floats, w: Floats, censoring: bool = False
) -> tuple[Floats, Floats]:
    """Share without an event after each distinct time: (times, rising; shares), f64[m] each.

    censoring: share that is not censored instead; of equal times events come first, so that who has one is
      no longer at risk of being censored.
    """
    times, at = np.unique(time, return_inverse=True)
    left = np.cumsum(np.bincount(at, w, len(times))[::-1])[::-1]  # at risk
    gone = np.bincount(at, w * event, len(times))
    if censoring:
        left = left - gone
        gone = np.bincount(at, w * ~event, len(times))
    # At the last time no more are left than go; rounding must not make that a share.
    gone = np.where(np.abs(left - gone) <= 1e-12 * left, left, gone)
    shares: Floats = np.cumprod(1.0 - gone / np.where(left > 0, left, 1.0), dtype=np.float64)
    return times, shares


def share_at(curve: tuple[Floats, Floats], t: Floats, before: bool = False) -> Floats:
    """A Kaplan-Meier curve at times t; before: just before them."""
    times, shares = curve
    at = np.searchsorted(times, t, side="left" if before else "right")
    found: Floats = np.concatenate(([1.0], shares))[at]
    return found


def breslow(event: NDArray[np.bool_], time: Floats, risk: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Breslow's cumulative baseline hazard: (times of events, rising; its logarithm from each on), f64[m].

    A sum over event times of events over the sum of exp(risk) at risk: regions that send both sums by time
    would give the same.
    """
    times, at = np.unique(time, return_inverse=True)
    most = float(risk.max(initial=0.0))
    left = np.cumsum(np.bincount(at, w * np.exp(risk - most), len(times))[::-1])[::-1]
    gone = np.bincount(at, w * event, len(times))
    some = gone > 0
    return times[some], np.log(np.cumsum(gone[some] / left[some])) - most
