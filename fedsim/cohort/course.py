"""What becomes of patients after their index date: death by cause, admissions, money.

Death has proportional hazards over a baseline whose logarithm is piecewise linear in log time, so that one,
three and five years can be solved for; the time from a discharge (or a diagnosis outside wards) to the next
admission is Weibull. Death ends admissions; leaving the region or the end of the data censors both.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

from fedsim.cohort import constants as c
from fedsim.cohort import effects as e
from fedsim.cohort.codes import DRUGS
from fedsim.cohort.draws import Draws
from fedsim.cohort.patients import AFTER, AT, Setting, figure, spread

YEAR = 365.25
PER_ADMISSION = ("gap", "planned", "stay", "reason")  # drawn for each admission, from word `AFTER` on
NEVER = 1_000_000  # days
FIRST_YEAR = 365  # days over which cost is counted


def term(name: str, who: dict[str, Any], xp: Any) -> Any:
    """The covariate that an effect of `constants` multiplies, about 0 for a usual patient."""
    if name == "age":
        return (who["age"] - np.float32(80)) * np.float32(0.1)
    if name == "not_phenotyped":
        return 1 - who["has_lvef"].astype(np.float32)
    if name == "nyha":
        return who["nyha"].astype(np.float32) - np.float32(2.3)
    if name == "deprivation":
        return who["deprivation"].astype(np.float32) - np.float32(3)
    if name in c.SPREADS or name == "frailty":
        return xp.clip(who[f"z_{name}"], np.float32(-3), np.float32(3))
    return who[name].astype(np.float32)


def predictor(effects: dict[str, e.Effect], who: dict[str, Any], xp: Any, seen: bool = False) -> Any:
    """Sum of effects, float32[n].

    seen: of what is recorded only: frailty is in no record, diagnoses count as coded, and what was not
    measured as the average. The ejection fraction decides between two effects where it was measured.
    """
    preserved = (who["lvef"] >= np.float32(50)).astype(np.float32)
    if seen:
        preserved = xp.where(who["has_lvef"], preserved, np.float32(0.35))
    total = xp.zeros_like(preserved)
    for name, effect in effects.items():
        if seen and name == "frailty":
            continue
        x = who[f"coded_{name}"].astype(np.float32) if seen and f"coded_{name}" in who else None
        x = term(name, who, xp) if x is None else x
        if seen and f"has_{name}" in who:
            x = xp.where(who[f"has_{name}"], x, np.float32(0))
        weight = np.float32(effect.reduced)
        if effect.preserved != effect.reduced:
            weight = weight + np.float32(effect.preserved - effect.reduced) * preserved
        total = total + weight * x
    return total


def death_risk(who: dict[str, Any], setting: Setting, xp: Any, seen: bool = False) -> Any:
    """Log hazard ratio of death, place and year included."""
    place = setting.place
    trend = figure("hazard_trend") * place["drift"] * (who["year"] - np.float32(2022))
    own = place["mortality"] + (figure("hazard_registry") if setting.selection == "registry" else 0)
    return predictor(e.DEATH, who, xp, seen) + trend + own


def years_to_death(cumulative: Any, xp: Any) -> Any:
    """Years at which the baseline's cumulative hazard is `cumulative`."""
    hazards = [figure(f"hazard_{t}y") for t in (1, 3, 5)]
    at = [np.float32(log(h)) for h in hazards]
    t = [np.float32(log(v)) for v in (1, 3, 5)]
    h = xp.log(cumulative)
    first = t[0] + (h - at[0]) / figure("hazard_shape")
    slopes = [(t[i + 1] - t[i]) / (at[i + 1] - at[i]) for i in (0, 1)]
    second = t[0] + (h - at[0]) * slopes[0]
    third = t[1] + (h - at[1]) * slopes[1]  # also beyond five years
    # Nobody's time overflows: e^7 years.
    return xp.exp(xp.clip(xp.where(h < at[0], first, xp.where(h < at[1], second, third)), -12.0, 7.0))


def course(draws: Draws, setting: Setting, who: dict[str, Any]) -> dict[str, Any]:
    """All that becomes of them.

    Returns:
      What `fate` does, and:
      start, stop, planned, inside: [ADMISSIONS, n], admissions after it; `inside` ones begin by `end`.
      unplanned: day of the first unplanned admission counted from discharge, `NEVER` for none by `end`.
      cost, cost_inpatient: SEK in the first 365 days, or up to `end`; outpatient_gap, primary_gap: days
      between such visits, and their phase in (0, 1).
    """
    out = fate(draws, setting, who)
    out |= _admissions(draws, who, out)
    return out | _money(draws, who, out)


