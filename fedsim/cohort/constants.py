"""Every number of the simulator, with its source.

`population` is the patients of the national patient register at their first diagnosis, `registry` those of
the Swedish Heart Failure Registry at their last registration: who is enrolled, and later. A source that
begins with `assumed` is this simulator's own choice; `solved` says which published figure a number was
solved for (`python tests/cohort/solve.py` does it again). What becomes of whom is in `effects`, how regions
differ in `regions`; docs/cohort.md shows all of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Both(NamedTuple):
    """A figure of the two selections."""

    population: float
    registry: float
    source: str


class Figure(NamedTuple):
    value: float
    unit: str
    source: str


class Spread(NamedTuple):
    """Quartiles of a measurement; missing: percent without it. `log`: spread on the log scale."""

    lower: float
    median: float
    upper: float
    missing: float
    scale: str
    source: str


SHFDB = "SHFDB4 descriptive statistics (KIHeartFailure, 2025-01)"
HALLAND = "Davidge 2022 BMJ Open 12:e064997"
LINDBERG = "Lindberg 2024 Eur J Heart Fail, doi 10.1002/ejhf.3506"
ADJUSTED = "SwedeHF 2000-2012, Clin Res Cardiol 2019, doi 10.1007/s00392-019-01430-0"
ZAYED = "Zayed 2021 EHJ-QCCO 7:280-286"
HALMSTAD = "Halmstad University news 2023 (Etminani and colleagues)"
UPPSALA = "Stålhammar 2012 J Med Econ 15:938-946"
ASSUMED = "assumed"
FITTED = "assumed, so that Charlson indices are as published"

# --- who they are: percent of patients -------------------------------------------------------

SHARES: dict[str, Both] = {
    "male": Both(53.5, 62.1, SHFDB),
    "living_alone": Both(55.0, 50.2, SHFDB),
    "compulsory_school": Both(51.1, 42.6, SHFDB),
    "university": Both(14.3, 17.9, SHFDB),
    "smoking_current": Both(10.7, 10.7, f"{SHFDB}; population: assumed equal"),
    "smoking_former": Both(43.9, 43.9, f"{SHFDB}; population: assumed equal"),
    "inpatient_hf": Both(67.9, 23.2, SHFDB),
    "inpatient_other": Both(3.3, 13.0, SHFDB),
    "phenotyped": Both(57.0, 79.0, f"{HALLAND} (Halland), {SHFDB}"),
    "six_months": Both(0.0, 61.6, f"{SHFDB}, heart failure for 6 months or longer; population: incident"),
    # recorded diagnoses
    "atrial_fibrillation": Both(44.1, 58.9, SHFDB),
    "ischaemic_heart_disease": Both(45.3, 52.6, SHFDB),
    "myocardial_infarction": Both(30.8, 37.6, SHFDB),
    "pci": Both(11.2, 19.6, SHFDB),
    "cabg": Both(15.6, 25.3, SHFDB),
    "hypertension": Both(51.6, 68.4, SHFDB),
    "diabetes": Both(22.8, 27.3, SHFDB),
    "valve_disease": Both(15.2, 26.4, SHFDB),
    "dilated_cardiomyopathy": Both(3.2, 8.5, SHFDB),
    "peripheral_artery_disease": Both(8.2, 9.6, SHFDB),
    "stroke": Both(16.6, 15.5, SHFDB),
    "tia": Both(2.3, 2.2, f"{SHFDB}, stroke or TIA less stroke"),
    "renal_failure": Both(10.8, 15.5, SHFDB),
    "dialysis": Both(1.0, 1.0, SHFDB),
    "copd": Both(12.1, 13.8, SHFDB),
    "dementia": Both(4.4, 2.5, SHFDB),
    "depression": Both(3.7, 3.7, SHFDB),
    "cancer": Both(12.9, 13.5, SHFDB),
    "diabetes_complications": Both(15.0, 18.0, FITTED),
    "metastases": Both(1.6, 2.0, FITTED),
    "liver_disease": Both(3.0, 3.0, FITTED),
    "rheumatic_disease": Both(8.0, 9.0, FITTED),
    "ulcer": Both(7.0, 8.0, FITTED),
    # drugs and devices
    "ras_inhibitor": Both(81.4, 81.4, f"{SHFDB}; population: assumed equal"),
    "acei": Both(45.6, 45.6, f"{SHFDB}; population: assumed equal"),
    "arb": Both(28.0, 28.0, f"{SHFDB}; population: assumed equal"),
    "arni": Both(17.0, 17.0, f"{SHFDB}, of those asked; population: assumed equal"),
    "beta_blocker": Both(86.3, 86.3, f"{SHFDB}; population: assumed equal"),
    "mra": Both(40.7, 40.7, f"{SHFDB}; population: assumed equal"),
    "sglt2i": Both(54.2, 54.2, f"{SHFDB}, of those asked; population: assumed equal"),
    "diuretic": Both(74.4, 74.4, f"{SHFDB}; population: assumed equal"),
    "digoxin": Both(12.2, 12.2, f"{SHFDB}; population: assumed equal"),
    "anticoagulant": Both(47.9, 47.9, f"{SHFDB}; population: assumed equal"),
    "statin": Both(47.6, 47.6, f"{SHFDB}; population: assumed equal"),
    "pacemaker": Both(9.3, 9.3, f"{SHFDB}; population: assumed equal"),
    "crt_icd": Both(8.2, 8.2, f"{SHFDB}; population: assumed equal"),
    "crt_p": Both(1.9, 1.9, f"{SHFDB}; population: assumed equal"),
    "crt_d": Both(3.0, 3.0, f"{SHFDB}; population: assumed equal"),
    # admissions in the year before the index: at least 1, 2, 3, 4
    "prior_admission": Both(35.0, 54.5, f"{ASSUMED}; registry: {SHFDB}, hospitalised within a year"),
    "prior_admission_2": Both(15.0, 25.0, ASSUMED),
    "prior_admission_3": Both(6.0, 11.0, ASSUMED),
    "prior_admission_4": Both(2.0, 4.0, ASSUMED),
}

# Age in years -> percent who are younger; straight lines in between.
AGES: dict[str, tuple[tuple[float, float], ...]] = {
    "population": (
        *((18, 0.0), (40, 0.8), (55, 6.0), (70, 21.9), (81, 51.7), (87.5, 75.0), (95, 96.0), (104, 100.0)),
    ),
    "registry": (
        *((18, 0.0), (40, 1.3), (55, 8.5), (69.3, 25.0), (70, 27.1), (77.3, 50.0), (81, 62.1), (84.5, 75.0)),
        *((92, 95.0), (104, 100.0)),
    ),
}
AGES_SOURCE = f"{SHFDB} at the quartiles, 70 and 81; the rest assumed"

# Ejection fraction, percent -> percent of patients below it.
EJECTION: dict[str, tuple[tuple[float, float], ...]] = {
    "population": ((8, 0.0), (30, 16.0), (40, 35.0), (50, 62.0), (60, 88.0), (75, 100.0)),
    "registry": ((8, 0.0), (30, 23.1), (40, 48.9), (50, 73.9), (60, 92.0), (75, 100.0)),
}
EJECTION_SOURCE = f"{SHFDB} (registry) and {HALLAND} (population) at 40 and 50; the rest assumed"

SPREADS: dict[str, Spread] = {
    "nt_probnp": Spread(724, 1908, 4602, 41.0, "log", SHFDB),
    "creatinine": Spread(79, 97, 125, 3.8, "log", SHFDB),
    "haemoglobin": Spread(119, 132, 144, 9.5, "", SHFDB),
    "potassium": Spread(3.9, 4.2, 4.5, 18.3, "", SHFDB),
    "sodium": Spread(138, 140, 142, 31.4, "", SHFDB),
    "systolic_pressure": Spread(110, 125, 140, 4.5, "", SHFDB),
    "diastolic_pressure": Spread(65, 70, 80, 4.4, "", SHFDB),
    "heart_rate": Spread(62, 71, 82, 7.0, "log", SHFDB),
    "bmi": Spread(23.3, 26.3, 30.2, 37.6, "log", SHFDB),
    "qrs": Spread(91, 104, 134, 22.2, "log", SHFDB),
    "length_of_stay": Spread(3, 5, 9, 0.0, "log", SHFDB),
}
# What assays report: below or above, the limit with < or >. Also keeps what was drawn physiological.
LIMITS: dict[str, tuple[float, float]] = {
    "nt_probnp": (50, 35000),
    "creatinine": (30, 1200),
    "haemoglobin": (50, 210),
    "potassium": (2.0, 7.5),
    "sodium": (110, 165),
    "systolic_pressure": (70, 230),
    "diastolic_pressure": (35, 130),
    "heart_rate": (35, 190),
    "bmi": (14, 60),
    "qrs": (60, 220),
    "length_of_stay": (1, 90),
}
LIMITS_SOURCE = "assumed: an assay's range for NT-proBNP, what is plausible for the others"
NYHA = (13.9, 46.7, 35.6, 3.7)  # percent of classes I to IV
NYHA_MISSING = 28.6
NYHA_SOURCE = SHFDB

# --- how it hangs together: loadings on latent indices of mean 0 and deviation 1 -------------
# An index is the sum of its loadings times other indices, and noise of its own that makes its variance 1;
# whatever has a share is where its index is above the threshold of that share. All assumed.

LOADINGS: dict[str, dict[str, float]] = {
    "age": {"sex": -0.17},
    "frailty": {"age": 0.4},
    "severity": {"frailty": 0.2},
    "vascular": {"sex": 0.2, "age": 0.15, "frailty": 0.15},
    "metabolic": {"age": -0.25, "frailty": 0.1, "vascular": 0.1},
    "deprivation": {},
    "ejection": {"sex": -0.2, "age": 0.15, "vascular": -0.2, "metabolic": 0.1, "severity": -0.1},
    "education": {"deprivation": -0.4, "age": -0.3},
    "living_alone": {"age": 0.25, "sex": -0.25, "deprivation": 0.2},
    "smoking": {"sex": 0.3, "deprivation": 0.2, "vascular": 0.2, "age": -0.25},
    "atrial_fibrillation": {"age": 0.3, "ejection": 0.15, "severity": 0.1, "sex": 0.1},
    "ischaemic_heart_disease": {"vascular": 0.7, "sex": 0.1, "ejection": -0.1},
    "myocardial_infarction": {},
    "pci": {"age": -0.1},
    "cabg": {},
    "hypertension": {"metabolic": 0.4, "age": 0.15, "ejection": 0.2, "vascular": 0.15},
    "diabetes": {"metabolic": 0.6, "deprivation": 0.1, "vascular": 0.15},
    "valve_disease": {"age": 0.2, "ejection": 0.15, "severity": 0.1},
    "dilated_cardiomyopathy": {"age": -0.35, "ejection": -0.5},
    "peripheral_artery_disease": {"vascular": 0.55, "smoking": 0.2, "frailty": 0.1},
    "stroke": {"vascular": 0.3, "age": 0.1, "atrial_fibrillation": 0.15, "frailty": 0.15},
    "tia": {"vascular": 0.25, "age": 0.15},
    "renal_failure": {"age": 0.15, "metabolic": 0.3, "vascular": 0.3, "severity": 0.2, "frailty": 0.25},
    "dialysis": {"age": -0.2},
    "diabetes_complications": {"frailty": 0.4},
    "copd": {"smoking": 0.45, "frailty": 0.3, "deprivation": 0.1},
    "dementia": {"frailty": 0.5, "age": 0.2},
    "depression": {"frailty": 0.25, "deprivation": 0.15, "sex": -0.1},
    "cancer": {"age": 0.15, "frailty": 0.3},
    "metastases": {"frailty": 0.3},
    "liver_disease": {"metabolic": 0.15, "smoking": 0.2, "frailty": 0.15, "deprivation": 0.1},
    "rheumatic_disease": {"sex": -0.2, "frailty": 0.2},
    "ulcer": {"frailty": 0.3, "smoking": 0.15},
    "nt_probnp": {
        **{"severity": 0.5, "age": 0.25, "renal_failure": 0.2, "atrial_fibrillation": 0.15},
        **{"ejection": -0.15, "metabolic": -0.15},
    },
    "creatinine": {"renal_failure": 0.55, "sex": 0.3, "age": 0.1, "severity": 0.1},
    "haemoglobin": {"sex": 0.25, "age": -0.2, "renal_failure": -0.2, "frailty": -0.2},
    "potassium": {"renal_failure": 0.2},
    "sodium": {"severity": -0.25, "frailty": -0.1},
    "systolic_pressure": {"severity": -0.3, "hypertension": 0.25, "ejection": 0.2},
    "diastolic_pressure": {"systolic_pressure": 0.6, "age": -0.2},
    "heart_rate": {"severity": 0.2, "atrial_fibrillation": 0.2},
    "bmi": {"metabolic": 0.5, "age": -0.25, "frailty": -0.2},
    "qrs": {"ejection": -0.3, "sex": 0.15, "age": 0.15},
    "nyha": {"severity": 0.5, "frailty": 0.3, "age": 0.15},
    "inpatient": {"severity": 0.4, "frailty": 0.2, "age": 0.15},
    "length_of_stay": {"frailty": 0.25, "severity": 0.3, "age": 0.1},
    "prior_admission": {"frailty": 0.35, "severity": 0.25, "renal_failure": 0.1, "copd": 0.15},
    "six_months": {"severity": 0.1},
    "phenotyped": {"frailty": -0.17, "age": -0.12},
    # what is measured: less of it without an echocardiography, more of it in the sick
    "measured": {"phenotyped": 0.5, "severity": 0.25, "frailty": -0.2},
    "ras_inhibitor": {"ejection": -0.3, "renal_failure": -0.25, "frailty": -0.2, "hypertension": 0.15},
    "beta_blocker": {"ejection": -0.2, "atrial_fibrillation": 0.15, "frailty": -0.15},
    "mra": {"ejection": -0.35, "severity": 0.2, "age": -0.15},
    "sglt2i": {"diabetes": 0.3, "ejection": -0.3, "age": -0.1, "frailty": -0.1},
    "diuretic": {"severity": 0.5, "age": 0.2, "renal_failure": 0.15},
    "digoxin": {"atrial_fibrillation": 0.5},
    "anticoagulant": {"atrial_fibrillation": 0.8, "frailty": -0.1},
    "statin": {"ischaemic_heart_disease": 0.55, "diabetes": 0.2, "age": -0.15, "frailty": -0.1},
    "crt_icd": {"ejection": -0.55, "age": -0.25, "sex": 0.15},
    "pacemaker": {"age": 0.3, "atrial_fibrillation": 0.1},
}
# What only those can have who have another: the share is of these, so its index is its own.
WITHIN: dict[str, str] = {
    "myocardial_infarction": "ischaemic_heart_disease",
    "pci": "ischaemic_heart_disease",
    "cabg": "ischaemic_heart_disease",
    "dialysis": "renal_failure",
    "diabetes_complications": "diabetes",
    "metastases": "cancer",
}
LOADINGS_SOURCE = "assumed"
MEASURED_LOADING = 0.5  # of whether one thing was measured on how thorough the work-up was; assumed

# --- time, admissions and money --------------------------------------------------------------

FIGURES: dict[str, Figure] = {
    # cumulative hazard of death at linear predictor 0 of a patient of the population
    "hazard_1y": Figure(0.1497, "1", f"solved: one-year mortality 25 %, {LINDBERG}"),
    "hazard_3y": Figure(0.4024, "1", f"solved: three-year mortality 46 %, {LINDBERG}"),
    "hazard_5y": Figure(0.6555, "1", f"solved: five-year mortality 58 %, {LINDBERG}"),
    "hazard_shape": Figure(0.6, "exponent of time in the first year", ASSUMED),
    "hazard_registry": Figure(-0.3652, "log ratio", f"solved: one-year mortality of HFrEF 15.9 %, {UPPSALA}"),
    "hazard_trend": Figure(-0.011, "log ratio a year, 0 in 2022", f"{LINDBERG}, -1.10 % a year"),
    "cardiovascular": Figure(
        0.4321, "log odds", f"solved: 32.1 % dead of another cause, {SHFDB}; assumed: by the end of 2023"
    ),
    "moving": Figure(0.015, "per year", "assumed: leave the region"),
    "admission_100d": Figure(0.3045, "1", f"solved: readmitted within 100 days 33 %, {HALMSTAD}"),
    "admission_shape": Figure(0.85, "exponent of time since discharge", ASSUMED),
    "admission_at_home": Figure(
        0.8, "ratio, until the first admission of who was diagnosed outside", ASSUMED
    ),
    "planned": Figure(0.12, "share of admissions", ASSUMED),
    "stay_shift": Figure(-0.2533, "index", f"solved: median stay of the index admission 5 days, {SHFDB}"),
    "stay_kept": Figure(0.4, "correlation of a patient's stays", ASSUMED),
    "bed_day": Figure(4821.0, "SEK", f"solved: inpatient cost 5,601 EUR a year, {ZAYED}"),
    "admission": Figure(5000.0, "SEK, each, beside bed days", ASSUMED),
    "outpatient_visit": Figure(6214.0, "SEK", f"solved: other cost 4,189 EUR a year, {ZAYED}"),
    "outpatient_rate": Figure(6.0, "visits a year", ASSUMED),
    "primary_visit": Figure(1600.0, "SEK", ASSUMED),
    "primary_rate": Figure(7.0, "visits a year", ASSUMED),
    "emergency_visit": Figure(4500.0, "SEK, before each unplanned admission", ASSUMED),
    "drug_year": Figure(900.0, "SEK a year and drug", ASSUMED),
    "sek_per_eur": Figure(9.47, "SEK", "assumed: 2016, the year of the cost figures"),
    "arni_asked": Figure(0.516, "share of registrations that ask, and have it", f"{SHFDB}, missing 48.4 %"),
    "sglt2i_asked": Figure(0.235, "share of registrations that ask, and have it", f"{SHFDB}, missing 76.5 %"),
    "arni_ejection": Figure(-0.5, "correlation of who gets ARNi with ejection fraction", ASSUMED),
    "smoking_missing": Figure(27.2, "percent", SHFDB),
    "months_known": Figure(36.0, "months beyond the first six, in the mean", ASSUMED),
    # how places differ in more than what the dial is called by
    "referral_severity": Figure(0.4, "of severity's index per unit of referral", ASSUMED),
    "referral_ejection": Figure(-0.5, "of ejection's index per unit of referral", ASSUMED),
    "referral_devices": Figure(0.5, "of the index of CRT and ICD per unit of referral", ASSUMED),
    "selection_age": Figure(-0.3, "of age's index per unit of selection", ASSUMED),
    "echo_trend": Figure(0.03, "of the index of echocardiography a year, 0 in 2016", ASSUMED),
    # what is written down
    "clinic_often": Figure(0.5, "exponent of visits' rate in the hazard of admission", ASSUMED),
    "admitted_for_heart": Figure(0.4, "share of later admissions; the others: other causes", ASSUMED),
    "unspecific": Figure(0.6, "share of patients coded I50.9", ASSUMED),
    "unspecific_per_coding": Figure(-0.5, "change of that share per unit of coding", ASSUMED),
    "coded_at_index": Figure(0.5, "share of comorbidity; the rest in the five years before", ASSUMED),
    "measured_again": Figure(3.0, "every so many clinic visits", ASSUMED),
    "measurement_kept": Figure(0.8, "correlation of a measurement with the next", ASSUMED),
    "drug_stopped": Figure(0.2, "share of drugs that end before follow-up does", ASSUMED),
    "drug_since": Figure(730.0, "days before the index on which half of drugs began, at most", ASSUMED),
    "prior_stay": Figure(9.0, "days of an admission before the index, at most", ASSUMED),
}
# Codes of who is not coded I50.9, where they have high pressure or coronary disease for the last two; who has
# not is coded I50.9.
HEART_CODES = {"I50.0": 0.4, "I50.1": 0.2, "I11.0": 0.2, "I25.5": 0.2}
HEART_CODES_SOURCE = ASSUMED
# Year -> share of its full use that a new drug has; straight lines in between. Assumed.
ADOPTION: dict[str, tuple[tuple[float, float], ...]] = {
    "arni": ((2016.0, 0.0), (2020.0, 1.0)),
    "sglt2i": ((2020.0, 0.0), (2022.0, 1.0)),
}
ADMISSIONS = 20  # after the index, at most, per patient
