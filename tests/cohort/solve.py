"""The constants of the simulator that are solved for, so that published figures come out.

    python tests/cohort/solve.py

Prints each with its value; those in fedsim/cohort are typed from it. tests/cohort/test_marginals.py
holds what comes out of them to the figures.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim.cohort import constants as c
from fedsim.cohort import effects, regions
from fedsim.cohort.codes import DRUGS
from fedsim.cohort.course import course, drugs_of, predictor, visits_until
from fedsim.cohort.draws import draws, name_words
from fedsim.cohort.patients import Selection, Setting, patients

PATIENTS = 400_000
FIRST, DAYS, LAST = 4749, 3652, 9131  # 2013 to 2022; end of 2024


def made(selection: Selection = "population", region: regions.Region | None = None, seed: int = 12345):
    """(patients, course) of the national average, or of a region as it is."""
    dial = 0.0 if region is None else 1.0
    place = regions.in_effect(region or regions.HALLAND, dict.fromkeys((*regions.WAYS, "units"), dial))
    setting = Setting(selection, place, FIRST, DAYS, LAST)
    drawn = draws(np, seed, name_words("solve"), np.arange(PATIENTS, dtype=np.uint32))
    who = patients(drawn, setting)
    return who, course(drawn, setting, who)


def root(f, low: float, high: float) -> float:
    """Where a rising or falling function is 0, by bisection."""
    falling = f(low) > 0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if (f(middle) > 0) == falling else (low, middle)
    return middle


def put(name: str, value: float) -> None:
    c.FIGURES[name] = c.FIGURES[name]._replace(value=value)
    print(f"{name} {value:.4g}")


def died(hazard: float, risk: np.ndarray) -> float:
    return float(1 - np.exp(-hazard * np.exp(risk.astype(np.float64))).mean())


def main() -> None:
    who, then = made()
    for at, share in ((1, 0.25), (3, 0.46), (5, 0.58)):
        put(f"hazard_{at}y", root(lambda h, p=share: died(h, then["death_risk"]) - p, 1e-4, 5))
    year = c.FIGURES["hazard_1y"].value

    sick, later = made("registry")
    reduced = sick["has_lvef"] & (sick["lvef"] < 40)
    risk = later["death_risk"][reduced] - c.FIGURES["hazard_registry"].value
    put("hazard_registry", root(lambda g: died(year, risk + g) - 0.159, -4, 4))

    on_wards = sick["z_length_of_stay"][sick["inpatient"]]
    put("stay_shift", -float(np.median(on_wards)))

    home, there = made("population", regions.HALLAND)
    until_2019 = home["year"] < 2020
    risk = there["death_risk"] - regions.HALLAND.mortality

    def off(g: float) -> float:
        known = [until_2019 & (home["has_lvef"] == seen) for seen in (True, False)]
        return died(year, risk[known[0]] + g) - 0.30 + died(year, risk[known[1]] + g) - 0.42

    halland = replace(regions.HALLAND, mortality=root(off, -3, 3))
    print(f"halland.mortality {halland.mortality:.4g}")

    # Of the patient register, followed to the end of 2023: index years by their quartiles.
    odds = predictor(effects.CARDIOVASCULAR, who, np).astype(np.float64)
    rank = (np.arange(PATIENTS) + 0.5) / PATIENTS
    followed = 2024 - np.interp(rank, (0, 0.25, 0.5, 0.75, 1), (1997, 2005, 2011, 2016, 2023))
    _, then = made()  # with hazards as solved
    dead = then["death"] <= followed * 365.25

    def of_others(o: float) -> float:
        return float((dead / (1 + np.exp(o + odds))).mean()) - 0.321

    put("cardiovascular", root(of_others, -5, 5))

    def readmitted(hazard: float) -> float:
        c.FIGURES["admission_100d"] = c.FIGURES["admission_100d"]._replace(value=hazard)
        _, there = made("population", halland)
        known = there["discharged"] & (there["died"] | (there["end"] - there["stay"] >= 100))
        return float((there["unplanned"] <= 100)[known].mean()) - 0.33

    put("admission_100d", root(readmitted, 0.02, 1.0))

    who, then = made("population", halland)
    years, rate = float(then["end"].sum() / 365.25), c.FIGURES["sek_per_eur"].value
    days = float(np.where(then["inside"], then["stop"] - then["start"], 0).sum() + then["stay"].sum())
    stays = float(then["inside"].sum() + who["inpatient"].sum())
    put("bed_day", (5601 * rate * years - c.FIGURES["admission"].value * stays) / days)
    visits: dict[str, float] = {
        kind: float(visits_until(then["end"], then[f"{kind}_gap"], then[f"{kind}_phase"], np).sum())
        for kind in ("outpatient", "primary")
    }
    sudden: float = float((then["inside"] & ~then["planned"]).sum() + who["inpatient"].sum())
    rest = visits["primary"] * c.FIGURES["primary_visit"].value
    visits["outpatient"] += float((~who["inpatient"]).sum())  # at the index
    rest += sudden * c.FIGURES["emergency_visit"].value
    rest += float((drugs_of(who, DRUGS) * then["end"]).sum()) / 365.25 * c.FIGURES["drug_year"].value
    put("outpatient_visit", (4189 * rate * years - rest) / visits["outpatient"])


if __name__ == "__main__":
    main()
