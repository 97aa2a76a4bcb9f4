"""Integer noise on a site's counts, and what it is worth as epsilon. NumPy only.

Every unit adds at most `norm` to a site's vector of counts, in the 1-norm with mechanism=laplace and in the
2-norm with discrete_gaussian; each unit is at one site, so sites do not compose.

Sources: Ghosh, Roughgarden, Sundararajan, "Universally Utility-maximizing Privacy Mechanisms", STOC 2009,
for Laplace noise on whole numbers; Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential
Privacy", NeurIPS 2020, Alg. 3. Draws are a simulation's: probabilities are computed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, floor, sqrt
from typing import Any

import numpy as np

from fedsim.accounting import accountants
from fedsim.accounting.calibration import least_noise
from fedsim.accounting.events import DiscreteGaussian
from fedsim.base import digest, require
from fedsim.config.estimate import Noised
from fedsim.data.rng import generator
from fedsim.estimate.sites import Site


@dataclass(frozen=True)
class Noise:
    """scale: of the Laplace noise, or deviation of the Gaussian one, in rows; multiplier: the same over the
    norm; epsilon, delta: what is spent."""

    cfg: Noised
    scale: float
    multiplier: float
    epsilon: float
    delta: float

    @property
    def variance(self) -> float:
        """Of the noise on one count of one site."""
        if self.cfg.mechanism == "laplace":
            # Of exp(-|x| / scale) on the whole numbers: 2 p / (1 - p)^2.
            p = exp(-1 / self.scale)
            return 2 * p / (1 - p) ** 2
        return self.scale**2

    def draw(self, size: int, *purpose: str) -> np.ndarray:
        """int64[size], another stream for every purpose and every request: noise that two answers shared
        would cancel between them."""
        rng = generator(self.cfg.seed, "estimate", digest(self.cfg), *purpose)
        if self.cfg.mechanism == "laplace":
            return discrete_laplace(rng, self.scale, size)
        return discrete_gaussian(rng, self.scale, size)


def calibrated(cfg: Noised, parts: int, cells: int) -> Noise:
    """The least noise for cfg.epsilon.

    Args:
      parts: counts that one row adds one to, in as many histograms; cells: counts of all of them.
    """
    assert cfg.epsilon is not None
    if cfg.mechanism == "laplace":
        norm = parts * cfg.rows_per_patient
        moved = norm * (2 if cfg.relation == "replace_one" else 1)
        return Noise(cfg, moved / cfg.epsilon, moved / cfg.epsilon / norm, cfg.epsilon, 0.0)
    norm_2 = sqrt(parts) * cfg.rows_per_patient

    def event(multiplier: float) -> DiscreteGaussian:
        return DiscreteGaussian(noise_multiplier=multiplier, sensitivity=norm_2, dimension=cells)

    def spent(multiplier: float) -> float:
        return accountants.bound([(event(multiplier), 1)], cfg.delta, cfg.relation, "rdp")

    found = least_noise(spent, cfg.epsilon)
    return Noise(cfg, found * norm_2, found, spent(found), cfg.delta)


def discrete_laplace(rng: np.random.Generator, scale: float, size: int) -> np.ndarray:
    """int64[size] with P(x) proportional to exp(-|x| / scale): the difference of two geometric numbers."""
    p = -np.expm1(-1 / scale)
    return rng.geometric(p, size).astype(np.int64) - rng.geometric(p, size).astype(np.int64)


def discrete_gaussian(rng: np.random.Generator, deviation: float, size: int) -> np.ndarray:
    """int64[size] with P(x) proportional to exp(-x^2 / (2 deviation^2)), by rejection from Laplace."""
    t = floor(deviation) + 1
    found = np.zeros(size, np.int64)
    left = np.arange(size)
    while len(left):
        x = discrete_laplace(rng, t, len(left))
        keep = rng.random(len(left)) < np.exp(-((np.abs(x) - deviation**2 / t) ** 2) / (2 * deviation**2))
        found[left[keep]] = x[keep]
        left = left[~keep]
    return found


def counted_rows(site: Site, cfg: Noised) -> np.ndarray:
    """bool[n]: rows that count, of each patient the first `rows_per_patient`.

    Raises:
      RequestError: unit=patient, and whose the rows are is not known.
    """
    if cfg.unit == "record":
        return np.ones(site.n, np.bool_)
    require(
        site.patient is not None,
        "unit=patient needs to know whose each row is; use data=table with data.patient=COLUMN, or set "
        "unit=record",
    )
    assert site.patient is not None
    first = np.flatnonzero(np.diff(site.patient, prepend=site.patient[0] - 1))  # of each patient's rows
    position = np.arange(site.n) - np.repeat(first, np.diff(first, append=site.n))
    counted: np.ndarray = position < cfg.rows_per_patient
    return counted


def statement(noise: Noise, covered: str, public: str) -> dict[str, Any]:
    """What is promised, to whom, and on what it rests."""
    cfg = noise.cfg
    pure = cfg.mechanism == "laplace"
    who = "replaced by another" if cfg.relation == "replace_one" else "added or removed"
    notes = [
        "the noise follows from the seed, as in any simulation: who knows it takes the noise off",
        f"each site adds noise to its own counts, of {noise.multiplier:.4g} x the most that one {cfg.unit} "
        f"adds to them; a {cfg.unit} may be {who}",
        f"public, and not protected: {public}",
        "each answer costs its epsilon: of several, the epsilons add up",
    ]
    if cfg.unit == "patient":
        notes.append(f"of each patient at a site the first rows count, {cfg.rows_per_patient} at most")
    else:
        notes.append("a person with several rows is protected in each of them alone")
    return {
        "mechanism": cfg.mechanism,
        "epsilon": noise.epsilon,
        "delta": noise.delta,
        "unit": cfg.unit,
        "relation": cfg.relation,
        "sampling": "all",
        "accountant": None if pure else "rdp",
        "conversion": "none: the guarantee is pure" if pure else accountants.CONVERSION["rdp"],
        "noise_multiplier": noise.multiplier,
        "noise_deviation": sqrt(noise.variance),
        "covered": [covered],
        "notes": notes,
    }
