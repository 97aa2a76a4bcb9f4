"""How regions differ: Halland, Örebro, Kronoberg and Karolinska, Sweden's 21, and made-up hospitals.

All are deviations from one national patient; a dial scales each kind of deviation, and 0 makes all regions
the same in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from fedsim.base import nearest, require
from fedsim.cohort.codes import UNITS_OF
from fedsim.cohort.draws import name_words

SCB = "Statistics Sweden via regionfakta"
ROUNDED = "assumed: Statistics Sweden's figure from memory, rounded to thousands"
NATIONAL_SHARE_65 = 20.1  # percent aged 65 and over, 2020, Statistics Sweden via regionfakta
AGE_PER_SHARE = 0.02  # shift of patients' age index per percentage point of 65+; assumed
INCIDENCE = 8775 / 342_805  # patients per inhabitant, seven years: Davidge 2022, Halland


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region as it is, all dials at 1. Every number but the population is 0 for the national average.

    population: inhabitants; of a hospital, whom it serves.
    age: shift of patients' age index, in its deviations.
    mortality: log hazard ratio of death, of care and of who is counted.
    phenotyping: shift of the index of echocardiography.
    coding: shift of the thresholds of diagnoses; above 0, milder disease is coded too.
    referral: how sick, in deviations, patients are who are sent there.
    selection: how far the frail and old are missed, in deviations of frailty.
    drift: how much faster practice changes than in the country: exp of it.
    units: measurements recorded in their second unit.
    """

    name: str
    population: float
    age: float = 0.0
    mortality: float = 0.0
    phenotyping: float = 0.0
    coding: float = 0.0
    referral: float = 0.0
    selection: float = 0.0
    drift: float = 0.0
    units: tuple[str, ...] = ()
    source: str = "assumed"


def _age(share_65: float) -> float:
    return AGE_PER_SHARE * (share_65 - NATIONAL_SHARE_65)


HALLAND = Region(
    name="halland",
    population=342_805,
    age=_age(22.0),
    mortality=0.3346,
    coding=0.1,
    selection=-0.1,
    source=f"population and age: {SCB}; mortality solved: 30 and 42 % in a year with and without phenotype, "
    "Davidge 2022 BMJ Open 12:e064997; the rest assumed",
)
OREBRO = Region(
    name="orebro",
    population=308_375,
    age=_age(21.8),
    mortality=0.05,
    phenotyping=0.25,
    coding=-0.15,
    referral=0.15,
    selection=0.1,
    drift=0.3,
    units=("nt_probnp",),
    source=f"population and age: {SCB}; the rest assumed",
)
KRONOBERG = Region(
    name="kronoberg",
    population=203_351,
    age=_age(21.5),
    mortality=-0.05,
    phenotyping=-0.3,
    coding=0.2,
    selection=-0.05,
    drift=-0.3,
    units=("haemoglobin",),
    source=f"population: {SCB}; the rest assumed",
)
KAROLINSKA = Region(
    name="karolinska",
    population=300_000,
    age=-0.6,
    mortality=-0.1,
    phenotyping=0.9,
    coding=0.1,
    referral=1.0,
    selection=0.4,
    drift=0.5,
    units=("creatinine",),
    source="assumed: a university hospital's younger, referred patients with more devices",
)
# Inhabitants in thousands, percent aged 65 and over; those above are as they stand there.
_OTHERS = {
    "stockholm": (2473.307, 16.3),
    "uppsala": (405.0, 19.0),
    "sodermanland": (302.0, 22.7),
    "ostergotland": (473.0, 20.4),
    "jonkoping": (369.0, 21.0),
    "kalmar": (247.0, 25.8),
    "gotland": (61.0, 27.0),
    "blekinge": (157.0, 24.7),
    "skane": (1428.0, 19.4),
    "vastra_gotaland": (1773.0, 19.3),
    "varmland": (283.0, 24.6),
    "vastmanland": (281.0, 22.3),
    "dalarna": (287.0, 25.2),
    "gavleborg": (285.0, 24.8),
    "vasternorrland": (242.0, 25.2),
    "jamtland": (132.0, 24.6),
    "vasterbotten": (280.0, 21.3),
    "norrbotten": (248.0, 24.9),
}


