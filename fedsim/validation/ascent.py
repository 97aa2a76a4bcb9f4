"""Newton's method with halved steps, to the maximum of a concave log-likelihood or to where it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedsim.base import FedsimError

Floats = NDArray[np.float64]
_STEPS = 100


class Point(NamedTuple):
    """At coefficients b [p]: value: what is maximised; likelihood: without a penalty; gradient [p];
    information [p, p], minus the Hessian."""

    value: float
    likelihood: float
    gradient: Floats
    information: Floats


def climb(
    at: Callable[[Floats], Point], b: Floats, endless: Callable[[Floats], bool], what: str
) -> tuple[Floats, Point, bool]:
    """(the maximum, what it is there, False), or where the search was ended by `endless`, and True.

    Args:
      at: of coefficients; b: where to begin; endless: whether coefficients belong to no maximum.
      what: is maximised, for the message.

    Raises:
      FedsimError: the method does not end, of which no case is known.
    """
    here = at(b)
    for _ in range(_STEPS):
        step = np.linalg.lstsq(here.information, here.gradient, rcond=None)[0]
        rise = float(here.gradient @ step)
        if rise <= 1e-14 * (1.0 + abs(here.value)):
            return b, here, False
        size = 1.0
        while size > 1e-10:
            tried = at(b + size * step)
            if tried.value >= here.value + 1e-4 * size * rise - 1e-12 * (1.0 + abs(here.value)):
                break
            size *= 0.5
        b, here = b + size * step, tried
        if endless(b):
            return b, here, True
    raise FedsimError(f"a {what} regression of {len(b)} coefficients has no end in {_STEPS} steps")
