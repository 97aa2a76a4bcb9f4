"""Single figures of articles and official statistics on Swedish heart failure: held in a band, or left out.

The lines are those of a table that is no part of the repository, where each has its source; so has the
constant it decides, in docs/cohort.md. tests/cohort/test_marginals.py holds both to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from math import exp
from typing import Any

import numpy as np

from fedsim.cohort import Cohort, codes, records, regions
from fedsim.cohort import constants as c
from fedsim.cohort.effects import DEATH
from fedsim.config import HeartFailure
from tests.cohort.made import dead_by, known_100, national, region
from tests.cohort.published import Line, Who

DAVIDGE_YEARS = 2020  # its index dates end before


@cache
def _halland() -> tuple[Who, Who]:
    return region("halland")


def _halland_dead(phenotyped: bool) -> Iterable[float]:
    who, then = _halland()
    some = (who["year"] < DAVIDGE_YEARS) & (who["has_lvef"] == phenotyped)
    return [100 * dead_by({key: then[key][some] for key in ("end", "died")}, 365)]


def _halland_lvef(low: float, high: float) -> Iterable[float]:
    who, _ = _halland()
    lvef = who["lvef"][who["has_lvef"] & (who["year"] < DAVIDGE_YEARS)]
    return [100 * ((lvef >= low) & (lvef < high)).mean()]


@cache
def _halland_cost() -> tuple[float, float]:
    """EUR per patient and year: all, wards; of all years of 12,000 patients, from their records."""
    n = 12_000
    cohort = Cohort(HeartFailure(regions="halland", external=(), patients=n))
    found, (who, then) = records(cohort, 0), cohort.made(0, 0, n)
    visit = found.visit
    after = visit["start"] >= who["index_day"][visit["person"]]
    years, rate = then["end"].sum() / 365.25, c.FIGURES["sek_per_eur"].value
    wards = visit["cost"][after & (visit["kind"] == 0)].sum(dtype=np.float64)
    drugs = sum((who[name] * then["end"]).sum() for name in codes.DRUGS) / 365.25
    total = visit["cost"][after].sum(dtype=np.float64) + drugs * c.FIGURES["drug_year"].value
    return float(total / rate / years), float(wards / rate / years)


def _halland_first_year() -> Iterable[float]:
    _, then = _halland()
    return [100 * then["cost_inpatient"].sum() / then["cost"].sum()]


def _halland_readmitted() -> Iterable[float]:
    _, then = _halland()
    return [100 * (then["unplanned"] <= 100)[known_100(then)].mean()]


def _died(years: int) -> Iterable[float]:
    return [100 * dead_by(national()[1], 365 * years)]


def _reduced_died() -> Iterable[float]:
    who, then = national("registry")
    some = who["has_lvef"] & (who["lvef"] < 40)
    return [100 * dead_by({key: then[key][some] for key in ("end", "died")}, 365)]


def _peptide() -> Iterable[float]:
    """Medians of the registry's outpatients by phenotype: mildly reduced and reduced to preserved."""
    who, _ = national("registry")
    some = ~who["inpatient"] & who["has_lvef"] & who["has_nt_probnp"]
    groups = (who["lvef"] < 40, (who["lvef"] >= 40) & (who["lvef"] < 50), who["lvef"] >= 50)
    reduced, mildly, preserved = (np.median(who["nt_probnp"][some & group]) for group in groups)
    return [mildly / preserved, reduced / preserved]


def _trend() -> Iterable[float]:
    """Percent a year by which the hazard of death changes, everything else being equal."""
    (who, then), (calm, still) = (region("halland", patients=20_000, **kw) for kw in ({}, {"drift": 0}))
    changed = then["death_risk"] - still["death_risk"]
    same = (who["sglt2i"] == calm["sglt2i"]) & (who["has_lvef"] == calm["has_lvef"])
    return [100 * np.polyfit(who["year"][same] - 2018, changed[same], 1)[0]]


def _ratio(name: str) -> Iterable[float]:
    return [exp(DEATH[name].reduced), exp(DEATH[name].preserved)]


def _figure(
    where: str, what: str, *published: float, band: float, made: Callable[[], Any], relative: bool = False
) -> Line:
    return Line(where, what, published, band, relative, made)


def _people(name: str) -> Callable[[], Iterable[float]]:
    return lambda: [regions.KNOWN[name].population]


