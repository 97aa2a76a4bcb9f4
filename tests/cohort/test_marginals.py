"""Every figure that the simulator is calibrated to comes out of it, in 100,000 patients.

A band is the tolerance that stands beside the figure and four standard errors of the sample.
"""

import csv

import numpy as np
import pytest

from fedsim.cohort import Cohort, codes, records
from fedsim.cohort import constants as c
from fedsim.config import HeartFailure
from tests.cohort.made import NATIONAL, dead_by, known_100, national, region

BOTH = ("population", "registry")
CODED = set(codes.COMORBIDITY)
# What is made of others, or differs by design where drugs are new; tested below.
DERIVED = {"arni", "acei", "arb", "sglt2i", "compulsory_school", "university", "phenotyped"}
DERIVED |= {"smoking_current", "smoking_former", "inpatient_other", "six_months", "crt_p", "crt_d"}
DERIVED |= {"prior_admission", "prior_admission_2", "prior_admission_3", "prior_admission_4", "pacemaker"}


def near(found, percent, points, n):
    """Whether a share is a percentage, give or take percentage points and sampling error."""
    p = percent / 100
    return abs(found - p) <= points / 100 + 4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("selection", BOTH)
@pytest.mark.parametrize("name", sorted(c.SHARES.keys() - DERIVED))
def test_shares(name, selection):
    who, _ = national(selection)
    found = who[f"coded_{name}" if name in CODED else name]
    assert near(found.mean(), getattr(c.SHARES[name], selection), 0.4, len(found))


@pytest.mark.parametrize("selection", BOTH)
def test_shares_of_levels(selection):
    who, _ = national(selection)
    smoker, since = who["smoking"][who["has_smoking"]], who["duration_months"]
    found = {
        "compulsory_school": who["education"] == 0,
        "university": who["education"] == 2,
        "smoking_current": smoker == 2,
        "smoking_former": smoker == 1,
        "inpatient_other": who["inpatient"] & ~who["inpatient_hf"],
        "phenotyped": who["has_lvef"],
        "six_months": since >= 6,
        "pacemaker": who["device"] == 1,
        "crt_p": who["device"] == 2,
        "crt_d": who["device"] == 3,
        "prior_admission": who["prior_admissions"] >= 1,
        "prior_admission_2": who["prior_admissions"] >= 2,
        "prior_admission_3": who["prior_admissions"] >= 3,
        "prior_admission_4": who["prior_admissions"] >= 4,
    }
    assert found.keys() == DERIVED - {"arni", "acei", "arb", "sglt2i"}
    for name, has in found.items():
        # What is not missing at random (smoking, pacemakers beside CRT) is a little off.
        assert near(has.mean(), getattr(c.SHARES[name], selection), 1.5, len(has)), (name, has.mean())


@pytest.mark.parametrize(
    ("selection", "quartiles", "below_70", "above_80"),
    [("population", (71, 80, 87), 21.9, 48.3), ("registry", (69, 77, 84), 27.1, 38.0)],
)
def test_ages(selection, quartiles, below_70, above_80):
    age = np.floor(national(selection)[0]["age"])
    assert np.quantile(age, (0.25, 0.5, 0.75)).tolist() == pytest.approx(quartiles, abs=0.5)
    assert near((age < 70).mean(), below_70, 0.5, len(age))
    assert near((age > 80).mean(), above_80, 0.5, len(age))


@pytest.mark.parametrize(
    ("selection", "reduced", "preserved"), [("population", 35, 38), ("registry", 48.9, 26.1)]
)
def test_phenotypes(selection, reduced, preserved):
    who, _ = national(selection)
    lvef = who["lvef"][who["has_lvef"]]
    assert near((lvef < 40).mean(), reduced, 1.0, len(lvef))
    assert near((lvef >= 50).mean(), preserved, 1.0, len(lvef))
    if selection == "registry":
        assert near((lvef < 30).mean(), 23.1, 1.0, len(lvef))


