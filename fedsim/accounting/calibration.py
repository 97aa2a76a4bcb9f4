"""The other way round: the least noise, or the most rounds, that keep within a budget."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, isfinite, log

import scipy

from fedsim.base import Refusal, require

_LEAST, _MOST = 2.0**-10, 2.0**24  # noise multipliers that are tried
_MOST_ROUNDS = 10_000_000
_TOLERANCE = 1e-6  # relative


def least_noise(spent: Callable[[float], float], budget: float) -> float:
    """The least noise multiplier, to a millionth and rounded up, for which `spent`, which falls with it, is
    at most `budget`.

    Raises Refusal where no noise multiplier in reach is enough.
    """
    check_budget(budget)
    high = 1.0
    while spent(high) > budget:
        high *= 2
        if high > _MOST:
            raise Refusal(
                f"epsilon={budget:g} cannot be reached by any noise multiplier up to {_MOST:g}",
                "set a larger epsilon or delta, or fewer rounds",
            )
    low = high / 2
    while spent(low) <= budget:
        low, high = low / 2, low
        if low < _LEAST:
            return high

    def gap(noise: float) -> float:
        found = spent(exp(noise))
        return log(found / budget) if found > 0 and isfinite(found) else (1e3 if found else -1e3)

    found = exp(scipy.optimize.brentq(gap, log(low), log(high), xtol=_TOLERANCE, rtol=1e-12))
    while spent(found) > budget:
        found *= 1 + _TOLERANCE
    return min(found, high)


def most_rounds(spent: Callable[[int], float], budget: float, limit: int = _MOST_ROUNDS) -> int:
    """The largest number of rounds up to `limit` for which `spent`, which grows with it, is at most `budget`;
    0 where not even one is."""
    check_budget(budget)
    if limit < 1 or spent(1) > budget:
        return 0
    fits, beyond = 1, 2
    while beyond <= limit and spent(beyond) <= budget:
        fits, beyond = beyond, 2 * beyond
    if beyond > limit and spent(limit) <= budget:
        return limit
    beyond = min(beyond, limit)
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if spent(middle) <= budget else (fits, middle)
    return fits


def check_budget(budget: float) -> None:
    require(budget > 0 and isfinite(budget), f"epsilon must be in (0, inf), got {budget}; set epsilon=1")