def made_up(name: str, population: float, share_65: float = NATIONAL_SHARE_65, source: str = "") -> Region:
    """A region whose ways follow from its name: deviations that are as large as those of the known ones."""
    z = np.random.default_rng([int(w) for w in name_words(name)]).standard_normal(8)
    return Region(
        name=name,
        population=population,
        age=_age(share_65) + 0.05 * float(z[0]),
        mortality=0.08 * float(z[1]),
        phenotyping=0.25 * float(z[2]),
        coding=0.15 * float(z[3]),
        referral=0.1 * float(z[4]),
        selection=0.1 * float(z[5]),
        drift=0.3 * float(z[6]),
        units=(("nt_probnp",) if z[7] > 0.8 else ("haemoglobin",) if z[7] < -1.2 else ()),
        source=source or "assumed: drawn",
    )


def _sweden() -> dict[str, Region]:
    made = {
        name: made_up(
            name,
            1000 * thousands,
            share,
            f"population: {SCB if name == 'stockholm' else ROUNDED}; the rest assumed: drawn",
        )
        for name, (thousands, share) in _OTHERS.items()
    }
    return made | {r.name: r for r in (HALLAND, OREBRO, KRONOBERG)}


THREE = tuple(region.name for region in (HALLAND, KRONOBERG, OREBRO))
SWEDEN: dict[str, Region] = _sweden()
KNOWN: dict[str, Region] = SWEDEN | {KAROLINSKA.name: KAROLINSKA}


def hospital(index: int, width: int) -> Region:
    """A made-up hospital: it serves 20,000 to 300,000 people, and differs in all ways as regions do."""
    name = f"hospital_{index:0{width}d}"
    low, high = np.random.default_rng([*map(int, name_words(name)), 1]).standard_normal(2)
    people = float(np.clip(90_000 * exp(0.7 * low), 20_000, 300_000))
    return made_up(name, people, NATIONAL_SHARE_65 + 2.5 * float(high))


def chosen(regions: str | int | Sequence[str]) -> tuple[Region, ...]:
    """`three`, `sweden`, that many hospitals, or regions by name, in name order.

    Raises:
      RequestError: an unknown name, one twice, or less than one hospital.
    """
    if isinstance(regions, int):
        require(1 <= regions <= 100_000, f"data.regions must be in [1, 100000] hospitals, got {regions}")
        width = max(3, len(str(regions - 1)))
        return tuple(hospital(i, width) for i in range(regions))
    sets = {"three": THREE, "sweden": tuple(SWEDEN)}
    if isinstance(regions, str):
        require(
            regions in (*sets, *KNOWN),
            f"data.regions names no region {regions!r}; {nearest(regions, (*sets, *KNOWN))}; or set a number "
            "of hospitals",
        )
    names = sets.get(regions, (regions,)) if isinstance(regions, str) else tuple(regions)
    require(names, "data.regions is empty; name a region, three, sweden, or a number of hospitals")
    for name in names:
        require(name in KNOWN, f"data.regions names no region {name!r}; {nearest(name, KNOWN)}")
    require(len(set(names)) == len(names), f"data.regions names a region twice, got {list(names)}")
    return tuple(KNOWN[name] for name in sorted(names))


WAYS = ("age", "mortality", "phenotyping", "coding", "referral", "selection", "drift")


def in_effect(region: Region, dials: Mapping[str, float]) -> dict[str, float]:
    """A region's deviations with each dial's share of them. drift: how fast its practice changes, 0 never.

    units is the share of measurements that come in the region's own units.
    """
    found = {way: dials[way] * getattr(region, way) for way in WAYS if way != "drift"}
    found["drift"] = dials["drift"] * exp(region.drift) if dials["drift"] else 0.0
    own = {f"unit_{name}": min(1.0, dials["units"]) * (name in region.units) for name in second_units()}
    return found | own


def second_units() -> tuple[str, ...]:
    """Measurements that have a second unit."""
    return tuple(name for name, units in UNITS_OF.items() if len(units) > 1)


def sizes(regions: Sequence[Region], patients: int | None, dial: float) -> list[int]:
    """Patients of each region, at least one each.

    Args:
      patients: of all together; None: `INCIDENCE` of their people.
      dial: 0: all of equal size; 1: as their populations; above: more unequal.
    """
    weights = np.array([exp(dial * log(r.population)) for r in regions])
    total = patients if patients is not None else INCIDENCE * sum(r.population for r in regions)
    ends = np.rint(np.cumsum(weights / weights.sum()) * total).astype(np.int64)
    return [max(1, int(n)) for n in np.diff(ends, prepend=0)]