@pytest.mark.parametrize("name", c.SPREADS)
def test_measurements(name):
    """Quartiles of everyone within 1 % (a stay's in whole days), of whom they were measured in within 5 %."""
    who, then = national("registry")
    s = c.SPREADS[name]
    expected = (s.lower, s.median, s.upper)
    if name == "length_of_stay":
        stay = then["stay"][who["inpatient"] & (then["stay"] < then["end"])]
        assert np.abs(np.quantile(stay, (0.25, 0.5, 0.75)) - expected).max() <= 1
        return
    assert np.quantile(who[name], (0.25, 0.5, 0.75)) == pytest.approx(expected, rel=0.01)
    has = who[f"has_{name}"]
    rel = 0.15 if name == "nt_probnp" else 0.05  # measured more in the sick
    assert np.quantile(who[name][has], (0.25, 0.5, 0.75)) == pytest.approx(expected, rel=rel)
    assert near(1 - has.mean(), s.missing, 0.4, len(has))


def ckd_epi_2021(who):
    """eGFR, mL/min/1.73 m²: Inker et al., NEJM 2021, table 2, from creatinine."""
    kappa, alpha = (np.where(who["male"], a, b) for a, b in ((0.9, 0.7), (-0.302, -0.241)))
    ratio = who["creatinine"] / 88.4 / kappa
    both = np.minimum(ratio, 1) ** alpha * np.maximum(ratio, 1) ** -1.2 * 0.9938 ** who["age"]
    return 142 * both * np.where(who["male"], 1, 1.012)


def test_what_follows_from_measurements():
    """Nothing of this is put in: eGFR from creatinine, age and sex, anaemia by sex, tails from quartiles."""
    who, _ = national("registry")
    egfr = ckd_epi_2021(who)
    assert np.quantile(egfr, (0.25, 0.5, 0.75)) == pytest.approx((45.3, 63.0, 82.8), rel=0.05)
    shares = [
        (egfr < 60, 45.6, 3),
        (who["haemoglobin"] < np.where(who["male"], 130, 120), 36.3, 2.5),  # WHO
        (who["bmi"] >= 30, 26.3, 2),
        (who["heart_rate"] >= 70.5, 50.8, 2),
        (who["potassium"] < 3.5, 4.2, 2),
        (who["potassium"] > 5, 4.0, 2),
        (who["nyha"] == 1, 13.9, 0.5),
        (who["nyha"] >= 3, 39.4, 0.5),
    ]
    for has, percent, points in shares:
        assert near(has.mean(), percent, points, len(has)), (percent, has.mean())


def test_natriuretic_peptide_by_phenotype():
    """Medians of outpatients against preserved: 2288 and 1540 to 1428 (Savarese 2018), within 15 %."""
    who, _ = national("registry")
    some = ~who["inpatient"] & who["has_lvef"] & who["has_nt_probnp"]
    groups = (who["lvef"] < 40, (who["lvef"] >= 40) & (who["lvef"] < 50), who["lvef"] >= 50)
    reduced, mildly, preserved = (np.median(who["nt_probnp"][some & group]) for group in groups)
    assert reduced / preserved == pytest.approx(2288 / 1428, rel=0.15)
    assert mildly / preserved == pytest.approx(1540 / 1428, rel=0.15)


@pytest.mark.parametrize(("selection", "low", "median"), [("population", 27.6, 2), ("registry", 24.3, 3)])
def test_charlson_index(selection, low, median):
    """Heart failure is 1; no complications or metastases, so that high values are rarer than published."""
    who, _ = national(selection)
    has = {name: who[f"coded_{name}"].astype(int) for name in codes.COMORBIDITY}
    one = [
        *("myocardial_infarction", "peripheral_artery_disease", "dementia", "copd", "diabetes"),
        *("liver_disease", "rheumatic_disease", "ulcer"),
    ]
    index = 1 + sum(has[name] for name in one) + (has["stroke"] | has["tia"])
    index += 2 * (has["renal_failure"] + has["cancer"])
    assert near((index <= 1).mean(), low, 2.5, len(index)) and np.median(index) == median


