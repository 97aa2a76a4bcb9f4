"""Updates of a frozen model by a site's own rows, and the closed test that chooses the smallest that will do.

A patient's frozen linear predictor is lp = logit p. The updates are nested, and each is a logistic
regression with lp as offset:

  keep       lp
  intercept  a + lp
  slope      a + b lp
  refit      a + x c, all coefficients again

Sources: Steyerberg et al., Statistics in Medicine 2004, 23:2567, methods 0, 1, 2 and 4 without selection; the
closed test: Vergouwe et al., "A closed testing procedure to select an appropriate method for updating
prediction models", Statistics in Medicine 2017, 36:4529.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fedsim.config.validation import Update
from fedsim.validation import logistic
from fedsim.validation.logistic import Fit, Floats, Part

Z = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Updated:
    """A model after an update.

    parameters: how many were estimated, columns that others determine left out.
    fit: of the changes against the frozen model: [intercept], [intercept, slope - 1], or [intercept,
      coefficients - frozen ones] on the scale of `x`; None for keep.
    """

    name: Update
    parameters: int
    log_likelihood: float
    fit: Fit | None

    def predict(self, x: Floats | None, lp: Floats) -> Floats:
        """Linear predictors [n] of rows with features x [n, F] and frozen linear predictors lp [n]."""
        if self.fit is None:
            return lp
        made: Floats = lp + design(self.name, x, lp) @ self.fit.coefficients
        return made

    @property
    def separated(self) -> bool:
        return self.fit is not None and self.fit.separated


def design(name: Update, x: Floats | None, lp: Floats) -> Floats:
    """The columns [n, p] whose coefficients an update estimates, beside the offset lp."""
    ones = np.ones((lp.size, 1), np.float64)
    if name in ("intercept", "baseline"):
        return ones
    if name == "slope":
        return np.column_stack([ones, lp])
    assert name == "refit" and x is not None
    return np.column_stack([ones, x])


def fit_update(name: Update, x: Floats | None, lp: Floats, y: Floats, ridge: float = 0.0) -> Updated:
    """Fit one update.

    Args:
      x: [n, F], for refit; lp is an affine map of it. lp, y: [n], y 0 or 1.
      ridge: penalty on changes of everything but the intercept.
    """
    if name == "keep":
        return Updated("keep", 0, logistic.log_likelihood(y, lp), None)
    columns = design(name, x, lp)
    penalty = np.full(columns.shape[1], ridge, np.float64)
    penalty[0] = 0.0
    found = logistic.fit([Part(columns, y, lp)], penalty)
    return Updated(name, found.rank, found.log_likelihood, found)


@dataclass(frozen=True)
class Test:
    """Likelihood-ratio test of the largest update against a smaller one. df: parameters between them."""

    __test__ = False  # pytest takes it for one of its own

    against: Update
    statistic: float
    df: int
    p: float


@dataclass(frozen=True)
class Choice:
    """What the closed test chose; None where it could not be made, and why."""

    update: Update | None
    tests: tuple[Test, ...]
    reason: str


def choose(fitted: Sequence[Updated], alpha: float) -> Choice:
    """The smallest update that the largest one is not significantly better than.

    The largest is tested against each smaller one in order, all at level `alpha`, until a test is not
    significant; no correction is needed, since a test counts only where all before it were significant, and
    so the frozen model is given up wrongly in at most a share `alpha` of validations (in large samples).

    Args:
      fitted: nested updates by maximum likelihood, from the least to the largest.
    """
    largest = fitted[-1]
    parted = next((update.name for update in fitted if update.separated), None)
    if parted is not None:
        return Choice(
            None,
            (),
            f"{parted} has no maximum of the likelihood: the site's rows part events from others perfectly "
            f"(separation); plan updates without it, or validate at more patients",
        )
    tests: list[Test] = []
    for smaller in fitted[:-1]:
        df = largest.parameters - smaller.parameters
        statistic = max(2.0 * (largest.log_likelihood - smaller.log_likelihood), 0.0)
        p = float(stats.chi2.sf(statistic, df)) if df > 0 else 1.0
        tests.append(Test(smaller.name, statistic, df, p))
        if p > alpha:
            said = f"{largest.name} is not significantly better than {smaller.name} (p = {p:.3g})"
            return Choice(smaller.name, tuple(tests), said)
    if not tests:
        return Choice(largest.name, (), f"the plan has {largest.name} alone")
    below = ", ".join(test.against for test in tests)
    return Choice(largest.name, tuple(tests), f"{largest.name} is significantly better than {below}")


def estimates(
    update: Updated, names: Sequence[str], frozen: Floats, scale: Floats
) -> list[dict[str, object]]:
    """What an update estimated, with Wald's 95 % intervals.

    Args:
      names: of the features; frozen: the model's coefficients on the scale of the input, [F]; scale: [F],
        what input is multiplied by on the way into `x`.

    Returns:
      One mapping per estimate: term, frozen, value, low, high, estimated. Intercepts are changes against
      the frozen one on the scale of `x`, coefficients are the new ones, in logits per unit of the input.
    """
    if update.fit is None:
        return []
    change, kept = update.fit.coefficients, update.fit.kept
    error = np.sqrt(np.maximum(np.diag(update.fit.covariance), 0.0))
    rows = [estimate("intercept", 0.0, change[0], error[0], kept[0])]
    if update.name == "slope":
        rows.append(estimate("slope", 1.0, 1.0 + change[1], error[1], kept[1]))
    elif update.name == "refit":
        rows += [
            estimate(name, old, old + change[1 + i] * scale[i], error[1 + i] * scale[i], kept[1 + i])
            for i, (name, old) in enumerate(zip(names, frozen.tolist(), strict=True))
        ]
    return rows


def estimate(
    term: str, frozen: float, value: float, error: float, kept: np.bool_ | NDArray[np.bool_]
) -> dict[str, object]:
    """One row of `estimates`. error: standard; kept: whether the site's rows determine the value."""
    known = bool(kept) and error > 0
    low, high = (float(value - Z * error), float(value + Z * error)) if known else (None, None)
    return {
        "term": term,
        "frozen": frozen,
        "value": float(value),
        "low": low,
        "high": high,
        "estimated": bool(kept),
    }
