"""Effects on death, admission and the cause of death: log hazard ratios and log odds ratios, with sources.

As in `constants`, a source that begins with `assumed` is this simulator's own choice.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

from fedsim.cohort.constants import ADJUSTED, ASSUMED, HALLAND


class Effect(NamedTuple):
    """Two values are for an ejection fraction below 50 and from 50 on."""

    reduced: float
    preserved: float
    source: str


def _same(ratio: float, source: str = ASSUMED) -> Effect:
    return Effect(log(ratio), log(ratio), source)


# Of death.
DEATH: dict[str, Effect] = {
    "age": _same(1.53, "assumed, per 10 years"),
    "male": _same(1.12),
    "diabetes": Effect(log(1.57), log(1.39), ADJUSTED),
    "renal_failure": Effect(log(1.65), log(1.44), ADJUSTED),
    "copd": Effect(log(1.46), log(1.66), f"{ADJUSTED}, pulmonary disease"),
    "liver_disease": Effect(log(2.13), log(1.42), ADJUSTED),
    "not_phenotyped": _same(1.27, f"{HALLAND}, adjusted"),
    "cancer": _same(1.3),
    "metastases": _same(1.6),
    "dementia": _same(1.25),
    "stroke": _same(1.15),
    "peripheral_artery_disease": _same(1.1),
    "nt_probnp": _same(1.27, "assumed, per deviation of its logarithm"),
    "creatinine": _same(1.1, "assumed, per deviation of its logarithm"),
    "haemoglobin": _same(0.9, "assumed, per deviation"),
    "sodium": _same(0.92, "assumed, per deviation"),
    "systolic_pressure": _same(0.9, "assumed, per deviation"),
    "bmi": _same(0.93, "assumed, per deviation of its logarithm"),
    "nyha": _same(1.15, "assumed, per class"),
    "inpatient": _same(1.15, "assumed, of an index visit on a ward"),
    "prior_admissions": _same(1.04, "assumed, each"),
    "deprivation": _same(1.05, "assumed, per quintile"),
    "living_alone": _same(1.05),
    "ras_inhibitor": _same(0.85),
    "beta_blocker": _same(0.9),
    "sglt2i": _same(0.87),
    "frailty": _same(1.15, "assumed, per deviation; not in any record"),
}
# Of the next unplanned admission; the same for all ejection fractions.
ADMISSION: dict[str, Effect] = {
    "age": _same(1.08, "assumed, per 10 years"),
    "diabetes": _same(1.2),
    "renal_failure": _same(1.35),
    "copd": _same(1.35),
    "atrial_fibrillation": _same(1.15),
    "ischaemic_heart_disease": _same(1.1),
    "cancer": _same(1.2),
    "depression": _same(1.25),
    "nt_probnp": _same(1.25, "assumed, per deviation of its logarithm"),
    "haemoglobin": _same(0.86, "assumed, per deviation"),
    "sodium": _same(0.9, "assumed, per deviation"),
    "systolic_pressure": _same(0.92, "assumed, per deviation"),
    "nyha": _same(1.2, "assumed, per class"),
    "prior_admissions": _same(1.25, "assumed, each"),
    "length_of_stay": _same(1.1, "assumed, per deviation of its logarithm"),
    "deprivation": _same(1.05, "assumed, per quintile"),
    "living_alone": _same(1.1),
    "ras_inhibitor": _same(0.85),
    "sglt2i": _same(0.85),
    "frailty": _same(1.2, "assumed, per deviation; not in any record"),
}
# Odds that a death is cardiovascular.
CARDIOVASCULAR: dict[str, Effect] = {
    "nt_probnp": _same(1.4, "assumed, per deviation of its logarithm"),
    "ischaemic_heart_disease": _same(1.3),
    "cancer": _same(0.25),
    "dementia": _same(0.5),
    "copd": _same(0.6),
    "frailty": _same(0.9, "assumed, per deviation; not in any record"),
}