def test_drugs_of_the_registry_over_all_years():
    """Of the inhibitors, ARNi only where forms ask for it: 81.4 % in all."""
    who, _ = national("registry")
    n = len(who["acei"])
    assert near(who["acei"].mean(), 45.6, 1.5, n) and near(who["arb"].mean(), 28.0, 1.5, n)
    assert near(who["arni"].mean(), 17.0 * 0.516, 1.0, n)
    assert near(who["sglt2i"].mean(), 54.2 * 0.235, 0.5, n)
    assert np.array_equal(who["acei"] | who["arb"] | who["arni"], who["ras_inhibitor"])
    assert not (who["acei"] & who["arb"]).any() and not (who["arni"] & who["acei"]).any()


def test_drugs_are_taken_up_over_the_years():
    who, _ = region("halland", patients=60_000, age=0, selection=0, coding=0, mortality=0)
    year = who["year"]
    assert not who["arni"][year < 2016].any() and not who["sglt2i"][year < 2020].any()
    recent = year >= 2020
    assert near(who["arni"][recent].mean(), 17.0, 1.5, recent.sum())
    recent = year >= 2022
    assert near(who["sglt2i"][recent].mean(), 54.2, 1.0, recent.sum())


@pytest.mark.parametrize(("years", "percent"), [(1, 25), (3, 46), (5, 58)])
def test_mortality(years, percent):
    _, then = national()
    assert near(dead_by(then, 365 * years), percent, 0.5, len(then["end"]))


def test_mortality_falls_by_a_hundredth_a_year():
    """Lindberg 2024: -1.10 % a year; of the hazard, everything else being equal."""
    who, then = region("halland", patients=20_000)
    calm, still = region("halland", patients=20_000, drift=0)
    changed = then["death_risk"] - still["death_risk"]
    same = (who["sglt2i"] == calm["sglt2i"]) & (who["has_lvef"] == calm["has_lvef"])
    slope = np.polyfit(who["year"][same] - 2018, changed[same], 1)[0]
    assert slope == pytest.approx(-0.011, abs=0.0005)


@pytest.mark.parametrize(("seen", "percent"), [(True, 30), (False, 42)])
def test_mortality_of_halland_with_and_without_phenotype(seen, percent):
    who, then = region("halland")
    some = (who["year"] < 2020) & (who["has_lvef"] == seen)
    then = {key: then[key][some] for key in ("end", "died")}
    assert near(dead_by(then, 365), percent, 1.0, some.sum())
    assert near(who["has_lvef"][who["year"] < 2020].mean(), 57, 1.5, len(some))


def test_mortality_of_reduced_ejection_in_the_registry():
    """Uppsala: 15.9 % in a year."""
    who, then = national("registry")
    some = who["has_lvef"] & (who["lvef"] < 40)
    assert near(dead_by({key: then[key][some] for key in ("end", "died")}, 365), 15.9, 0.5, some.sum())


def test_causes_of_death():
    _, then = national()
    assert near(then["cardiovascular"][then["died"]].mean(), 60, 1.0, then["died"].sum())


def test_readmission():
    _, then = national()
    known = known_100(then)
    assert near((then["unplanned"] <= 100)[known].mean(), 33, 0.7, known.sum())


def test_cost():
    """EUR per patient and year, all years of all patients: 9,790, of which wards 5,601; 68 % of the first."""
    n = 12_000
    cohort = Cohort(HeartFailure(regions="halland", external=(), patients=n, dials=NATIONAL))
    found, (who, then) = records(cohort, 0), cohort.made(0, 0, n)
    visit = found.visit
    after = visit["start"] >= who["index_day"][visit["person"]]
    years, rate = then["end"].sum() / 365.25, c.FIGURES["sek_per_eur"].value
    wards = visit["cost"][after & (visit["kind"] == 0)].sum(dtype=np.float64)
    drugs = sum((who[name] * then["end"]).sum() for name in codes.DRUGS) / 365.25
    total = visit["cost"][after].sum(dtype=np.float64) + drugs * c.FIGURES["drug_year"].value
    assert total / rate / years == pytest.approx(9790, rel=0.03)
    assert wards / rate / years == pytest.approx(5601, rel=0.03)
    assert wards / total == pytest.approx(0.572, abs=0.01)
    assert then["cost_inpatient"].sum() / then["cost"].sum() == pytest.approx(0.68, abs=0.02)


# --- constants against the published table ---------------------------------------------------

