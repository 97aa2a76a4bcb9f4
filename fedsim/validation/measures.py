"""What a model is worth at a site, with intervals by bootstrap over its patients.

  observed_expected   events over the sum of risks: 1 where the mean risk is right
  net_benefit         TP / n - FP / n * t / (1 - t), of treating whoever has a risk of t or more (Vickers and
                      Elkin, Medical Decision Making 2006); beside it that of treating everybody

All others are those of `fedsim.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedsim import metrics
from fedsim.data.rng import generator
from fedsim.metrics.draws import Ranked
from fedsim.validation.logistic import Floats

Value = float | None
Interval = tuple[Value, Value]
Key = TypeVar("Key")
Amount = TypeVar("Amount", float, Floats)
TREAT_ALL = "treat_all"  # net benefit of treating everybody
_BLOCK = 1 << 22  # counts of patients in memory at once


class Bootstrap:
    """Patients drawn again, the same ones for whatever is measured at a site, so that differences are paired.

    patient: [n], whose each row is; None where each is a patient of its own.
    """

    def __init__(self, n: int, patient: NDArray[Any] | None, replicates: int, seed: int, site: str) -> None:
        self._of = None if patient is None else np.unique(patient, return_inverse=True)[1]
        self._n, self._replicates, self._seed, self._site = n, replicates, seed, site
        self._mine: NDArray[np.int64] | None = None

    def among(self, mine: NDArray[np.int64]) -> Bootstrap:
        """The same draws of all patients, of which some rows are looked at: counts of these alone."""
        found = copy(self)
        found._mine = mine
        return found

    @cached_property
    def patients(self) -> int:
        return self._n if self._of is None else int(self._of.max(initial=-1)) + 1

    def __iter__(self) -> Iterator[Floats]:
        """How often each row is there, [n] or those of `among`, for every replicate; the same ones at every
        pass."""
        drawn = generator(self._seed, "validation", "bootstrap", self._site)
        for _ in range(self._replicates):
            who = drawn.integers(0, self.patients, self.patients)
            counts = np.bincount(who, minlength=self.patients)
            of_row = counts if self._of is None else counts[self._of]
            yield (of_row if self._mine is None else of_row[self._mine]).astype(np.float64)

    def blocks(self) -> Iterator[Floats]:
        """The same, [replicates, n], a bounded number of them at a time."""
        each = iter(self)
        while block := list(islice(each, max(1, _BLOCK // max(self._n, 1)))):
            yield np.stack(block)

    def of(self, measured: Callable[[Floats], Mapping[str, Floats]]) -> dict[str, Floats]:
        """name -> f64[replicates] of what `measured` makes of blocks."""
        made = [measured(block) for block in self.blocks()]
        return {name: np.concatenate([one[name] for one in made]) for name in made[0]}


def ends(replicates: Sequence[Value] | Floats) -> Interval:
    """The 2.5 and 97.5 % quantiles (Efron 1979) of the replicates where there is a value, neither None nor
    nan; None where more than one in twenty has none."""
    values = np.array(replicates, np.float64)
    known = values[~np.isnan(values)]
    if not known.size or known.size < 0.95 * values.size:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def measure(
    y: Floats, lp: Floats, names: Sequence[str], thresholds: Sequence[float], weights: Floats | None = None
) -> dict[str, Value]:
    """Metrics of linear predictors lp [n] against labels y [n]; None where undefined.

    Args:
      names: of `config.validation.MEASURES`; net_benefit becomes one entry per threshold.
      weights: [n], how often each row counts.
    """
    called = wanted(names, thresholds)
    full = not {*called.values()} <= {*metrics.names("binary", full=False)}
    known = metrics.evaluate("binary", y, special.expit(lp), weights, full=full, thresholds=thresholds)
    return {name: known[asked] for name, asked in called.items()}


def replicates(
    y: Floats,
    lps: Mapping[Key, Floats],
    names: Sequence[str],
    thresholds: Sequence[float],
    drawn: Bootstrap,
) -> dict[Key, dict[str, Floats]]:
    """What `measure` finds of several models' linear predictors [n], on every replicate: f64[replicates], nan
    where undefined."""
    called = wanted(names, thresholds)
    ranked = {key: Ranked(y, special.expit(lp)) for key, lp in lps.items()}
    made: dict[Key, list[dict[str, Floats]]] = {key: [] for key in lps}
    for block in drawn.blocks():
        for key, one in ranked.items():
            made[key].append(one.evaluate(block, tuple(called.values())))
    return {
        key: {name: np.concatenate([part[asked] for part in parts]) for name, asked in called.items()}
        for key, parts in made.items()
    }


def wanted(names: Sequence[str], thresholds: Sequence[float]) -> dict[str, str]:
    """name -> what `fedsim.metrics` calls it."""
    found: dict[str, str] = {}
    for name in names:
        if name in ("net_benefit", TREAT_ALL):
            kind = "all_" if name == TREAT_ALL else ""
            found |= {benefit(t, name): f"{metrics.NET_BENEFIT}{kind}{t:g}" for t in thresholds}
        else:
            found[name] = "o_e" if name == "observed_expected" else name
    return found


def benefit(threshold: float, name: str = "net_benefit") -> str:
    """The name of the net benefit at a threshold."""
    return f"{name}@{threshold:g}"


def goodness(name: str, value: Amount) -> Amount:
    """Numbers that are larger the better: the values, their negatives, or minus their distance from the
    target."""
    if name.startswith("net_benefit"):
        return value
    if name == "observed_expected":
        return -abs(value - 1.0)
    worse: Amount = metrics.badness(name, value)
    return -worse
