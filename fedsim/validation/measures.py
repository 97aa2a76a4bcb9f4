"""What a model is worth at a site, with intervals by bootstrap over its patients.

  observed_expected   events over the sum of risks: 1 where the mean risk is right
  net_benefit         TP / n - FP / n * t / (1 - t), of treating whoever has a risk of t or more (Vickers and
                      Elkin, Medical Decision Making 2006); beside it that of treating everybody

All others are those of `fedsim.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedsim import metrics
from fedsim.data.rng import generator
from fedsim.validation.logistic import Floats

Value = float | None
Interval = tuple[Value, Value]


class Bootstrap:
    """Patients drawn again, the same ones for whatever is measured at a site, so that differences are paired.

    patient: [n], whose each row is; None where each is a patient of its own.
    """

    def __init__(self, n: int, patient: NDArray[Any] | None, replicates: int, seed: int, site: str) -> None:
        self._of = np.arange(n) if patient is None else np.unique(patient, return_inverse=True)[1]
        self._replicates, self._seed, self._site = replicates, seed, site

    @cached_property
    def patients(self) -> int:
        return int(self._of.max(initial=-1)) + 1

    def __iter__(self) -> Iterator[Floats]:
        """How often each row [n] is there, for every replicate; the same ones at every pass."""
        drawn = generator(self._seed, "validation", "bootstrap", self._site)
        for _ in range(self._replicates):
            who = drawn.integers(0, self.patients, self.patients)
            yield np.bincount(who, minlength=self.patients)[self._of].astype(np.float64)

    def also(self) -> Iterator[Floats | None]:
        """None for all rows as they are, then every replicate."""
        return chain([None], self)


def ends(replicates: Sequence[Value]) -> Interval:
    """The 2.5 and 97.5 % quantiles (Efron 1979) of the replicates where there is a value; None where more
    than one in twenty has none."""
    known = [value for value in replicates if value is not None]
    if not known or len(known) < 0.95 * len(replicates):
        return None, None
    low, high = np.quantile(np.array(known, np.float64), [0.025, 0.975])
    return float(low), float(high)


def measure(
    y: Floats, lp: Floats, names: Sequence[str], thresholds: Sequence[float], weights: Floats | None = None
) -> dict[str, Value]:
    """Metrics of linear predictors lp [n] against labels y [n]; None where undefined.

    Args:
      names: of `config.validation.MEASURES`; net_benefit becomes one entry per threshold.
      weights: [n], how often each row counts.
    """
    p = special.expit(lp)
    w = np.ones(y.size, np.float64) if weights is None else weights
    full = bool({"auprc", "calibration_intercept", "calibration_slope"} & set(names))
    known = metrics.evaluate("binary", y, p, weights, full=full)
    expected, total = float(w @ p), float(w.sum())
    found: dict[str, Value] = {}
    for name in names:
        if name == "observed_expected":
            found[name] = float(w @ y) / expected if expected > 0 else None
        elif name == "net_benefit":
            for t in thresholds:
                found[benefit(t)] = float(w @ ((p >= t) * (y - (1.0 - y) * t / (1.0 - t)))) / total
        else:
            found[name] = known[name]
    return found


def benefit(threshold: float) -> str:
    """The name of the net benefit at a threshold."""
    return f"net_benefit@{threshold:g}"


def treat_all(y: Floats, threshold: float, weights: Floats) -> float:
    """Net benefit of treating everybody."""
    gain = y - (1.0 - y) * threshold / (1.0 - threshold)
    return float(weights @ gain) / float(weights.sum())


def with_intervals(
    of: Callable[[Floats | None], dict[str, Value]], drawn: Iterable[Floats]
) -> dict[str, tuple[Value, Value, Value]]:
    """name -> (value, low, high) of what `of` makes of all rows, and of those that replicates count."""
    whole = of(None)
    again = [of(counts) for counts in drawn]
    return {name: (value, *ends([one[name] for one in again])) for name, value in whole.items()}


def goodness(name: str, value: float) -> float:
    """A number that is larger the better: the value, its negative, or minus its distance from the target."""
    if name.startswith("net_benefit"):
        return value
    if name == "observed_expected":
        return -abs(value - 1.0)
    return -metrics.badness(name, value)
