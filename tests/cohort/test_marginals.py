"""Every published figure comes out of the simulator within its band, or is left out with its reason.

Lines and bands: tests/cohort/published.py and tests/cohort/figures.py. What is made: 100,000 patients of the
country, 40,000 of Halland as it is.
"""

import csv

import numpy as np
import pytest

from fedsim.cohort import codes
from fedsim.cohort import constants as c
from tests.cohort.figures import FIGURES, FIGURES_LEFT
from tests.cohort.made import national, region
from tests.cohort.published import REGISTRY, SELECTION, SHFDB4, SHFDB4_LEFT


def near(found, percent, points, n):
    """Whether a share is a percentage, give or take percentage points and four standard errors."""
    p = percent / 100
    return abs(found - p) <= points / 100 + 4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("line", [*SHFDB4, *FIGURES], ids=lambda line: line.name)
def test_a_published_figure_is_made_within_its_band(line):
    off = line.off()
    assert max(off) <= line.band, (line.published, list(line.made()), line.band)


# --- the list against the published tables, line by line -------------------------------------


def table(shared_data, name):
    path = shared_data / "swedish-hf-marginals" / name
    if not path.is_file():
        pytest.skip(f"no file {path.name} in {shared_data}")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_line_of_the_registers_is_held_or_left_out_with_a_reason(shared_data):
    held = {(line.where, line.what): line.published for line in SHFDB4}
    used = set()
    for row in table(shared_data, "swedehf_v4_marginals.csv"):
        where, register = row["cohort"], row["source_register"]
        what = f"{'/'.join(filter(None, (row['variable'], row['level'])))}|{register}"
        if (where, what) in held:
            numbers = [row[key] for key in ("percent", "q1", "median", "q3") if row[key]]
            assert held.pop((where, what)) == tuple(map(float, numbers)), what
            continue
        keys = {what, f"{where}: {what}", f"{row['variable']}/" if row["level"] else what} & {*SHFDB4_LEFT}
        assert keys, f"{where}: {what} is neither held nor left out"
        used |= keys
    assert not held, f"held but not published: {sorted(held)}"
    assert used == {*SHFDB4_LEFT}


# Where bands are of ratios, or a line is a bound of several.
AS_RATIOS = {"median NT-proBNP HFpEF / HFmrEF / HFrEF"}


def test_every_single_figure_is_held_or_left_out_with_a_reason(shared_data):
    held, used = {(line.where, line.what): line.published for line in FIGURES}, set()
    known = dict(held)
    for row in table(shared_data, "published_figures.csv"):
        where, what = row["area"], row["quantity"]
        if (where, what) not in known:
            assert f"{where}: {what}" in FIGURES_LEFT, f"{where}: {what} is neither held nor left out"
            used.add(f"{where}: {what}")
            continue
        numbers = [float(part) for part in row["value"].removeprefix("about ").split(" / ")]
        if what in AS_RATIOS:
            numbers = [n / numbers[0] for n in numbers[1:]]
        if known[where, what] == pytest.approx(tuple(numbers)):  # of a population's years, the latest
            held.pop((where, what), None)
    assert not held, f"held but not published: {sorted(held)}"
    assert used == {*FIGURES_LEFT}


def test_constants_that_are_put_in_are_those_that_were_published():
    """Of shares and quartiles whose line has the band of what is put in."""
    published = {(SELECTION[line.where], line.what): line.published for line in SHFDB4}
    for name, what in (
        ("male", "Sex Male|SwedeHF"),
        ("inpatient_hf", "Location/HF in-patient|NPR"),
        ("atrial_fibrillation", "Atrial fibrillation/flutter|SwedeHF+NPR"),
        ("ischaemic_heart_disease", "IHD|SwedeHF+NPR"),
        ("hypertension", "Hypertension|SwedeHF+NPR"),
        ("diabetes", "Diabetes|SwedeHF+NPR"),
        ("renal_failure", "Renal failure|NPR"),
        ("copd", "COPD|NPR"),
        ("cancer", "Malignant cancer within 3 years|NPR"),
    ):
        for selection in ("population", "registry"):
            assert (getattr(c.SHARES[name], selection),) == published[selection, what]


