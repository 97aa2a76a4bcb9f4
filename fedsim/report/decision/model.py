"""From a better model to bed days and money: the arithmetic, its ranges, and where its answer turns.

For a region and a year, with a fixed share of patients flagged (capacity):

    found     = patients * capacity * difference        more patients rightly flagged
    avoided   = found * reach * effect * bed_days       bed days
    value     = avoided * bed_day_cost                  SEK
    staff     = (setup_hours / years + running_hours) * hour_cost
    compute   = retrainings * seconds / 3600 * compute_cost / regions
    traffic   = retrainings * gigabytes * traffic_cost
    net       = value - staff - compute - traffic

`difference` is the choice's positive predictive value among the flagged less the baseline's. As many
patients are flagged either way, the care that follows costs the same and cancels; what training alone costs
is not taken off. Every amount is affine in every single number, so where the net is zero is exact.

One-way ranges (a tornado chart) set one number to its low and high value, all others at base (Eddy et al.,
"Model Parameter Estimation and Uncertainty Analysis", Medical Decision Making 2012); intervals draw all
numbers together (probabilistic sensitivity analysis, there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.report.decision.spec import Range

Floats = NDArray[np.float64]
_KEY = 40_000_000  # of the draws: the same page every time
LEVEL = (0.025, 0.975)


@dataclass(frozen=True)
class Fixed:
    """What is neither assumed nor uncertain here.

    regions: their names; seconds: the devices' of one training, for all regions together; gigabytes: that
    one region sends and receives in one training, 10^9 bytes.
    """

    regions: tuple[str, ...]
    capacity: float
    years: int
    seconds: float
    gigabytes: float


@dataclass(frozen=True)
class Worth:
    """Of one region, or all, in a year: patients, days and SEK, as numbers or as draws of them."""

    found: Any
    avoided: Any
    value: Any
    staff: Any
    compute: Any
    traffic: Any

    @property
    def cost(self) -> Any:
        return self.staff + self.compute + self.traffic

    @property
    def net(self) -> Any:
        return self.value - self.cost


def patients_of(region: str) -> str:
    return f"patients/{region}"


def difference_of(region: str) -> str:
    return f"difference/{region}"


def worth(values: Mapping[str, Any], fixed: Fixed) -> dict[str, Worth]:
    """{region: what the choice is worth there in a year}, by the formulas above.

    Args:
      values: each assumption by its name, and patients and difference of each region by `patients_of` and
        `difference_of`; numbers, or arrays of draws [n].
    """
    v = values
    staff = (v["setup_hours"] / fixed.years + v["running_hours"]) * v["hour_cost"]
    compute = v["retrainings"] * fixed.seconds / 3600.0 * v["compute_cost"] / len(fixed.regions)
    traffic = v["retrainings"] * fixed.gigabytes * v["traffic_cost"]
    made = {}
    for region in fixed.regions:
        found = v[patients_of(region)] * fixed.capacity * v[difference_of(region)]
        avoided = found * v["reach"] * v["effect"] * v["bed_days"]
        made[region] = Worth(found, avoided, avoided * v["bed_day_cost"], staff, compute, traffic)
    return made


def together(each: Mapping[str, Worth]) -> Worth:
    """The sum over regions."""
    names = ("found", "avoided", "value", "staff", "compute", "traffic")
    return Worth(**{name: sum(getattr(one, name) for one in each.values()) for name in names})


@dataclass(frozen=True)
class Bar:
    """One number of the tornado. at_low, at_high: the net of all regions with it at low and high, SEK a year.

    turns: where that net is zero, all others at base; None if nowhere within what the number can be.
    """

    name: str
    low: float
    base: float
    high: float
    at_low: float
    at_high: float
    turns: float | None

    @property
    def decides(self) -> bool:
        """Whether the sign of the net changes within the range."""
        return min(self.at_low, self.at_high) < 0 < max(self.at_low, self.at_high)


def tornado(
    ranges: Mapping[str, tuple[float, float, float]],
    bounds: Mapping[str, tuple[float, float]],
    fixed: Fixed,
) -> list[Bar]:
    """Every number's bar, the widest first.

    Args:
      ranges: {name: (low, base, high)} of every number of `worth`.
      bounds: what a number can be at all; those without are not bounded.
    """
    base = {name: mid for name, (_, mid, _) in ranges.items()}

    def net(name: str, value: float) -> float:
        return float(together(worth({**base, name: value}, fixed)).net)

    bars = []
    for name, (low, mid, high) in ranges.items():
        at_none = net(name, 0.0)
        slope = net(name, 1.0) - at_none
        turns = -at_none / slope if slope else None
        least, most = bounds.get(name, (-np.inf, np.inf))
        if turns is not None and not least <= turns <= most:
            turns = None
        bars.append(Bar(name, low, mid, high, net(name, low), net(name, high), turns))
    return sorted(bars, key=lambda bar: (-abs(bar.at_high - bar.at_low), bar.name))


def drawn(ranges: Mapping[str, Range], differences: Mapping[str, Floats], draws: int) -> dict[str, Floats]:
    """`draws` values of every number [draws], assumptions independent of each other.

    Args:
      ranges: {name: what is assumed}.
      differences: {region: f64[b], what resampling gives}; the same resample is taken in all regions.
    """
    made = {}
    for k, (name, told) in enumerate(ranges.items()):
        rng = np.random.Generator(np.random.Philox(key=[_KEY, k]))
        if told.low == told.high:
            made[name] = np.full(draws, told.base, np.float64)
        elif told.shape == "uniform":
            made[name] = rng.uniform(told.low, told.high, draws)
        else:
            made[name] = rng.triangular(told.low, told.base, told.high, draws)
    size = min((len(d) for d in differences.values()), default=1)
    taken = np.random.Generator(np.random.Philox(key=[_KEY, len(ranges)])).integers(0, size, draws)
    return made | {difference_of(region): values[taken] for region, values in differences.items()}


def ends(values: Any) -> tuple[float, float]:
    """The 2.5 and 97.5 % quantiles of draws."""
    low, high = np.quantile(np.asarray(values, np.float64), LEVEL)
    return float(low), float(high)


def verdict(low: float, high: float, worthwhile: float = 0.0) -> str:
    """`gain` where the whole interval lies above `worthwhile`, `no_gain` where none of it does, else
    `cannot_tell`."""
    return "gain" if low > worthwhile else "no_gain" if high <= worthwhile else "cannot_tell"
