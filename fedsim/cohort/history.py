"""The records that patients leave: visits, diagnoses, drugs, devices, measurements, deaths. Host only.

Nothing new is decided here about who falls ill or when: each row is a trace of `patients` and `course`, with
days and codes drawn for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsim.cohort import codes
from fedsim.cohort import constants as c
from fedsim.cohort.course import PER_ADMISSION, admission_cost, visits_until
from fedsim.cohort.draws import Draws, draws, name_words
from fedsim.cohort.patients import AFTER, CONDITIONS, LABS, figure, spread
from fedsim.cohort.population import CHUNK, Cohort
from fedsim.cohort.records import SCHEMA, Records

WARD, CLINIC, EMERGENCY, PRIMARY = range(4)  # positions in codes.VISIT
LOOK_BACK = 5 * 365  # days known of before the index
AGAIN = ("creatinine", "potassium", "haemoglobin", "nt_probnp", "systolic_pressure")
EVERY = int(c.FIGURES["measured_again"].value)  # of how many clinic visits one measures again
KEPT = c.FIGURES["measurement_kept"].value
DECIMALS = {"potassium": 1, "bmi": 1}  # of values in their first unit; two for second units

_WORDS = AFTER + len(PER_ADMISSION) * c.ADMISSIONS
_PURPOSES = (
    *("history", "heart_failure_code", "other_reason"),
    *(f"known_{name}" for name in CONDITIONS),
    *(f"since_{name}" for name in (*codes.DRUGS, "device")),
    *(f"stopped_{name}" for name in codes.DRUGS),
    *(f"before_{name}" for name in AGAIN),
    *(f"prior_{i}" for i in range(4)),
)
WORD = {name: _WORDS + at for at, name in enumerate(_PURPOSES)}

Rows = dict[str, np.ndarray]


def records(cohort: Cohort, k: int, start: int = 0, stop: int | None = None) -> Records:
    """Records of patients start to stop (default: all) of region `k`; persons are numbered from 0.

    About 10 kB a patient; a large region is written piece by piece.
    """
    stop = cohort.sizes[k] if stop is None else stop
    parts = [_chunk(cohort, k, at, min(at + CHUNK, stop)) for at in range(start, stop, CHUNK)]
    joined: dict[str, Rows] = {table: {} for table in SCHEMA}
    persons = np.cumsum([0, *(len(part["person"]["id"]) for part in parts)])
    visits = np.cumsum([0, *(len(part["visit"]["id"]) for part in parts)])
    added = {"person": persons, "visit": visits}
    for table, columns in SCHEMA.items():
        for name, column in columns.items():
            shift = added.get(table if name == "id" else name)
            pieces = []
            for i, part in enumerate(parts):
                values = part[table][name]
                if shift is not None:
                    values = np.where(values >= 0, values + shift[i], values)
                pieces.append(values.astype(column.dtype))
            joined[table][name] = np.concatenate(pieces)
    return Records(region=cohort.regions[k].name, **joined)


def _chunk(cohort: Cohort, k: int, start: int, stop: int) -> dict[str, Rows]:
    who, then = cohort.made(k, start, stop)
    index = np.arange(start, stop, dtype=np.uint32)
    drawn = draws(np, cohort.cfg.seed, name_words(cohort.regions[k].name), index)
    coding = float(cohort.setting(k).place["coding"])
    n = len(index)
    person = np.arange(n)
    visit = _visits(drawn, who, then, coding)
    tables: dict[str, Rows] = {
        "person": {
            "id": person,
            **{key: who[key] for key in ("male", "birth_day", "deprivation", "living_alone", "education")},
            "smoking": np.where(who["has_smoking"], who["smoking"], -1),
        },
        "observation_period": {
            "person": person,
            "start": np.maximum(who["index_day"] - LOOK_BACK, who["birth_day"]),
            "end": who["index_day"] + then["end"],
        },
        "death": {
            "person": person[then["died"]],
            "day": (who["index_day"] + then["death"])[then["died"]],
            "cardiovascular": then["cardiovascular"][then["died"]],
        },
        "visit": visit,
        "drug": _drugs(drawn, who, then),
        "device": _devices(drawn, who, visit),
    }
    tables["condition"] = _conditions(drawn, who, visit, coding)
    tables["measurement"] = _measurements(drawn, who, then, visit)
    del visit["at"]
    return tables


def _joined(parts: list[Rows], *by: str) -> Rows:
    """Rows of all parts, which have the same columns, sorted by some of them."""
    whole = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]}
    order = np.lexsort([whole[name] for name in reversed(by)])
    return {name: values[order] for name, values in whole.items()}


def _heart_failure(drawn: Draws, who: Rows, coding: float) -> np.ndarray:
    """int[n]: a patient's code of heart failure, a position in codes.ICD."""
    u = drawn.uniform(WORD["heart_failure_code"])
    usual, moved = (c.FIGURES[name].value for name in ("unspecific", "unspecific_per_coding"))
    rest = (u - np.clip(usual + moved * coding, 0.05, 0.95)) / (1 - usual)
    needs = {"I11.0": "coded_hypertension", "I25.5": "coded_ischaemic_heart_disease"}
    has = [who[needs[code]] if code in needs else True for code in c.HEART_CODES]
    upper = np.cumsum(list(c.HEART_CODES.values()))
    upper[-1] = np.inf  # where coding practice leaves more than 1 - usual
    return np.asarray(
        np.select(
            [rest < 0, *((rest < top) & own for top, own in zip(upper, has, strict=True))],
            [codes.ICD.index(name) for name in ("I50.9", *c.HEART_CODES)],
            default=codes.ICD.index("I50.9"),
        )
    )


