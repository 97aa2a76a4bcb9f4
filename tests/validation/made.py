"""A frozen linear model, its regions and a site outside, made of Gaussian patients."""

import numpy as np
import pytest
from scipy import special

from fedsim.config.validation import ValidationPlan
from fedsim.validation.rows import Frozen, Region, Rows, folds_of

__all__ = ["at_home_and_away", "folds_of", "frozen", "near", "plan", "rows", "score", "timed"]
WEIGHTS = np.array([1.0, -0.8, 0.5])
NAMES = ("age", "ef", "creatinine")


def score(x):
    return -0.3 + x @ WEIGHTS


def rows(name, n, seed, *, shift=0.0, scale=1.0, truth=score, patient=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, scale, (n, 3))
    y = (rng.random(n) < special.expit(truth(x))).astype(np.float64)
    return Rows(name, x.copy(), x, y, score(x), patient)


def frozen(site, regions=None):
    if regions is None:
        regions = [Region(rows(name, 400, i), rows(name, 300, 10 + i)) for i, name in enumerate(("H", "K"))]
    return Frozen(
        run="a1", model_sha256="b2", features=NAMES, outcome="died against not", site=site,
        regions=tuple(regions), scale=np.ones(3), coefficients=WEIGHTS, score=score,
    )  # fmt: skip


def plan(**options):
    fixed = {"run": "a1", "model_sha256": "b2", "site": "S", "outcome": "died against not", "bootstrap": 100}
    return ValidationPlan(**{**fixed, "adapt": False, **options})


def near(row, truth, value="value"):
    """Whether an estimate is within four standard errors, by its 95 % interval, of the truth."""
    return abs(row[value] - truth) < 4 * (row["high"] - row["low"]) / (2 * 1.96)


def timed(name, n, seed, *, shift=0.0, truth=lambda x: x @ WEIGHTS):
    """Patients with hazard 0.2 exp(truth) a year, the follow-up of whom ends between 2 and 8 years."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, (n, 3))
    happens, left = rng.exponential(size=n) / np.exp(truth(x)) / 0.2, rng.uniform(2, 8, n)
    event = (happens <= left).astype(np.float64)
    return Rows(name, x.copy(), x, event, x @ WEIGHTS, None, np.minimum(happens, left))


def at_home_and_away(found, update, metric):
    """Rows of region H's adaptation, at home and at the others K and S together, whose gains are checked."""
    rows = {
        row["judged_at"]: row
        for row in found
        if (row["region"], row["update"], row["metric"]) == ("H", update, metric)
    }
    home, away = rows["H"], rows["others"]
    assert home["gain"] == pytest.approx(home["frozen"] - home["value"])
    assert away["gain"] == pytest.approx(np.mean([rows["K"]["gain"], rows["S"]["gain"]]))
    return home, away
