"""Updates of a frozen discrete-time model by a site's own rows: `updates` for hazards in intervals.

A patient is a row in every interval at risk: 1 in that of the event, 0 in those that were lived through. The
likelihood of the times is that of these rows, as if they were independent and their probability the hazard,
so that every update is a logistic regression with the logit z of the frozen model's hazard as offset:

  keep       z
  intercept  a + z, one a for all intervals
  slope      a + b z
  refit      e_k + x c, in interval k: all coefficients again, and the baseline

Sources: Allison, "Discrete-Time Methods for the Analysis of Event Histories", Sociological Methodology 1982,
13:61, and Tutz, Schmid, "Modeling Discrete Time-to-Event Data", Springer 2016, chapter 3, for the rows and
their likelihood; the closed test: Vergouwe et al., Statistics in Medicine 2017, 36:4529, see
`updates.choose`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedsim.config.validation import Update
from fedsim.validation import logistic, updates
from fedsim.validation.logistic import Fit, Floats, Part
from fedsim.validation.rows import Periods
from fedsim.validation.updates import Updated

FEWEST = 10  # events, and as many without, for a change of the baseline of its own


def fit_update(
    name: Update, x: Floats, rows: Periods, baseline: Floats | None = None, ridge: float = 0.0
) -> Updated:
    """Fit one update.

    Args:
      x: [n, F], for refit. baseline: [m], the logits at x = 0 of a linear model, for refit.
      ridge: penalty on changes of everything but one intercept.

    Returns:
      log_likelihood: of the rows in intervals. fit: of [a], [a, b - 1], or for refit [e_1, ..., e_m, c] less
      the frozen ones. parameters: how many were estimated; the e_k have fewer than m where some are `shared`.
    """
    row, interval = np.nonzero(rows.survived | rows.failed)
    y, z = rows.failed[row, interval].astype(np.float64), rows.logits[row, interval]
    if name != "refit":
        return updates.fit_update(name, None, z, y, ridge)
    assert baseline is not None
    group = shared(rows)
    own = (group[:, None] == np.arange(group.max() + 1)).astype(np.float64)
    # Beside the groups' own changes a multiple of the baseline's shape, so that slope is inside refit.
    effects = np.column_stack([np.ones(len(group)), own, baseline])
    columns = np.column_stack([effects[interval], x[row]])
    penalty = np.full(columns.shape[1], ridge, np.float64)
    penalty[0] = 0.0
    found = logistic.fit([Part(columns, y, z)], penalty)
    m, features = len(group), x.shape[1]
    each = np.zeros((m + features, columns.shape[1]), np.float64)
    each[:m, : effects.shape[1]] = effects
    each[m:, effects.shape[1] :] = np.eye(features)
    changes = Fit(
        each @ found.coefficients,
        each @ found.covariance @ each.T,
        found.log_likelihood,
        np.concatenate([np.ones(m, np.bool_), found.kept[effects.shape[1] :]]),
        found.separated,
    )
    return Updated("refit", found.rank, found.log_likelihood, changes)


def after(update: Updated, x: Floats, logits: Floats) -> Floats:
    """Logits [n, m] of the hazards after an update, of rows with features x [n, F]."""
    if update.name != "refit":
        return update.predict(None, logits.ravel()).reshape(logits.shape)
    assert update.fit is not None
    m = logits.shape[1]
    made: Floats = logits + update.fit.coefficients[:m] + (x @ update.fit.coefficients[m:])[:, None]
    return made


def shared(rows: Periods) -> NDArray[np.int64]:
    """i64[m]: intervals that follow one another share a change of the baseline, until 10 patients had their
    event in them and 10 intervals were lived through; those that are left over are with the ones before.

    An interval without an event would have no maximum of the likelihood of its own.
    """
    group = np.zeros(rows.logits.shape[1], np.int64)
    g = events = without = 0
    for k, (failed, survived) in enumerate(
        zip(rows.failed.sum(axis=0), rows.survived.sum(axis=0), strict=True)
    ):
        group[k] = g
        events, without = events + int(failed), without + int(survived)
        if min(events, without) >= FEWEST:
            g, events, without = g + 1, 0, 0
    return np.minimum(group, max(g - 1, 0))


def log_cumulative(logits: Floats) -> Floats:
    """Logarithm of the cumulative hazard by the end of each interval, [n, m], of hazards' logits [n, m]; its
    exponential is -log of the product of 1 - h."""
    # Far below 0, log(softplus(z)) is z, where softplus itself would round to 0.
    log_hazard = np.where(logits < -30.0, logits, np.log(np.logaddexp(0.0, np.maximum(logits, -30.0))))
    found: Floats = np.logaddexp.accumulate(log_hazard, axis=1)
    return found