def _visits(drawn: Draws, who: Rows, then: Rows, coding: float) -> Rows:
    """Columns of `visit`, and `at`: 0 at the index visit, 1, 2, ... at clinic visits after it, else -1."""
    n, day = len(who["male"]), who["index_day"]
    person, heart = np.arange(n), _heart_failure(drawn, who, coding)
    reasons = np.array([codes.ICD.index(name) for name in codes.ADMITTED_FOR])
    parts: list[Rows] = []

    def add(
        whose: Any, kind: Any, start: Any, stop: Any, planned: Any, code: Any, cost: Any, at: Any = -1
    ) -> None:
        columns = {
            **{"person": whose, "kind": kind, "start": start, "end": stop, "planned": planned},
            **{"diagnosis": code, "cost": cost, "at": at},
        }
        shape = np.shape(whose)
        parts.append({name: np.broadcast_to(np.asarray(value), shape) for name, value in columns.items()})

    def of_reason(word: int) -> np.ndarray:
        return reasons[(drawn.uniform(word) * len(reasons)).astype(np.int32)]

    # Admissions of the year before, each in its own part of it, none for the heart that was coded so.
    count = who["prior_admissions"]
    part = 365 // np.maximum(count, 1)
    for i in range(4):
        some = np.flatnonzero(count > i)
        u = drawn.uniform(WORD[f"prior_{i}"])
        start = (day - part * (i + 1) + (u * (part - 12)).astype(np.int32))[some]
        days = drawn.words(WORD[f"prior_{i}"]) % np.uint32(figure("prior_stay"))
        stay = 1 + days.astype(np.int32)[some]
        add(some, WARD, start, start + stay, False, of_reason(WORD[f"prior_{i}"])[some], admission_cost(stay))

    ward = who["inpatient"]
    main = np.where(ward & ~who["inpatient_hf"], of_reason(WORD["other_reason"]), heart)
    cost = np.where(ward, admission_cost(then["stay"]), figure("outpatient_visit"))
    add(person, np.where(ward, WARD, CLINIC), day, day + then["stay"], ~ward, main, cost, 0)
    add(person[ward], EMERGENCY, day[ward], day[ward], False, main[ward], figure("emergency_visit"))

    for i in range(c.ADMISSIONS):
        word = AFTER + len(PER_ADMISSION) * i + PER_ADMISSION.index("reason")
        u = drawn.uniform(word)
        code = np.where(
            u < figure("admitted_for_heart"), heart, reasons[(u * 1e4).astype(np.int32) % len(reasons)]
        )
        some = np.flatnonzero(then["inside"][i])
        start, stop = (day[some] + then[key][i][some] for key in ("start", "stop"))
        planned = then["planned"][i][some]
        add(some, WARD, start, stop, planned, code[some], admission_cost(stop - start))
        sudden, begins = some[~planned], start[~planned]
        add(sudden, EMERGENCY, begins, begins, False, code[sudden], figure("emergency_visit"))

    for kind, name in ((CLINIC, "outpatient"), (PRIMARY, "primary")):
        gap, phase = then[f"{name}_gap"], then[f"{name}_phase"]
        number = visits_until(then["end"], gap, phase, np)
        whose = np.repeat(person, number)
        i = np.arange(len(whose)) - np.repeat(np.cumsum(number) - number, number)
        after = np.minimum(((i + phase[whose]) * gap[whose]).astype(np.int32), then["end"][whose] - 1)
        start = day[whose] + after
        at = 1 + i if kind == CLINIC else -1
        add(whose, kind, start, start, True, heart[whose], figure(f"{name}_visit"), at)
    whole = _joined(parts, "person", "start", "kind")
    return {"id": np.arange(len(whole["person"])), **whole}


