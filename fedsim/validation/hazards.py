"""Updates of a frozen Cox model by a site's own rows: the counterparts of `updates` for times to an event.

The frozen model is a cumulative baseline hazard H(t) and a log relative risk lp. The updates are nested:

  keep      H(t) exp(lp)
  baseline  H(t) exp(a + lp): one factor, so that the events that are expected are those observed
  slope     H(t) exp(a + b lp)
  refit     H(t) exp(a + x c), all coefficients again

Coefficients maximise the partial likelihood, whatever the baseline is; the factor then makes observed and
expected events equal. keep is held against baseline by the likelihood ratio of the number of events, D, as
Poisson's with mean E, the sum of H(t_i) exp(lp_i): 2 (D log(D / E) - D + E), with one degree of freedom. If
the frozen model is right, D - E and the score of the partial likelihood are integrals over the same
martingales, of 1 and of x - mean(x at risk), hence uncorrelated: the two statistics add up to a chi-square.

Sources: van Houwelingen, "Validation, calibration, revision and combination of prognostic survival models",
Statistics in Medicine 2000, 19:3401; the score's martingales: Andersen, Gill, Annals of Statistics 1982; the
closed test: Vergouwe et al., Statistics in Medicine 2017, 36:4529, see `updates.choose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fedsim.config.validation import Update
from fedsim.validation import cox
from fedsim.validation.logistic import Fit, Floats
from fedsim.validation.updates import Updated, design

Hazard = Callable[[Floats], Floats]  # times [n] -> the cumulative baseline hazard there


def fit_update(
    name: Update,
    x: Floats | None,
    lp: Floats,
    event: Floats,
    time: Floats,
    hazard: Floats,
    ridge: float = 0.0,
) -> Updated:
    """Fit one update; its `predict` gives log relative risks that go with the frozen baseline hazard.

    Args:
      x: [n, F], for refit; lp is an affine map of it. event: [n], 1 or 0 (censored), one event at least;
        time: [n], to the event or the end of follow-up; hazard: [n], H at that time.
      ridge: penalty on changes of everything but the factor.

    Returns:
      parameters: the factor of the baseline is one. log_likelihood: of the partial likelihood, for keep with
      that of D given E less its maximum. fit: of [a], [a, b - 1] or [a, c - frozen ones].
    """
    columns = design("slope" if name in ("keep", "baseline") else name, x, lp)[:, 1:]
    changed = name in ("slope", "refit")
    found = cox.fit(columns if changed else columns[:, :0], event, time, lp, ridge)
    observed = float(event.sum())
    expected = hazard * np.exp(lp + columns @ found.coefficients if changed else lp)
    total = float(expected.sum())
    if name == "keep":
        poisson = observed * math.log(total / observed) - total + observed
        return Updated("keep", 0, found.log_likelihood + poisson, None)
    # Beside the noise of D, the factor has that of the coefficients, through E.
    mean = (expected @ columns / total)[: len(found.coefficients)]
    size = 1 + len(found.coefficients)
    covariance = np.zeros((size, size), np.float64)
    covariance[1:, 1:] = found.covariance
    covariance[0, 1:] = covariance[1:, 0] = -mean @ found.covariance
    covariance[0, 0] = 1.0 / observed + float(mean @ found.covariance @ mean)
    whole = Fit(
        np.concatenate([[math.log(observed / total)], found.coefficients]),
        covariance,
        found.log_likelihood,
        np.concatenate([[True], found.kept]),
        found.separated,
    )
    return Updated(name, whole.rank, found.log_likelihood, whole)