def fate(draws: Draws, setting: Setting, who: dict[str, Any]) -> dict[str, Any]:
    """Death, and the index admission. Days count from the index date, whole, int32; that date is day 0.

    Returns:
      death: day of death, known or not, at least 1. end: last day known of: death, leaving, end of data.
      died: whether that is death. cardiovascular: the cause.
      stay: days of the index admission, 0 outside wards; discharged: alive and known of at its end.
    """
    xp = draws.xp
    out: dict[str, Any] = {"death_risk": death_risk(who, setting, xp)}
    hazard = draws.exponential(AT["death"]) * xp.exp(-out["death_risk"])
    days = years_to_death(hazard, xp) * np.float32(YEAR)
    out["death"] = xp.maximum(xp.ceil(xp.clip(days, 1, 100_000)).astype(np.int32), 1)
    odds = figure("cardiovascular") + predictor(e.CARDIOVASCULAR, who, xp)
    out["cardiovascular"] = draws.uniform(AT["cause"]) < 1 / (1 + xp.exp(-odds))
    away = draws.exponential(AT["moving"]) * np.float32(YEAR / c.FIGURES["moving"].value)
    away = xp.ceil(xp.clip(away, 1, 100_000)).astype(np.int32)
    known = xp.minimum(setting.last_day - who["index_day"], away)
    out["died"] = out["death"] <= known
    out["end"] = xp.minimum(out["death"], known)
    shifted = who["z_length_of_stay"] + figure("stay_shift")  # who lies on wards is sicker than all
    stay = xp.rint(spread("length_of_stay", shifted, xp)).astype(np.int32)
    out["stay"] = xp.where(who["inpatient"], xp.minimum(stay, out["end"]), 0)
    out["discharged"] = who["inpatient"] & (out["stay"] < out["end"])
    return out


def _admissions(draws: Draws, who: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    xp = draws.xp
    risk = predictor(e.ADMISSION, who, xp)
    shape = c.FIGURES["admission_shape"].value
    # Weibull by inversion: 100 days (E / (hazard at 100 days)) ^ (1 / shape).
    scale = 100 * xp.exp(-(risk + np.float32(log(c.FIGURES["admission_100d"].value))) * np.float32(1 / shape))
    kept = c.FIGURES["stay_kept"].value
    fresh = np.float32((1 - kept**2) ** 0.5)
    at_home = np.float32(c.FIGURES["admission_at_home"].value ** (-1 / shape))
    day, first = known["stay"], xp.full_like(known["stay"], NEVER)
    found: dict[str, list[Any]] = {"start": [], "stop": [], "planned": [], "inside": []}
    for i in range(c.ADMISSIONS):
        gap_at, planned_at, stay_at, _ = (AFTER + len(PER_ADMISSION) * i + j for j in range(4))
        gap = scale * xp.exp(xp.log(draws.exponential(gap_at)) * np.float32(1 / shape))
        if i == 0:
            gap = xp.where(who["inpatient"], gap, gap * at_home)
        start = day + xp.ceil(xp.clip(gap, 1, 50_000)).astype(np.int32)
        z = np.float32(kept) * who["z_length_of_stay"] + fresh * draws.normal(stay_at)
        stop = start + xp.rint(spread("length_of_stay", z, xp)).astype(np.int32)
        planned = draws.uniform(planned_at) < figure("planned")
        inside = start < known["end"]
        first = xp.where((first == NEVER) & inside & ~planned, start - known["stay"], first)
        for key, value in (("start", start), ("stop", xp.minimum(stop, known["end"]))):
            found[key].append(value)
        found["planned"].append(planned)
        found["inside"].append(inside)
        day = stop
    return {"admission_risk": risk, "unplanned": first} | {k: xp.stack(v) for k, v in found.items()}


def visits_until(day: Any, gap: Any, phase: Any, xp: Any) -> Any:
    """How many of the visits at (k + phase) * gap days, k = 0, 1, ..., are before `day`: int32[n]."""
    return xp.maximum(xp.ceil(day.astype(np.float32) / gap - phase), 0).astype(np.int32)


def admission_cost(stay: Any) -> Any:
    """SEK of an admission of `stay` days, the visit to the emergency department left out."""
    return figure("admission") + figure("bed_day") * stay.astype(np.float32)


def drugs_of(who: dict[str, Any], names: Any) -> Any:
    """How many drugs each patient has, float32[n]."""
    return sum(who[name].astype(np.float32) for name in names)


def _money(draws: Draws, who: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    xp = draws.xp
    # Whom wards see often, clinics see more, too.
    often = xp.exp(figure("clinic_often") * xp.clip(known["admission_risk"] - 1, -2, 2))
    until = xp.minimum(known["end"], FIRST_YEAR)
    out: dict[str, Any] = {}
    cost = xp.zeros_like(often)
    for kind in ("outpatient", "primary"):
        gap = np.float32(YEAR) / (figure(f"{kind}_rate") * often)
        phase = draws.uniform(AT[kind])
        out |= {f"{kind}_gap": gap, f"{kind}_phase": phase}
        visits = visits_until(until, gap, phase, xp).astype(np.float32)
        cost = cost + visits * figure(f"{kind}_visit")
    cost = cost + xp.where(who["inpatient"], np.float32(0), figure("outpatient_visit"))  # the index visit
    cost = cost + drugs_of(who, DRUGS) * until.astype(np.float32) * np.float32(
        c.FIGURES["drug_year"].value / YEAR
    )
    inside = known["inside"] & (known["start"] < FIRST_YEAR)
    wards = xp.where(inside, admission_cost(known["stop"] - known["start"]), 0.0).sum(axis=0)
    wards = wards + xp.where(who["inpatient"], admission_cost(known["stay"]), 0.0)
    emergencies = (inside & ~known["planned"]).sum(axis=0) + who["inpatient"].astype(np.int32)
    cost = cost + emergencies.astype(np.float32) * figure("emergency_visit")
    return out | {"cost_inpatient": wards.astype(np.float32), "cost": (cost + wards).astype(np.float32)}