def _conditions(drawn: Draws, who: Rows, visit: Rows, coding: float) -> Rows:
    """Main diagnoses of all visits, heart failure at the index, and comorbidity there or before."""
    day, index = who["index_day"], visit["id"][visit["at"] == 0]
    parts = [
        {"person": visit["person"], "visit": visit["id"], "code": visit["diagnosis"], "day": visit["start"]}
    ]
    heart = _heart_failure(drawn, who, coding)
    aside = np.flatnonzero(who["inpatient"] & ~who["inpatient_hf"])
    parts.append({"person": aside, "visit": index[aside], "code": heart[aside], "day": day[aside]})
    before = np.flatnonzero(who["duration_months"] > 0)  # of the registry: known for longer
    months = who["duration_months"][before]
    first = day[before] - np.minimum((months * 30.4).astype(np.int32), LOOK_BACK)
    parts.append({"person": before, "visit": np.full(len(before), -1), "code": heart[before], "day": first})
    for name in CONDITIONS:
        some = np.flatnonzero(who[f"coded_{name}"])
        u = drawn.uniform(WORD[f"known_{name}"])[some]
        now = u < figure("coded_at_index")  # the others, on any day known of before
        later = (u - figure("coded_at_index")) / (1 - figure("coded_at_index"))
        ago = np.where(now, 0, 1 + (later * (LOOK_BACK - 1)).astype(np.int32))
        code = np.full(len(some), codes.ICD.index(codes.COMORBIDITY[name]))
        parts.append(
            {"person": some, "visit": np.where(now, index[some], -1), "code": code, "day": day[some] - ago}
        )
    return _joined(parts, "person", "day", "code")


def _drugs(drawn: Draws, who: Rows, then: Rows) -> Rows:
    """Drugs at the index: half began then, half in the two years before; some end early."""
    parts, early = [], c.FIGURES["drug_stopped"].value
    for at, name in enumerate(codes.DRUGS):
        some = np.flatnonzero(who[name])
        since, stopped = (drawn.uniform(WORD[f"{key}_{name}"])[some] for key in ("since", "stopped"))
        start = who["index_day"][some] - np.maximum((2 * since - 1) * figure("drug_since"), 0).astype(
            np.int32
        )
        covered = then["end"][some] * np.where(stopped < early, stopped / early, 1)
        end = who["index_day"][some] + covered.astype(np.int32)
        parts.append({"person": some, "code": np.full(len(some), at), "start": start, "end": end})
    return _joined(parts, "person", "start", "code")


def _devices(drawn: Draws, who: Rows, visit: Rows) -> Rows:
    some = np.flatnonzero(who["device"] > 0)
    ago = (drawn.uniform(WORD["since_device"])[some] * LOOK_BACK).astype(np.int32)
    return {
        "person": some,
        "visit": np.full(len(some), -1),
        "code": who["device"][some] - 1,
        "day": who["index_day"][some] - ago,
    }


def _measurements(drawn: Draws, who: Rows, then: Rows, visit: Rows) -> Rows:
    """What was measured at the index, earlier, and at every third clinic visit after it."""
    day, index = who["index_day"], visit["id"][visit["at"] == 0]
    fresh = np.float32((1 - KEPT**2) ** 0.5)
    parts = []

    def add(name: str, some: np.ndarray, visits: Any, days: np.ndarray, value: np.ndarray) -> None:
        units = codes.UNITS_OF[name]
        second = who[f"unit_{name}"][some] if len(units) > 1 else np.zeros(len(some), bool)
        low, high = c.LIMITS.get(name, (0, np.inf))
        beyond = (value <= low).astype(np.int8) + 2 * (value >= high) if name == "nt_probnp" else 0
        value = np.round(value.astype(np.float64), DECIMALS.get(name, 0))
        if len(units) > 1:
            value = np.where(second, np.round(value * codes.FACTOR[name, units[1]], 2), value)
        unit = np.array([codes.UNIT.index(u) for u in units])[second.astype(np.int8)]
        columns = {
            **{"person": some, "visit": visits, "code": codes.MEASUREMENT.index(name), "day": days},
            **{"value": value, "unit": unit, "operator": beyond},
        }
        parts.append({key: np.broadcast_to(np.asarray(v), some.shape) for key, v in columns.items()})

    for name in (*LABS, "lvef", "nyha"):
        some = np.flatnonzero(who[f"has_{name}"])
        add(name, some, index[some], day[some], who[name][some])
    later = np.flatnonzero((visit["at"] > 0) & (visit["at"] % EVERY == 0))
    whose = visit["person"][later]
    for at, name in enumerate(AGAIN):
        some = np.flatnonzero(who[f"has_{name}"])
        u = drawn.uniform(WORD[f"before_{name}"])[some]
        z = np.float32(KEPT) * who[f"z_{name}"] + fresh * drawn.normal(WORD[f"before_{name}"])
        add(name, some, -1, day[some] - 30 - (u * 600).astype(np.int32), spread(name, z[some], np))
        # One stream per visit: the patient's, moved on by the visit's number.
        moved = Draws(np, drawn.start[whose], drawn.stride[whose])
        with np.errstate(over="ignore"):
            word = (WORD["history"] + 100 + at + 10 * visit["at"][later]).astype(np.uint32)
            noise = Draws(np, moved.start + moved.stride * word, moved.stride).normal(0)
        z = np.float32(KEPT) * who[f"z_{name}"][whose] + fresh * noise
        known = who[f"has_{name}"][whose]
        add(
            name,
            whose[known],
            visit["id"][later][known],
            visit["start"][later][known],
            spread(name, z[known], np),
        )
    return _joined(parts, "person", "day", "code")