HR = "adjusted HR of death"
FIGURES: list[Line] = [
    _figure(
        "Halland",
        "HF patients identified (ICD-10, adults)",
        8775,
        band=0,
        made=lambda: regions.sizes([regions.HALLAND], None, 1.0),
    ),
    _figure(
        "Halland",
        "share with a conclusive echocardiography",
        57,
        band=1.5,
        made=lambda: [100 * _halland()[0]["has_lvef"][_halland()[0]["year"] < DAVIDGE_YEARS].mean()],
    ),
    _figure("Halland", "HFrEF share of phenotyped", 35, band=1.5, made=lambda: _halland_lvef(0, 40)),
    _figure("Halland", "HFmrEF share of phenotyped", 27, band=1.5, made=lambda: _halland_lvef(40, 50)),
    _figure("Halland", "HFpEF share of phenotyped", 38, band=1.5, made=lambda: _halland_lvef(50, 100)),
    _figure(
        "Halland", "one-year all-cause mortality, phenotyped", 30, band=1.5, made=lambda: _halland_dead(True)
    ),
    _figure(
        "Halland",
        "one-year all-cause mortality, no defined phenotype",
        42,
        band=1.5,
        made=lambda: _halland_dead(False),
    ),
    _figure(
        "Halland",
        "hazard ratio of death, no phenotype vs phenotyped",
        1.27,
        band=0.001,
        made=lambda: list(_ratio("not_phenotyped"))[:1],
    ),
    _figure(
        "Halland",
        "health-care cost per HF patient",
        9790,
        band=0.03,
        relative=True,
        made=lambda: [_halland_cost()[0]],
    ),
    _figure(
        "Halland",
        "inpatient cost per HF patient",
        5601,
        band=0.03,
        relative=True,
        made=lambda: [_halland_cost()[1]],
    ),
    _figure(
        "Halland",
        "inpatient share of HF cost",
        57.2,
        band=1.5,
        made=lambda: [100 * _halland_cost()[1] / _halland_cost()[0]],
    ),
    _figure("Halland", "hospitalisation share of first-year HF cost", 68, band=2, made=_halland_first_year),
    _figure(
        "Halland",
        "unplanned readmission within 100 days of a HF discharge",
        33,
        band=1,
        made=_halland_readmitted,
    ),
    _figure(
        "Sweden", "one-year mortality after first HF diagnosis (NPR)", 25, band=0.7, made=lambda: _died(1)
    ),
    _figure("Sweden", "three-year mortality", 46, band=0.7, made=lambda: _died(3)),
    _figure("Sweden", "five-year mortality", 58, band=0.7, made=lambda: _died(5)),
    _figure("Sweden", "one-year mortality trend", -1.10, band=0.05, made=_trend),
    _figure("Uppsala", "HFrEF: one-year mortality", 15.9, band=0.7, made=_reduced_died),
    _figure(
        "Sweden (SwedeHF outpatients, n=9847)",
        "median NT-proBNP HFpEF / HFmrEF / HFrEF",
        *(1540 / 1428, 2288 / 1428),
        band=0.15,
        relative=True,
        made=_peptide,
    ),
    _figure(
        "Sweden",
        f"{HR} diabetes HFrEF(<50) / HFpEF",
        *(1.57, 1.39),
        band=0.001,
        made=lambda: _ratio("diabetes"),
    ),
    _figure(
        "Sweden",
        f"{HR} renal failure HFrEF(<50) / HFpEF",
        *(1.65, 1.44),
        band=0.001,
        made=lambda: _ratio("renal_failure"),
    ),
    _figure(
        "Sweden",
        f"{HR} pulmonary disease HFrEF(<50) / HFpEF",
        *(1.46, 1.66),
        band=0.001,
        made=lambda: _ratio("copd"),
    ),
    _figure(
        "Sweden",
        f"{HR} liver disease HFrEF(<50) / HFpEF",
        *(2.13, 1.42),
        band=0.001,
        made=lambda: _ratio("liver_disease"),
    ),
    _figure("Halland", "population", 342_805, band=0, made=_people("halland")),
    _figure(
        "Halland",
        "share aged 65+",
        22.0,
        band=0.1,
        made=lambda: [regions.HALLAND.age / regions.AGE_PER_SHARE + regions.NATIONAL_SHARE_65],
    ),
    _figure("Orebro", "population", 308_375, band=0, made=_people("orebro")),
    _figure(
        "Orebro",
        "aged 65+",
        67_161,
        band=0.005,
        relative=True,
        made=lambda: [
            307_772 * (regions.OREBRO.age / regions.AGE_PER_SHARE + regions.NATIONAL_SHARE_65) / 100
        ],
    ),
    _figure("Kronoberg", "population", 203_351, band=0, made=_people("kronoberg")),
    _figure("Stockholm (Karolinska catchment)", "population", 2_473_307, band=0, made=_people("stockholm")),
    _figure(
        "Sweden",
        "population",
        10_587_710,
        band=0.005,
        relative=True,
        made=lambda: [sum(r.population for r in regions.SWEDEN.values())],
    ),
    _figure("Sweden", "share aged 65+", 20.1, band=0, made=lambda: [regions.NATIONAL_SHARE_65]),
]
NO_PRIMARY_CARE = "of prevalent patients in primary care, whom neither selection is"
# Line -> why it is not held.
FIGURES_LEFT: dict[str, str] = {
    "Halland: acute-care hospitals / inpatient wards / emergency departments / outpatient clinics / "
    "primary-care centres": "a region is one client; its wards are not told apart",
    "Halland: residents carrying a HF diagnosis": "the incidence and mortality that are held make 4,300 of "
    "twelve years; who was diagnosed earlier, or elsewhere, is not made",
    "Halland: lower cost with guideline drug therapy": "an adjusted difference between who is treated and "
    "who is not, and its adjustment is not known; drugs save by fewer admissions here",
    "Uppsala+Vasterbotten: hospitalised within one year of diagnosis, HFrEF / HFpEF": "whether the stay of "
    "the diagnosis counts is not said: 53 % are made without it, 82 % with it",
    "Sweden: secondary-care cost of prevalent HF": "of all who are prevalent, and half of what Halland's "
    "cost per patient makes of them; Halland's is held",
    "Uppsala: HFrEF: HF-related hospital cost": "cost is not split by cause",
    "Uppsala: HFrEF: CV or HF hospitalisations": "cannot hold together with Halland's readmissions and "
    "cost; about 1 admission of any cause per patient-year is made",
    "Sweden primary care (n=924): one-year mortality HFmrEF / HFpEF": NO_PRIMARY_CARE,
    "Sweden primary care (n=924): five-year mortality HFmrEF / HFpEF": NO_PRIMARY_CARE,
    "Skane: HF prevalence, age 20 and over": "only new patients are made, and what becomes of them",
    "Skane: HF patients who are multimorbid": "counts every chronic condition; 23 are made",
}