# --- what no line says ------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["population", "registry"])
@pytest.mark.parametrize("name", [name for name, share in c.SHARES.items() if "assumed" in share.source])
def test_assumed_shares_are_made_as_well(name, selection):
    who, _ = national(selection)
    levels = {
        "arni": who["arni"] / c.FIGURES["arni_asked"].value,
        "sglt2i": who["sglt2i"] / c.FIGURES["sglt2i_asked"].value,
        "smoking_current": who["smoking"] == 2,
        "smoking_former": who["smoking"] == 1,
        "pacemaker": who["device"] == 1,
        "crt_p": who["device"] == 2,
        "crt_d": who["device"] == 3,
        "prior_admission": who["prior_admissions"] >= 1,
        "prior_admission_2": who["prior_admissions"] >= 2,
        "prior_admission_3": who["prior_admissions"] >= 3,
        "prior_admission_4": who["prior_admissions"] >= 4,
    }
    found = levels[name] if name in levels else who.get(f"coded_{name}", who.get(name))
    assert near(found.mean(), getattr(c.SHARES[name], selection), 1.2, len(found))


@pytest.mark.parametrize("name", [name for name in c.SPREADS if name != "length_of_stay"])
def test_measurements_are_missing_as_often_as_published(name):
    who, _ = national("registry")
    has, s = who[f"has_{name}"], c.SPREADS[name]
    assert near(1 - has.mean(), s.missing, 0.4, len(has))
    # Of everyone, measured or not, quartiles are those put in.
    assert np.quantile(who[name], (0.25, 0.5, 0.75)) == pytest.approx((s.lower, s.median, s.upper), rel=0.01)


def test_what_is_missing_in_the_registry_is_what_was_published(shared_data):
    rows = table(shared_data, "swedehf_v4_marginals.csv")
    missing = {row["variable"]: row["missing_pct"] for row in rows if row["cohort"] == REGISTRY}
    for name, variable in (
        ("nt_probnp", "NT-proBNP (pg/mL)"),
        ("creatinine", "Creatinine (µmol/L)"),
        ("haemoglobin", "Hemoglobin (g/L)"),
        ("potassium", "Potassium (mmol/L)"),
        ("sodium", "Sodium (mmol/L)"),
        ("systolic_pressure", "Systolic blood pressure (mmHg)"),
        ("diastolic_pressure", "Diastolic blood pressure (mmHg)"),
        ("heart_rate", "Heart rate (beats/min)"),
        ("bmi", "BMI (kg/m²)"),
        ("qrs", "QRS width (ms)"),
    ):
        assert c.SPREADS[name].missing == float(missing[variable]), name
    assert c.FIGURES["smoking_missing"].value == float(missing["Smoking"])
    assert float(missing["NYHA class"]) == c.NYHA_MISSING


def test_inhibitors_exclude_one_another():
    who, _ = national("registry")
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


def test_who_has_many_conditions_has_them_together():
    """High Charlson indices come of conditions that go together, and what is within another never stands
    alone."""
    who, _ = national()
    for part, whole in c.WITHIN.items():
        assert not (who[f"coded_{part}"] & ~who[f"coded_{whole}"]).any()
    for a, b in (("renal_failure", "diabetes"), ("stroke", "dementia"), ("copd", "cancer")):
        both = (who[f"coded_{a}"] & who[f"coded_{b}"]).mean()
        assert both > 1.05 * who[f"coded_{a}"].mean() * who[f"coded_{b}"].mean(), (a, b)
    assert {"metastases", "diabetes_complications"} <= codes.COMORBIDITY.keys()
