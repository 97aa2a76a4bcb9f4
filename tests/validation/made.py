"""A frozen linear model, its regions and a site outside, made of Gaussian patients."""

import numpy as np
import pytest
from scipy import special

from fedsim.config.validation import ValidationPlan
from fedsim.validation.rows import Frozen, Periods, Region, Rows, folds_of

__all__ = [
    "at_home_and_away",
    "folds_of",
    "followed",
    "frozen",
    "hazards",
    "in_intervals",
    "near",
    "of_intervals",
    "plan",
    "rows",
    "score",
    "timed",
]
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


CUTS = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
BASELINE = np.array([-2.0, -1.0, -1.6, -0.8])  # logits at x = 0 in the intervals between CUTS


def hazards(x):
    return BASELINE + (x @ WEIGHTS)[:, None]


def in_intervals(name, n, seed, *, shift=0.0, truth=hazards, logits=hazards):
    """Patients with logits of hazards `truth`, who leave at ends of intervals, and the frozen `logits`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, (n, 3))
    happens = rng.random((n, 4)) < special.expit(truth(x))
    first = np.where(happens.any(axis=1), happens.argmax(axis=1), 4)
    left = rng.integers(1, 7, n)
    event = first < np.minimum(left, 4)
    time = np.where(event, first + rng.random(n), left)
    return of_intervals(name, x, event, time, logits(x))


def of_intervals(name, x, event, time, logits):
    """Rows whose intervals are counted one by one, between CUTS."""
    survived, failed = np.zeros((2, *logits.shape), bool)
    for i, (t, e) in enumerate(zip(time, event, strict=True)):
        for k in range(logits.shape[1]):
            low, high = CUTS[k], CUTS[k + 1]
            survived[i, k] = t >= (high if e else (low + high) / 2)
            failed[i, k] = e and low <= t < high
    risk = np.log(np.logaddexp(0, logits).sum(axis=1))
    periods = Periods(logits, survived, failed)
    y, t = event.astype(np.float64), np.asarray(time, np.float64)
    return Rows(name, x.copy(), x, y, risk, None, t, periods)


def followed(path, hospitals, *, n=150, seed=0, shift=0.0):
    """Patients with days of follow-up as a CSV file."""
    rng = np.random.default_rng(seed)
    lines = ["hospital,age,ef,days,died"]
    for hospital in hospitals:
        for _ in range(n):
            age, ef = rng.normal(70, 8), rng.normal(40, 10)
            dies = rng.exponential() * 400 / np.exp(0.06 * (age - 70) - 0.04 * (ef - 40) + shift)
            days, died = min(dies, left := rng.uniform(200, 900)), int(dies <= left)
            lines.append(f"{hospital},{age:.2f},{ef:.2f},{np.ceil(days):.0f},{died}")
    path.write_text("\n".join(lines) + "\n")
