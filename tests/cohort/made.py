"""Cohorts that several tests look at, and the few statistics that they need."""

from functools import cache

import numpy as np

from fedsim.cohort import Cohort
from fedsim.config import Dials, HeartFailure

NATIONAL = Dials(**dict.fromkeys(Dials.__dataclass_fields__, 0.0))
PATIENTS = 100_000


@cache
def national(selection="population", patients=PATIENTS):
    """(patients, course) of the country: no region differs, no year does."""
    cfg = HeartFailure(regions="halland", external=(), patients=patients, selection=selection, dials=NATIONAL)
    return Cohort(cfg).made(0, 0, patients)


@cache
def region(name, patients=40_000, **changed):
    """(patients, course) of a region as it is, or with other dials."""
    cfg = HeartFailure(regions=name, external=(), patients=patients, dials=Dials(**changed))
    return Cohort(cfg).made(0, 0, patients)


def dead_by(then, days):
    """Kaplan and Meier's estimate of the share dead within `days`."""
    end, died = then["end"], then["died"]
    day, at = np.unique(end, return_inverse=True)
    deaths, leaving = np.bincount(at, died), np.bincount(at)
    at_risk = len(end) - np.concatenate([[0], np.cumsum(leaving)[:-1]])
    alive = np.cumprod(1 - deaths / at_risk)
    before = np.searchsorted(day, days, side="right")
    return float(1 - alive[before - 1]) if before else 0.0


def known_100(then):
    """Of whom readmission within 100 days is known, as in the table."""
    return then["discharged"] & (
        (then["unplanned"] <= 100) | then["died"] | (then["end"] - then["stay"] >= 100)
    )
