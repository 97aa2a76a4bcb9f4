"""Descriptive statistics of Swedish patients with heart failure, line by line: held in a band, or left out.

The lines are those of a table that is no part of the repository, of the Swedish Heart Failure Registry
(`SwedeHF`) and the national patient register (`NPR`): SHFDB4 descriptive statistics, KIHeartFailure, 2025-01.
tests/cohort/test_marginals.py holds what is made to the bands, and this list to the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fedsim.cohort import codes
from fedsim.cohort import constants as c
from tests.cohort.made import national

Who = dict[str, Any]
REGISTRY, POPULATION = "SwedeHF_patients_last_post", "NPR_incident_HF"
SELECTION = {REGISTRY: "registry", POPULATION: "population"}


class Line(NamedTuple):
    """One published line and what is made instead.

    where: cohort or area. what: variable, level and register, or the quantity. published: one number, or
    quartiles. band: how far off it may be, in the same unit, each of them; relative: as a share of it.
    """

    where: str
    what: str
    published: tuple[float, ...]
    band: float
    relative: bool
    made: Callable[[], Iterable[float]]

    @property
    def name(self) -> str:
        return f"{self.where}: {self.what}"

    def off(self) -> list[float]:
        """How far off each number is, in the unit of the band."""
        found = [float(value) for value in self.made()]
        assert len(found) == len(self.published), self.name
        pairs = zip(found, self.published, strict=True)
        return [abs(a - b) / (b if self.relative else 1) for a, b in pairs]


# --- descriptive statistics of the registry and the patient register -------------------------

QUARTILES = (0.25, 0.5, 0.75)


def egfr(who: Who) -> np.ndarray:
    """mL/min/1.73 m²: CKD-EPI 2021, Inker et al., NEJM 2021, table 2, from creatinine."""
    kappa, alpha = (np.where(who["male"], a, b) for a, b in ((0.9, 0.7), (-0.302, -0.241)))
    ratio = who["creatinine"] / 88.4 / kappa
    both = np.minimum(ratio, 1) ** alpha * np.maximum(ratio, 1) ** -1.2 * 0.9938 ** who["age"]
    return np.asarray(142 * both * np.where(who["male"], 1, 1.012))


def charlson(who: Who) -> np.ndarray:
    """Charlson's index, heart failure counted: weights of Charlson et al., J Chronic Dis 1987, table 3, as
    far as conditions are made; complications of diabetes add 1 to its 1, metastases 4 to the 2 of cancer."""
    has = {name: who[f"coded_{name}"].astype(int) for name in codes.COMORBIDITY}
    one = (
        *("myocardial_infarction", "peripheral_artery_disease", "dementia", "copd", "rheumatic_disease"),
        *("ulcer", "liver_disease", "diabetes", "diabetes_complications"),
    )
    index = 1 + sum(has[name] for name in one) + (has["stroke"] | has["tia"])
    return np.asarray(index + 2 * (has["renal_failure"] + has["cancer"]) + 4 * has["metastases"])


def aged(who: Who) -> np.ndarray:
    """The same and a point for every ten years from 50 on, four at most."""
    return charlson(who) + np.clip((np.floor(who["age"]) - 40) // 10, 0, 4)


def of(name: str) -> Callable[[Who, Who], np.ndarray]:
    return lambda who, then: who[name]


def coded(name: str) -> Callable[[Who, Who], np.ndarray]:
    return lambda who, then: who[f"coded_{name}"]


def seen(name: str, test: Callable[[Any], Any] = lambda value: value) -> Callable[[Who, Who], np.ndarray]:
    """Of those in whom it was measured."""
    return lambda who, then: np.asarray(test(who[name][who[f"has_{name}"]]))


def asked(name: str) -> Callable[[Who, Who], np.ndarray]:
    """Of the registrations that ask."""
    return lambda who, then: np.asarray(who[name] / c.FIGURES[f"{name}_asked"].value)


def lines(
    what: str, stat: Callable[[Who, Who], Any], *both: Any, band: float, relative: bool = False
) -> list[Line]:
    """Lines of the population and of the registry, None where there is none; `stat` gives who has it, for a
    percentage, or values, for quartiles."""
    made = []
    for where, published in zip((POPULATION, REGISTRY), both, strict=True):
        if published is None:
            continue
        numbers = published if isinstance(published, tuple) else (published,)

        def found(where: str = where, quartiles: bool = len(numbers) == 3) -> Iterable[float]:
            value = np.asarray(stat(*national(SELECTION[where])))
            return np.quantile(value, QUARTILES) if quartiles else [100 * value.mean()]

        made.append(Line(where, what, tuple(map(float, numbers)), band, relative, found))
    return made


def _dead_of_others(where: str) -> Iterable[float]:
    """Percent dead of another than a cardiovascular cause by the end of 2023, index years as published."""
    years = {POPULATION: (1997, 2005, 2011, 2016, 2023), REGISTRY: (2000, 2011, 2016, 2021, 2023)}[where]
    who, then = national(SELECTION[where])
    rank = (np.arange(len(who["male"])) + 0.5) / len(who["male"])
    followed = (2024 - np.interp(rank, (0, 0.25, 0.5, 0.75, 1), years)) * 365.25
    return [100 * ((then["death"] <= followed) & ~then["cardiovascular"]).mean()]


def _stay(who: Who, then: Who) -> np.ndarray:
    return np.asarray(then["stay"][then["discharged"]])


def _prior(who: Who, then: Who) -> np.ndarray:
    # In the patient register as many as lay on a ward for heart failure at the diagnosis: that stay counts.
    registered = who["duration_months"].any()
    return np.asarray(who["prior_admissions"] >= 1 if registered else who["inpatient_hf"])


PUT_IN, FOLLOWS = (
    0.5,
    2.0,
)  # percentage points: of a share that is a constant, of one that follows from others
LAST = "SwedeHF"

SHFDB4: list[Line] = [
    *lines("Sex Male|SwedeHF", of("male"), 53.5, 62.1, band=PUT_IN),
    *lines("Age (years)|SwedeHF", lambda w, t: np.floor(w["age"]), (71, 80, 87), (69, 77, 84), band=0.5),
    *lines("Age (years)/<70|SwedeHF", lambda who, then: who["age"] < 70, 21.9, 27.1, band=PUT_IN),
    *lines(
        "Age (years)/70-80|SwedeHF",
        lambda who, then: (who["age"] >= 70) & (who["age"] < 81),
        *(29.8, 35.0),
        band=PUT_IN,
    ),
    *lines("Age (years)/>80|SwedeHF", lambda who, then: who["age"] >= 81, 48.3, 38.0, band=PUT_IN),
    *lines("Family situation Living alone|SCB", of("living_alone"), 55.0, 50.2, band=PUT_IN),
    *lines("Education/Compulsory school|SCB", lambda w, t: w["education"] == 0, 51.1, 42.6, band=PUT_IN),
    *lines("Education/Secondary school|SCB", lambda w, t: w["education"] == 1, 34.7, 39.5, band=PUT_IN),
    *lines("Education/University|SCB", lambda w, t: w["education"] == 2, 14.3, 17.9, band=PUT_IN),
    *lines("Smoking/Current|SwedeHF", seen("smoking", lambda v: v == 2), None, 10.7, band=FOLLOWS),
    *lines("Smoking|SwedeHF", seen("smoking", lambda v: v == 2), None, 10.7, band=FOLLOWS),
    *lines("Smoking/Former|SwedeHF", seen("smoking", lambda v: v == 1), None, 43.9, band=FOLLOWS),
    *lines("Smoking/Never|SwedeHF", seen("smoking", lambda v: v == 0), None, 45.4, band=FOLLOWS),
    *lines("Location/HF in-patient|NPR", of("inpatient_hf"), 67.9, 23.2, band=PUT_IN),
    *lines(
        "Location/Other in-patient|NPR",
        lambda who, then: who["inpatient"] & ~who["inpatient_hf"],
        *(3.3, 13.0),
        band=PUT_IN,
    ),
    *lines("Location/Out-patient|NPR", lambda who, then: ~who["inpatient"], 28.8, 63.9, band=PUT_IN),
    *lines("Location In-patient|SwedeHF", of("inpatient"), None, 35.3, band=FOLLOWS),
    *lines("Time in hospital at index hospitalization (days)|SwedeHF", _stay, None, (3, 5, 9), band=1),
    *lines("Previous HFH < 1 year|SwedeHF+NPR", _prior, 67.9, 54.5, band=PUT_IN),
    *lines(
        "Duration of HF (months) ≥6|SwedeHF", lambda w, t: w["duration_months"] >= 6, None, 61.6, band=PUT_IN
    ),
    # phenotype
    *lines("LVEF (%)|SwedeHF", seen("lvef"), None, (30, 40, 50), band=1),
    *lines("LVEF (%)/<30|SwedeHF", seen("lvef", lambda v: v < 30), None, 23.1, band=1),
    *lines("LVEF (%)/30-39|SwedeHF", seen("lvef", lambda v: (v >= 30) & (v < 40)), None, 25.8, band=1),
    *lines("LVEF (%)/40-49|SwedeHF", seen("lvef", lambda v: (v >= 40) & (v < 50)), None, 25.0, band=1),
    *lines("LVEF (%)/≥50|SwedeHF", seen("lvef", lambda v: v >= 50), None, 26.1, band=1),
    *lines("LVEF (%)/HFrEF|SwedeHF", seen("lvef", lambda v: v < 40), None, 48.9, band=1),
    *lines("LVEF (%)/HFmrEF|SwedeHF", seen("lvef", lambda v: (v >= 40) & (v < 50)), None, 25.0, band=1),
    *lines("LVEF (%)/HFpEF|SwedeHF", seen("lvef", lambda v: v >= 50), None, 26.1, band=1),
    *lines("NYHA class/I|SwedeHF", seen("nyha", lambda v: v == 1), None, 13.9, band=1),
    *lines("NYHA class/II|SwedeHF", seen("nyha", lambda v: v == 2), None, 46.7, band=1),
    *lines("NYHA class/III|SwedeHF", seen("nyha", lambda v: v == 3), None, 35.6, band=1),
    *lines("NYHA class/IV|SwedeHF", seen("nyha", lambda v: v == 4), None, 3.7, band=1),
    *lines("NYHA class III-IV|SwedeHF", seen("nyha", lambda v: v >= 3), None, 39.4, band=1),
    # measurements, of those who have them
    *(
        line
        for name, what in (
            ("systolic_pressure", "Systolic blood pressure (mmHg)"),
            ("diastolic_pressure", "Diastolic blood pressure (mmHg)"),
            ("heart_rate", "Heart rate (beats/min)"),
            ("haemoglobin", "Hemoglobin (g/L)"),
            ("potassium", "Potassium (mmol/L)"),
            ("sodium", "Sodium (mmol/L)"),
            ("creatinine", "Creatinine (µmol/L)"),
            ("nt_probnp", "NT-proBNP (pg/mL)"),
            ("qrs", "QRS width (ms)"),
            ("bmi", "BMI (kg/m²)"),
        )
        for line in lines(
            f"{what}|SwedeHF",
            seen(name),
            None,
            (c.SPREADS[name].lower, c.SPREADS[name].median, c.SPREADS[name].upper),
            band=0.06,
            relative=True,
        )
    ),
    *lines("Heart rate (beats/min) >70|SwedeHF", seen("heart_rate", lambda v: v >= 70.5), None, 50.8, band=2),
    *lines(
        "Anemia|SwedeHF",  # by the World Health Organization
        lambda who, then: (who["haemoglobin"] < np.where(who["male"], 130, 120))[who["has_haemoglobin"]],
        *(None, 36.3),
        band=3,
    ),
    *lines(
        "Potassium (mmol/L)/<3.5 (Hypokalemia)|SwedeHF",
        seen("potassium", lambda v: np.round(v, 1) < 3.5),
        *(None, 4.2),
        band=1.5,
    ),
    *lines(
        "Potassium (mmol/L)/3.5-5 (Normakalemia)|SwedeHF",
        seen("potassium", lambda v: (np.round(v, 1) >= 3.5) & (np.round(v, 1) <= 5)),
        *(None, 91.8),
        band=1.5,
    ),
    *lines(
        "Potassium (mmol/L)/>5 (Hyperkalemia)|SwedeHF",
        seen("potassium", lambda v: np.round(v, 1) > 5),
        *(None, 4.0),
        band=1.5,
    ),
    *lines(
        "eGFR (mL/min/1.73 m²)|SwedeHF",
        lambda who, then: egfr(who)[who["has_creatinine"]],
        *(None, (45.3, 63.0, 82.8)),
        band=0.06,
        relative=True,
    ),
    *lines(
        "eGFR (mL/min/1.73 m²) <60|SwedeHF",
        lambda who, then: egfr(who)[who["has_creatinine"]] < 60,
        *(None, 45.6),
        band=3,
    ),
    *lines("BMI (kg/m²) ≥30|SwedeHF", seen("bmi", lambda v: v >= 30), None, 26.3, band=2),
    # drugs and devices; ARNi and SGLT2i of the registrations that ask
    *lines("Diuretic|SwedeHF", of("diuretic"), None, 74.4, band=PUT_IN),
    *lines("ACEi|SwedeHF", of("acei"), None, 45.6, band=1.5),
    *lines("ARB|SwedeHF", of("arb"), None, 28.0, band=1.5),
    *lines("ARNi|SwedeHF", asked("arni"), None, 17.0, band=1.5),
    *lines("ACEi/ARB/ARNi|SwedeHF", of("ras_inhibitor"), None, 81.4, band=PUT_IN),
    *lines("Beta-blocker|SwedeHF", of("beta_blocker"), None, 86.3, band=PUT_IN),
    *lines("MRA|SwedeHF", of("mra"), None, 40.7, band=PUT_IN),
    *lines("Digoxin|SwedeHF", of("digoxin"), None, 12.2, band=PUT_IN),
    *lines("Oral anticoagulant|SwedeHF", of("anticoagulant"), None, 47.9, band=PUT_IN),
    *lines("Statin|SwedeHF", of("statin"), None, 47.6, band=PUT_IN),
    *lines("SGLT2i|SwedeHF", asked("sglt2i"), None, 54.2, band=1.5),
    *lines("Device therapy/No|SwedeHF", lambda w, t: w["device"] == 0, None, 82.5, band=1),
    *lines("Device therapy/Pacemaker|SwedeHF", lambda w, t: w["device"] == 1, None, 9.3, band=1),
    *lines("Device therapy/CRT-P|SwedeHF", lambda w, t: w["device"] == 2, None, 1.9, band=PUT_IN),
    *lines("Device therapy/CRT-D|SwedeHF", lambda w, t: w["device"] == 3, None, 3.0, band=PUT_IN),
    *lines("Device therapy/ICD|SwedeHF", lambda w, t: w["device"] == 4, None, 3.2, band=PUT_IN),
    *lines("Device therapy CRT/ICD|SwedeHF", of("crt_icd"), None, 8.2, band=PUT_IN),
    # comorbidity
    *lines("Atrial fibrillation/flutter|SwedeHF+NPR", coded("atrial_fibrillation"), 44.1, 58.9, band=PUT_IN),
    *lines("Atrial fibrillation/flutter|NPR", coded("atrial_fibrillation"), 44.1, None, band=PUT_IN),
    *lines("IHD|SwedeHF+NPR", coded("ischaemic_heart_disease"), 45.3, 52.6, band=PUT_IN),
    *lines("Ischemic heart disease|NPR", coded("ischaemic_heart_disease"), 45.0, 51.6, band=1.5),
    *lines("Hypertension|SwedeHF+NPR", coded("hypertension"), 51.6, 68.4, band=PUT_IN),
    *lines("Hypertension|NPR", coded("hypertension"), 51.6, None, band=PUT_IN),
    *lines("Diabetes|SwedeHF+NPR", coded("diabetes"), 22.8, 27.3, band=PUT_IN),
    *lines("Diabetes|NPR", coded("diabetes"), 22.8, 26.1, band=1.5),
    *lines("Valve disease|SwedeHF+NPR", coded("valve_disease"), 15.2, 26.4, band=PUT_IN),
    *lines("Myocardial infarction|NPR", coded("myocardial_infarction"), 30.8, 37.6, band=PUT_IN),
    *lines("PCI|NPR", coded("pci"), 11.2, 19.6, band=PUT_IN),
    *lines("CABG|NPR", coded("cabg"), 15.6, 25.3, band=PUT_IN),
    *lines("Dilated cardiomyopathy|NPR", coded("dilated_cardiomyopathy"), 3.2, 8.5, band=PUT_IN),
    *lines("Peripheral artery disease|NPR", coded("peripheral_artery_disease"), 8.2, 9.6, band=PUT_IN),
    *lines("Stroke|NPR", coded("stroke"), 16.6, 15.5, band=PUT_IN),
    *lines("Stroke/TIA|NPR", lambda w, t: w["coded_stroke"] | w["coded_tia"], 18.9, 17.7, band=1),
    *lines("Renal failure|NPR", coded("renal_failure"), 10.8, 15.5, band=PUT_IN),
    *lines("Dialysis|NPR", coded("dialysis"), 1.0, 1.0, band=0.2),
    *lines("COPD|NPR", coded("copd"), 12.1, 13.8, band=PUT_IN),
    *lines("Dementia|NPR", coded("dementia"), 4.4, 2.5, band=0.4),
    *lines("Depression|NPR", coded("depression"), 3.7, 3.7, band=0.4),
    *lines("Malignant cancer within 3 years|NPR", coded("cancer"), 12.9, 13.5, band=PUT_IN),
    *lines("Charlson Comorbidity Index|NPR", lambda w, t: charlson(w), (1, 2, 4), (2, 3, 4), band=0),
    *lines("Charlson Comorbidity Index/0-1|NPR", lambda w, t: charlson(w) <= 1, 27.6, 24.3, band=3),
    *lines(
        "Charlson Comorbidity Index/2-3|NPR", lambda w, t: np.isin(charlson(w), (2, 3)), 42.4, 40.0, band=3
    ),
    *lines(
        "Charlson Comorbidity Index/4-7|NPR",
        lambda w, t: (charlson(w) >= 4) & (charlson(w) <= 7),
        *(26.9, 31.3),
        band=3,
    ),
    *lines("Charlson Comorbidity Index/≥8|NPR", lambda w, t: charlson(w) >= 8, 3.1, 4.4, band=0.5),
    *lines("Charlson Comorbidity Index age-adjusted|NPR", lambda w, t: aged(w), (5, 6, 7), (5, 6, 8), band=1),
    *(
        Line(where, "Non-CV death|NPR", (percent,), 2, False, partial(_dead_of_others, where))
        for where, percent in ((POPULATION, 32.1), (REGISTRY, 23.9))
    ),
]

ANOTHER_REGISTER = (
    "another register's count of what is held above: where there are several, the registry and the patient "
    "register together, else the patient register"
)
NOT_MADE = "not made: no outcome or difference between regions here is known to need it"
# Line -> why it is not held. A trailing slash stands for all levels.
SHFDB4_LEFT: dict[str, str] = {
    "Index year|SwedeHF": "index dates are what data.first_year and data.last_year say",
    "Living conditions Own home|SwedeHF": NOT_MADE,
    "Marital status Single/widowed/divorced|SCB": f"{NOT_MADE}; living alone is made",
    "Primary etiology/": "one clinician's judgement of what caused it; conditions are made as they are coded",
    "Weight (kg)|SwedeHF": "BMI is made",
    "Height (cm)|SwedeHF": "BMI is made",
    "Left Bundle Branch Block (LBBB)|SwedeHF": "QRS width is made",
    "EQ5D-vas|SwedeHF": f"{NOT_MADE}, and two of three forms lack it",
    "EQ5D-vas/": f"{NOT_MADE}, and two of three forms lack it",
    "Diabetes|SwedeHF": ANOTHER_REGISTER,
    "Diabetes/": f"{ANOTHER_REGISTER}; types of diabetes are not made",
    "Hypertension|SwedeHF": ANOTHER_REGISTER,
    "Atrial fibrillation/flutter|SwedeHF": ANOTHER_REGISTER,
    "Valve disease|SwedeHF": ANOTHER_REGISTER,
    "Dilated cardiomyopathy|SwedeHF": ANOTHER_REGISTER,
    "Lung disease|SwedeHF": f"{ANOTHER_REGISTER}, as COPD",
    f"{REGISTRY}: Hypertension|NPR": ANOTHER_REGISTER,
    f"{REGISTRY}: Atrial fibrillation/flutter|NPR": ANOTHER_REGISTER,
}
