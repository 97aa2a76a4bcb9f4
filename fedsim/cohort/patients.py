"""Who the patients are at their index date: latent indices, and what of them would be seen.

Written once over an array namespace: NumPy on the host, or a compiled program that hands in jax.numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from fedsim.cohort import constants as c
from fedsim.cohort.codes import COMORBIDITY, DRUGS, UNITS_OF
from fedsim.cohort.draws import Draws
from fedsim.cohort.regions import second_units

Selection = Literal["population", "registry"]
CONDITIONS = tuple(COMORBIDITY)
LABS = tuple(name for name in UNITS_OF if name not in ("lvef", "nyha"))
EDGES = tuple(NormalDist().inv_cdf(q) for q in (0.2, 0.4, 0.6, 0.8))  # of deprivation quintiles

# What is drawn beside the noise of indices.
OTHERS = (
    *("sex", "index_day", "birthday", "duration", "arni_has", "sglt2i_has", "acei", "device_kind"),
    *(f"measured_{name}" for name in (*LABS, "nyha", "smoking")),
    *(f"unit_{name}" for name in ("nt_probnp", "creatinine", "haemoglobin")),
    *("death", "cause", "moving", "first_gap", "outpatient", "primary", "prior_days", "arni_kind"),
)
AT = {name: at for at, name in enumerate((*c.LOADINGS, *OTHERS))}
AFTER = len(AT)  # the first word that no name here has


@dataclass(frozen=True)
class Setting:
    """What fixes the model for a call: which selection, and the calendar. place: a region's deviations
    (`regions.in_effect`), numbers or float32[n].

    first_day, days: index dates are in [first_day, first_day + days), days since 2000-01-01.
    last_day: end of the data.
    """

    selection: Selection
    place: dict[str, Any]
    first_day: int
    days: int
    last_day: int


@lru_cache(maxsize=1)
def noise() -> dict[str, np.float32]:
    """Index -> deviation of its own noise, so that its variance is 1 where `sex` has mean 0, variance 1."""
    names = ("sex", *c.LOADINGS)
    vectors = {"sex": np.eye(len(names))[0]}
    found = {}
    for at, (name, parents) in enumerate(c.LOADINGS.items(), start=1):
        v = sum((w * vectors[parent] for parent, w in parents.items()), np.zeros(len(names)))
        explained = float(v @ v)
        assert explained < 1, f"loadings of {name} explain {explained:.2f} of its variance"
        found[name] = np.float32(sqrt(1 - explained))
        vectors[name] = v + found[name] * np.eye(len(names))[at]
    return found


def share(name: str, selection: Selection) -> float:
    """A share of `constants.SHARES` of a selection, in [0, 1]; of those who can have it."""
    own = getattr(c.SHARES[name], selection) / 100
    return own / share(c.WITHIN[name], selection) if name in c.WITHIN else own


def figure(name: str) -> np.float32:
    return np.float32(c.FIGURES[name].value)


def threshold(p: float) -> np.float32:
    """What a standard normal exceeds with probability p."""
    return np.float32(NormalDist().inv_cdf(1 - min(max(p, 1e-9), 1 - 1e-9)))


def spread(name: str, z: Any, xp: Any) -> Any:
    """A measurement of index z: its quartiles at those of z, one slope on either side of the median."""
    s, quartile = c.SPREADS[name], NormalDist().inv_cdf(0.75)
    low, mid, high = (log(v) if s.scale == "log" else v for v in (s.lower, s.median, s.upper))
    below, above = np.float32((mid - low) / quartile), np.float32((high - mid) / quartile)
    value = np.float32(mid) + z * xp.where(z < 0, below, above)
    value = xp.exp(value) if s.scale == "log" else value
    return xp.clip(value, *(np.float32(limit) for limit in c.LIMITS[name]))


def _curve(knots: tuple[tuple[float, float], ...], z: Any, xp: Any) -> Any:
    """The value whose share of patients below it is that of a standard normal below z."""
    inverse = NormalDist().inv_cdf
    at = np.array([inverse(min(max(p / 100, 1e-4), 1 - 1e-4)) for _, p in knots], np.float32)
    values = np.array([v for v, _ in knots], np.float32)
    found = values[0] + xp.zeros_like(z)
    # Sums of ramps: the same straight lines as interpolation, a dozen times as fast on chunks.
    for i in range(len(knots) - 1):
        slope = np.float32((values[i + 1] - values[i]) / (at[i + 1] - at[i]))
        found = found + slope * (xp.clip(z, at[i], at[i + 1]) - at[i])
    return found


def patients(draws: Draws, setting: Setting) -> dict[str, Any]:
    """Patients at their index date.

    Returns:
      name -> array [n]. Indices as `z_NAME` float32; conditions as NAME (whether they have it) and
      `coded_NAME` (whether it is recorded), bool; measurements as NAME float32, in the first unit of `codes`
      and within what assays report, with `has_NAME`, bool, whether it was measured; days int32.
    """
    selection, place = setting.selection, setting.place
    out: dict[str, Any] = {}
    p = share("male", selection)
    out["male"] = draws.uniform(AT["sex"]) < np.float32(p)
    unit = np.float32(1 / sqrt(p * (1 - p)))
    z: dict[str, Any] = {"sex": (out["male"].astype(np.float32) - np.float32(p)) * unit}
    out["index_day"] = setting.first_day + (draws.uniform(AT["index_day"]) * setting.days).astype(np.int32)
    year = np.float32(2000) + out["index_day"].astype(np.float32) / np.float32(365.25)
    out["year"] = year
    shift = {
        "age": place["age"] + figure("selection_age") * place["selection"],
        "frailty": -place["selection"],
        "severity": figure("referral_severity") * place["referral"],
        "ejection": figure("referral_ejection") * place["referral"],
        "crt_icd": figure("referral_devices") * place["referral"],
        "phenotyped": place["phenotyping"]
        + figure("echo_trend") * place["drift"] * (year - np.float32(2016)),
    }
    own = noise()
    for name, parents in c.LOADINGS.items():
        value = draws.normal(AT[name]) * own[name]
        for parent, w in parents.items():
            value = value + np.float32(w) * z[parent]
        z[name] = (value + shift[name]).astype(np.float32) if name in shift else value

    out |= _person(draws, setting, z, out)
    out |= _conditions(setting, z)
    out |= _measurements(draws, setting, z)
    out |= _treatment(draws, setting, z, year)
    return out | {f"z_{name}": value for name, value in z.items()}


def _person(draws: Draws, setting: Setting, z: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    xp, selection = draws.xp, setting.selection
    age = _curve(c.AGES[selection], z["age"], xp)
    quintile = 1 + sum((z["deprivation"] > np.float32(edge)).astype(np.int32) for edge in EDGES)
    compulsory, university = (share(f, selection) for f in ("compulsory_school", "university"))
    education = (z["education"] > threshold(1 - compulsory)).astype(np.int32)
    current, former = share("smoking_current", selection), share("smoking_former", selection)
    smoking = (z["smoking"] > threshold(current + former)).astype(np.int32)
    hf, other = share("inpatient_hf", selection), share("inpatient_other", selection)
    levels = ("prior_admission", "prior_admission_2", "prior_admission_3", "prior_admission_4")
    prior = sum((z["prior_admission"] > threshold(share(f, selection))).astype(np.int32) for f in levels)
    long = z["six_months"] > threshold(share("six_months", selection))
    months = draws.uniform(AT["duration"])
    # Of those with less than six months evenly below it.
    months = xp.where(long, 6 - figure("months_known") * xp.log(months), 6 * months)
    return {
        "age": age,
        "birth_day": known["index_day"] - (age * np.float32(365.25)).astype(np.int32),
        "deprivation": quintile,
        "education": education + (z["education"] > threshold(university)).astype(np.int32),
        "living_alone": z["living_alone"] > threshold(share("living_alone", selection)),
        "smoking": smoking + (z["smoking"] > threshold(current)).astype(np.int32),
        "has_smoking": _measured(draws, z, "smoking", c.FIGURES["smoking_missing"].value),
        "inpatient": z["inpatient"] > threshold(hf + other),
        "inpatient_hf": z["inpatient"] > threshold(hf),
        "prior_admissions": prior,
        "duration_months": months if selection == "registry" else xp.zeros_like(months),
    }


def _conditions(setting: Setting, z: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in CONDITIONS:
        at = threshold(share(name, setting.selection))
        out[name] = z[name] > at
        out[f"coded_{name}"] = z[name] > at - setting.place["coding"]
        if name in c.WITHIN:
            out[name] &= out[c.WITHIN[name]]
            out[f"coded_{name}"] &= out[f"coded_{c.WITHIN[name]}"]
    return out


def _measured(draws: Draws, z: dict[str, Any], name: str, missing: float) -> Any:
    own = draws.normal(AT[f"measured_{name}"]) * np.float32(sqrt(1 - c.MEASURED_LOADING**2))
    return np.float32(c.MEASURED_LOADING) * z["measured"] + own > threshold(1 - missing / 100)


def _measurements(draws: Draws, setting: Setting, z: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in LABS:
        out[name] = spread(name, z[name], draws.xp)
        out[f"has_{name}"] = _measured(draws, z, name, c.SPREADS[name].missing)
    for name in second_units():
        out[f"unit_{name}"] = draws.uniform(AT[f"unit_{name}"]) < setting.place[f"unit_{name}"]
    out["lvef"] = _curve(c.EJECTION[setting.selection], z["ejection"], draws.xp)
    out["has_lvef"] = z["phenotyped"] > threshold(share("phenotyped", setting.selection))
    classes = np.cumsum(c.NYHA) / 100
    out["nyha"] = 1 + sum((z["nyha"] > threshold(1 - q)).astype(np.int32) for q in classes[:3])
    out["has_nyha"] = _measured(draws, z, "nyha", c.NYHA_MISSING)
    return out


def _treatment(draws: Draws, setting: Setting, z: dict[str, Any], year: Any) -> dict[str, Any]:
    xp, selection, drift = draws.xp, setting.selection, setting.place["drift"]
    simple = [name for name in (*DRUGS, "ras_inhibitor", "crt_icd") if name in c.LOADINGS]
    out = {name: z[name] > threshold(share(name, selection)) for name in simple}
    has: dict[str, Any] = {}
    for name, ((first, _), (last, _)) in c.ADOPTION.items():
        # A place that changes faster has it sooner; with no drift every year is as all years together.
        now = xp.clip((year - np.float32(first)) * np.float32(1 / (last - first)) * drift, 0.0, 1.0)
        asked = np.float32(c.FIGURES[f"{name}_asked"].value)
        has[name] = draws.uniform(AT[f"{name}_has"]) < xp.where(drift > 0, now, asked)
    out["sglt2i"] &= has["sglt2i"]
    # Of those with an inhibitor of the renin-angiotensin system: ARNi first where ejection is reduced.
    reduced = c.FIGURES["arni_ejection"].value
    own = np.float32(sqrt(1 - reduced**2)) * draws.normal(AT["arni_kind"])
    candidate = np.float32(reduced) * z["ejection"] + own
    arni = share("arni", selection) / share("ras_inhibitor", selection)
    out["arni"] = out["ras_inhibitor"] & has["arni"] & (candidate > threshold(arni))
    acei, arb = share("acei", selection), share("arb", selection)
    kind = draws.uniform(AT["acei"]) < np.float32(acei / (acei + arb))
    out["acei"] = out["ras_inhibitor"] & ~out["arni"] & kind
    out["arb"] = out["ras_inhibitor"] & ~out["arni"] & ~kind
    # Devices: 0 none, then as in codes.DEVICE: pacemaker, CRT-P, CRT-D, ICD.
    crt_icd = share("crt_icd", selection)
    pacemaker = z["pacemaker"] > threshold(share("pacemaker", selection) / (1 - crt_icd))
    kind = draws.uniform(AT["device_kind"]) * np.float32(crt_icd)
    crt_p, crt_d = share("crt_p", selection), share("crt_d", selection)
    which = (
        2 + (kind > np.float32(crt_p)).astype(np.int32) + (kind > np.float32(crt_p + crt_d)).astype(np.int32)
    )
    out["device"] = xp.where(out["crt_icd"], which, pacemaker.astype(np.int32))
    return out
