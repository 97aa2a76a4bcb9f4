"""What a model may see at the index date, and what became of it: one row per patient.

Features are of the index date and before: nothing of `course` is among them but the length of the stay, which
is known at the discharge that readmission counts from.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from fedsim.base import require
from fedsim.cohort import codes
from fedsim.cohort.course import FIRST_YEAR, death_risk, predictor
from fedsim.cohort.effects import ADMISSION
from fedsim.cohort.patients import CONDITIONS, LABS, Selection, Setting
from fedsim.cohort.population import Cohort
from fedsim.cohort.records import EPOCH
from fedsim.config import HeartFailure

LOGS = ("nt_probnp", "creatinine")  # whose logarithm is the feature: they are skewed
DRUGS = tuple(codes.DRUGS)
MEASURED = tuple(f"log_{name}" if name in LOGS else name for name in (*LABS, "lvef"))
FEATURES = (
    *("age", "male", "deprivation", "living_alone", "education", "smoking=former", "smoking=current"),
    *("year", "inpatient", "prior_admissions", "duration_months", "phenotyped", "nyha"),
    *CONDITIONS,
    *MEASURED,
    *DRUGS,
    *("pacemaker", "crt_icd", "length_of_stay"),
)
OUTCOMES = ("death_1y", "survival", "readmission_30", "readmission_100", "length_of_stay", "cost")
# No admission after the index has a part in these, so none is made.
WITHOUT_ADMISSIONS = ("death_1y", "survival", "length_of_stay")
# Length of stay is known at the end of the stay only.
AT_DISCHARGE = ("readmission_30", "readmission_100")
KNOWN_DAYS = {"death_1y": 365, "readmission_30": 30, "readmission_100": 100, "cost": FIRST_YEAR}


class Rows(NamedTuple):
    """patient: int64[n], index in the region. day: int64[n], the index date, in days since 1970. x:
    float32[n, features], NaN where not measured. y: float32[n]. time: float32[n], days to death or censoring,
    for outcome survival; else None."""

    patient: np.ndarray
    day: np.ndarray
    x: np.ndarray
    y: np.ndarray
    time: np.ndarray | None


def features(outcome: str, selection: Selection) -> tuple[str, ...]:
    """Names of the features, in the order of their columns: the stay where it is over, and how long the heart
    has been failing where that is not 0 for all."""
    discharged = outcome in AT_DISCHARGE  # so everyone lay on a ward
    absent = {"length_of_stay": not discharged, "inpatient": discharged}
    absent["duration_months"] = selection == "population"
    return tuple(name for name in FEATURES if not absent.get(name))


def feature(name: str, who: dict[str, Any], then: dict[str, Any], harmonise: bool, xp: Any) -> Any:
    """One column, float32[n]."""
    missing = np.float32(np.nan)
    if name == "length_of_stay":
        return then["stay"].astype(np.float32)
    if name == "phenotyped":
        return who["has_lvef"].astype(np.float32)
    if name == "pacemaker":
        return (who["device"] == 1).astype(np.float32)
    if name.startswith("smoking="):
        level = codes.SMOKING.index(name.removeprefix("smoking="))
        return xp.where(who["has_smoking"], (who["smoking"] == level).astype(np.float32), missing)
    if name in CONDITIONS:
        return who[f"coded_{name}"].astype(np.float32)
    raw = name.removeprefix("log_")
    value = who[raw].astype(np.float32)
    if f"unit_{raw}" in who and not harmonise:
        other = codes.FACTOR[raw, codes.UNITS_OF[raw][1]]
        value = xp.where(who[f"unit_{raw}"], value * np.float32(other), value)
    if name.startswith("log_"):
        value = xp.log(value)
    return xp.where(who[f"has_{raw}"], value, missing) if f"has_{raw}" in who else value


def outcome_of(outcome: str, who: dict[str, Any], then: dict[str, Any], xp: Any) -> tuple[Any, Any]:
    """(y float32[n], known bool[n]) of an outcome; for survival y is whether death was seen.

    death_1y and cost are known of who died or was followed for a year; readmission of who left a ward alive,
    and then was readmitted, died or was followed that long: death before is no readmission. cost of who died
    earlier is what was spent until then. A length of stay is 0 outside wards; one that ends by death counts.
    """
    everyone = xp.ones_like(who["male"])
    if outcome == "survival":
        return then["died"].astype(np.float32), everyone
    if outcome == "length_of_stay":
        return then["stay"].astype(np.float32), everyone
    days = KNOWN_DAYS[outcome]
    if outcome in AT_DISCHARGE:
        y = then["unplanned"] <= days
        followed = then["end"] - then["stay"] >= days
        return y.astype(np.float32), then["discharged"] & (y | then["died"] | followed)
    known = then["died"] | (then["end"] >= days)
    y = then["cost"] if outcome == "cost" else (then["died"] & (then["end"] <= days)).astype(np.float32)
    return y, known


def columns(cfg: HeartFailure, who: dict[str, Any], then: dict[str, Any], xp: Any) -> tuple[Any, Any, Any]:
    """(x float32[n, features], y float32[n], known bool[n]), with NumPy or in a compiled program."""
    named = features(cfg.outcome, cfg.selection)
    x = xp.stack([feature(name, who, then, cfg.harmonise, xp) for name in named], axis=-1)
    return x, *outcome_of(cfg.outcome, who, then, xp)


def oracle(outcome: str, who: dict[str, Any], setting: Setting, xp: Any) -> Any:
    """The true linear predictor of what is recorded, float32[n]: what no model can be much better than.

    Raises:
      RequestError: an outcome without one.
    """
    require(outcome in ("death_1y", "survival", *AT_DISCHARGE), f"outcome {outcome} has no linear predictor")
    if outcome in AT_DISCHARGE:
        return predictor(ADMISSION, who, xp, seen=True)
    return death_risk(who, setting, xp, seen=True)


def table(cohort: Cohort, workers: int | None = None) -> list[Rows]:
    """Rows of every region whose outcome is known, in the order of patients.

    workers: threads (NumPy lets them run side by side); default: one per usable core. They change nothing.
    """
    cfg = cohort.cfg
    pieces = list(cohort.chunks())

    def one(piece: tuple[int, int, int]) -> Rows:
        who, then = cohort.made(*piece, admissions=cfg.outcome not in WITHOUT_ADMISSIONS)
        x, y, known = columns(cfg, who, then, np)
        patient = np.arange(piece[1], piece[2], dtype=np.int64)
        day = who["index_day"].astype(np.int64) + EPOCH.astype(np.int64)
        time = then["end"].astype(np.float32) if cfg.outcome == "survival" else None
        if known.all():
            return Rows(patient, day, x, y, time)
        return Rows(patient[known], day[known], x[known], y[known], time)

    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        made = list(pool.map(one, pieces))
    found = []
    for k in range(len(cohort.regions)):
        own = [rows for rows, piece in zip(made, pieces, strict=True) if piece[0] == k]
        time = None if own[0].time is None else np.concatenate([r.time for r in own if r.time is not None])
        parts = ("patient", "day", "x", "y")
        patient, day, x, y = (np.concatenate([getattr(r, key) for r in own]) for key in parts)
        found.append(Rows(patient, day, x, y, time))
    return found
