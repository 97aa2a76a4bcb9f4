"""Each dial moves what it says, what hangs on that, and nothing else: patient by patient, to the bit."""

from functools import cache

import numpy as np
import pytest

from fedsim.cohort import Cohort, codes
from fedsim.cohort import constants as c
from fedsim.config import Dials, HeartFailure
from tests.cohort.made import NATIONAL

PATIENTS = 3000
# Dial -> latent indices that it shifts.
SHIFTS = {
    "age": {"age"},
    "selection": {"age", "frailty"},
    "referral": {"severity", "ejection", "crt_icd"},
    "phenotyping": {"phenotyped"},
    "drift": {"phenotyped"},
}
CODED = {f"coded_{name}" for name in codes.COMORBIDITY}
MEASURED = {f"has_{name}" for name in (*codes.UNITS_OF, "smoking")}
# Dial -> columns of patients that change beside indices; those of the dials above hang on too much to list.
COLUMNS = {
    "size": set(),
    "mortality": set(),
    "coding": CODED,
    "units": {"unit_creatinine"},
    "phenotyping": MEASURED,
    "drift": MEASURED | {"arni", "acei", "arb", "sglt2i"},
}
# Of what becomes of patients; the hazard of admission and the cause of death do not know of these dials.
DEATH = {"death_risk", "death", "died", "end", "stay", "discharged", "unplanned", "start", "stop", "inside"}
DEATH |= {"cost", "cost_inpatient"}
BECOMES = {
    **{dial: set() for dial in ("size", "coding", "units")},
    **{dial: DEATH for dial in ("mortality", "phenotyping")},
    "drift": DEATH | {"admission_risk", "outpatient_gap", "primary_gap"},  # SGLT2 inhibitors spare admissions
}


@cache
def karolinska(**dials):
    """(patients, course, patients of each region), all other dials at 0."""
    cfg = HeartFailure(regions="halland", patients=PATIENTS, dials=Dials(**vars(NATIONAL) | dials))
    cohort = Cohort(cfg)
    k = [region.name for region in cohort.regions].index("karolinska")
    return *cohort.made(k, 0, PATIENTS), cohort.sizes


def changed(before, after):
    return {name for name in before if not np.array_equal(before[name], after[name])}


def below(roots):
    """Indices that load on some, directly or not, and these."""
    found = set(roots)
    for name, parents in c.LOADINGS.items():  # parents come first
        if found & parents.keys():
            found.add(name)
    return found


@pytest.mark.parametrize("dial", vars(NATIONAL))
def test_a_dial_moves_what_hangs_on_it_and_nothing_else(dial):
    (who, then, sizes), (moved, becomes, other) = karolinska(), karolinska(**{dial: 1.0})
    indices = {name.removeprefix("z_") for name in changed(who, moved) if name.startswith("z_")}
    assert indices == below(SHIFTS.get(dial, set()))
    columns = {name for name in changed(who, moved) if not name.startswith("z_")}
    if dial in COLUMNS:
        assert columns == COLUMNS[dial]
        assert changed(then, becomes) == BECOMES[dial]
    else:
        assert {"male", "index_day", "deprivation"}.isdisjoint(columns)
        assert columns.isdisjoint({f"unit_{name}" for name in ("nt_probnp", "creatinine", "haemoglobin")})
        for name in codes.COMORBIDITY:  # without the dial of coding, what is coded is what they have
            assert np.array_equal(moved[f"coded_{name}"], moved[name])
    assert (sizes != other) == (dial == "size")


@pytest.mark.parametrize("dial", vars(NATIONAL))
def test_twice_a_dial_moves_further(dial):
    """By what each is about."""
    shown = {
        "size": lambda who, then, sizes: sizes[0] / sizes[1],
        "age": lambda who, then, sizes: -who["age"].mean(),
        "mortality": lambda who, then, sizes: -then["death_risk"].mean(),
        "phenotyping": lambda who, then, sizes: who["has_lvef"].mean(),
        "coding": lambda who, then, sizes: who["coded_hypertension"].mean(),
        "units": lambda who, then, sizes: who["unit_creatinine"].mean(),
        "referral": lambda who, then, sizes: who["z_severity"].mean(),
        "selection": lambda who, then, sizes: -who["z_frailty"].mean(),
        "drift": lambda who, then, sizes: who["arni"].mean(),
    }[dial]
    # Units are all a region's own at 1; drift 0 is no year at all, where new drugs have their mean use.
    values = {"units": (0, 0.4, 0.8), "drift": (0.5, 1, 2)}.get(dial, (0, 1, 2))
    low, middle, high = (shown(*karolinska(**{dial: float(value)})) for value in values)
    assert low < middle < high