PUBLISHED = {
    "male": "Sex Male",
    "living_alone": "Family situation Living alone",
    "compulsory_school": "Education/Compulsory school",
    "university": "Education/University",
    "inpatient_hf": "Location/HF in-patient",
    "inpatient_other": "Location/Other in-patient",
    "atrial_fibrillation": "Atrial fibrillation/flutter",
    "ischaemic_heart_disease": "IHD",
    "myocardial_infarction": "Myocardial infarction",
    "pci": "PCI",
    "cabg": "CABG",
    "hypertension": "Hypertension",
    "diabetes": "Diabetes",
    "valve_disease": "Valve disease",
    "dilated_cardiomyopathy": "Dilated cardiomyopathy",
    "peripheral_artery_disease": "Peripheral artery disease",
    "stroke": "Stroke",
    "renal_failure": "Renal failure",
    "dialysis": "Dialysis",
    "copd": "COPD",
    "dementia": "Dementia",
    "depression": "Depression",
    "cancer": "Malignant cancer within 3 years",
}
REGISTRY_ONLY = {
    "ras_inhibitor": "ACEi/ARB/ARNi",
    "acei": "ACEi",
    "arb": "ARB",
    "arni": "ARNi",
    "beta_blocker": "Beta-blocker",
    "mra": "MRA",
    "sglt2i": "SGLT2i",
    "diuretic": "Diuretic",
    "digoxin": "Digoxin",
    "anticoagulant": "Oral anticoagulant",
    "statin": "Statin",
    "six_months": "Duration of HF (months) ≥6",
    "smoking_current": "Smoking/Current",
    "smoking_former": "Smoking/Former",
    "pacemaker": "Device therapy/Pacemaker",
    "crt_icd": "Device therapy CRT/ICD",
    "crt_p": "Device therapy/CRT-P",
    "crt_d": "Device therapy/CRT-D",
}
SPREAD_OF = {
    "nt_probnp": "NT-proBNP (pg/mL)",
    "creatinine": "Creatinine (µmol/L)",
    "haemoglobin": "Hemoglobin (g/L)",
    "potassium": "Potassium (mmol/L)",
    "sodium": "Sodium (mmol/L)",
    "systolic_pressure": "Systolic blood pressure (mmHg)",
    "diastolic_pressure": "Diastolic blood pressure (mmHg)",
    "heart_rate": "Heart rate (beats/min)",
    "bmi": "BMI (kg/m²)",
    "qrs": "QRS width (ms)",
    "length_of_stay": "Time in hospital at index hospitalization (days)",
}


def test_constants_are_those_of_the_published_table(shared_data):
    """Where the page has a figure of both registers together, that one; else the patient register's."""
    path = shared_data / "swedish-hf-marginals" / "swedehf_v4_marginals.csv"
    if not path.is_file():
        pytest.skip(f"no file {path.name} in {shared_data}")
    rows: dict[tuple[str, str], dict[str, str]] = {}
    rank = {"SwedeHF": 0, "NPR": 1, "SCB": 1, "SwedeHF+NPR": 2}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = row["cohort"], "/".join(filter(None, (row["variable"], row["level"])))
            if key not in rows or rank[row["source_register"]] > rank[rows[key]["source_register"]]:
                rows[key] = row
    registry, population = "SwedeHF_patients_last_post", "NPR_incident_HF"
    for name, variable in (PUBLISHED | REGISTRY_ONLY).items():
        assert c.SHARES[name].registry == float(rows[registry, variable]["percent"]), name
    for name, variable in PUBLISHED.items():
        assert c.SHARES[name].population == float(rows[population, variable]["percent"]), name
    for name, variable in SPREAD_OF.items():
        row, s = rows[registry, variable], c.SPREADS[name]
        assert (s.lower, s.median, s.upper) == tuple(float(row[key]) for key in ("q1", "median", "q3")), name
        assert name == "length_of_stay" or s.missing == float(row["missing_pct"]), name
    published = PUBLISHED.keys() | REGISTRY_ONLY.keys()
    for name in c.SHARES.keys() - published:
        assert any(word in c.SHARES[name].source for word in ("assumed", "less", "Halland")), name
