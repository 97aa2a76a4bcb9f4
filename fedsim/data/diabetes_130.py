"""Diabetes 130-US hospitals 1999-2008: 101,766 admissions of 71,518 patients with diabetes.

Source: Strack et al., "Impact of HbA1c Measurement on Hospital Readmission Rates", BioMed Research
International 2014:781670; UCI Machine Learning Repository, data set 296, doi:10.24432/C5230J.

The table is no part of fedsim: `data.path` is a folder with diabetic_data.csv, plain or gzipped. It names no
hospital; clients are specialties or sources of admission.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fedsim.base import require
from fedsim.config import Diabetes130
from fedsim.data import icd9
from fedsim.data.federation import Federation, gather
from fedsim.data.known import Features, grouped, merged, numbers, read, words

FILE = "diabetic_data.csv"
SHA256 = "0689e7ec031237dc63031b938805c48377748761a3b26acab621567afa24df97"
WHENCE = "UCI Machine Learning Repository, data set 296"
# Codes as in IDs_mapping.csv, which comes with the table.
DIED = ("11", "19", "20", "21")
HOSPICE = ("13", "14")
SOURCES: dict[str, tuple[str, ...]] = {
    "physician referral": ("1",),
    "clinic referral": ("2",),
    "HMO referral": ("3",),
    "transfer from a hospital": ("4",),
    "transfer from a nursing facility": ("5",),
    "transfer from another facility": ("6",),
    "emergency room": ("7",),
    "unknown": ("9", "15", "17", "20", "21"),
}
ADMISSION_TYPES: dict[str, tuple[str, ...]] = {
    "emergency": ("1",),
    "urgent": ("2",),
    "elective": ("3",),
    "unknown": ("5", "6", "8"),
}
DISCHARGES: dict[str, tuple[str, ...]] = {
    "home": ("1",),
    "home with care": ("6", "8"),
    "nursing or long-term care": ("3", "4", "15", "23", "24"),
    "another hospital or rehabilitation": ("2", "5", "9", "10", "22", "27", "28", "29", "30"),
    "hospice": HOSPICE,
    "died": DIED,
    "unknown": ("18", "25", "26"),
}
SPECIALTIES: dict[str, tuple[str, ...]] = {
    "internal medicine": ("InternalMedicine",),
    "emergency": ("Emergency/Trauma",),
    "family or general practice": ("Family/GeneralPractice",),
    "cardiology": ("Cardiology",),
    "nephrology": ("Nephrology",),
    "surgery": (
        *("Surgeon", "SurgicalSpecialty", "Surgery-Cardiovascular", "Surgery-Cardiovascular/Thoracic"),
        *("Surgery-Colon&Rectal", "Surgery-General", "Surgery-Maxillofacial", "Surgery-Neuro"),
        *("Surgery-Pediatric", "Surgery-Plastic", "Surgery-PlasticwithinHeadandNeck", "Surgery-Thoracic"),
        "Surgery-Vascular",
    ),
    "unknown": ("unknown",),
}
BEFORE = ("number_outpatient", "number_emergency", "number_inpatient")  # visits of the year before
DURING = (
    "time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications", "number_diagnoses",
)  # fmt: skip
# Given to at least one in a hundred; the others are one column.
DRUGS = (
    "metformin", "repaglinide", "glimepiride", "glipizide", "glyburide", "pioglitazone", "rosiglitazone",
)  # fmt: skip
RARE = (
    "nateglinide", "chlorpropamide", "acetohexamide", "tolbutamide", "acarbose", "miglitol", "troglitazone",
    "tolazamide", "glyburide-metformin", "glipizide-metformin", "glimepiride-pioglitazone",
    "metformin-rosiglitazone", "metformin-pioglitazone",
)  # fmt: skip


def diabetes_130(cfg: Diabetes130) -> Federation:
    """Load the admissions that `cfg` selects; the patient of each is known at all clients.

    The table's order is no order of time; within a patient, admissions are in order of their numbers.
    Heart failure is ICD-9 428 among the three diagnoses. Left out as features: both identifiers, weight
    (97 % missing) and payer (40 % missing, codes not documented); for length of stay also what is known only
    later, which is all but demography, type and source of admission, specialty and earlier visits.

    Raises:
      RequestError: no folder or file, or another table than the published one.
    """
    frame = read("diabetes_130", cfg.path, FILE, SHA256, WHENCE)
    frame = frame.take(np.argsort(frame["encounter_id"].to_numpy(), kind="stable"))
    frame = _selected(cfg, frame)
    rows = len(frame)
    require(rows > 0, "data=diabetes_130: no admission is left")
    specialty, source = words(frame, "medical_specialty"), words(frame, "admission_source_id")
    by_source = cfg.clients == "admission_source"
    owner = merged(grouped(source, SOURCES, "other") if by_source else specialty, cfg.min_rows)
    readmitted = words(frame, "readmitted")
    stay = cfg.outcome == "length_of_stay"
    if stay:
        y = numbers(frame, "time_in_hospital").astype(np.float32)
    else:
        wanted = ("<30",) if cfg.outcome == "readmission_30" else ("<30", ">30")
        y = np.isin(readmitted, wanted).astype(np.int32)
    features = _features(frame, stay)
    if by_source:
        features.levels("specialty", grouped(specialty, SPECIALTIES, "other"), "internal medicine")
    else:
        features.levels("admission_source", grouped(source, SOURCES, "other"), "emergency room")
    return gather(
        owner.tolist(),
        {"x": features.x, "y": y},
        kind="regression" if stay else "binary",
        classes=0 if stay else 2,
        patient_of_row=frame["patient_nbr"].to_numpy(),
        features=tuple(features.names),
        labels=() if stay else ("not readmitted", "readmitted"),
        licence="CC BY 4.0",
        source="Diabetes 130-US hospitals, UCI data set 296, doi:10.24432/C5230J; Strack et al., BioMed "
        "Research International 2014:781670",
    )


def _selected(cfg: Diabetes130, frame: pa.Table) -> pa.Table:
    """The admissions asked for: heart failure first, then the first of each patient, then who lived."""
    if cfg.heart_failure_only:
        frame = frame.filter(pa.array(_heart_failure(frame).any(axis=0)))
    if cfg.encounters == "first":
        _, first = np.unique(frame["patient_nbr"].to_numpy(), return_index=True)
        frame = frame.take(np.sort(first))
    if cfg.exclude_deaths:
        gone = np.isin(words(frame, "discharge_disposition_id"), (*DIED, *HOSPICE))
        frame = frame.filter(pa.array(~gone))
    return frame


def _heart_failure(frame: pa.Table) -> np.ndarray:
    """bool[3, N]: by diagnosis, main one first."""
    return np.stack([icd9.heart_failure(words(frame, f"diag_{i}", "")) for i in (1, 2, 3)])


def _features(frame: pa.Table, stay: bool) -> Features:
    found = Features()
    found.number("age", numbers_of_ages(words(frame, "age")))
    found.levels("sex", words(frame, "gender"), "Female")
    found.levels("race", words(frame, "race"), "Caucasian")
    for name in BEFORE:
        found.number(f"log1p({name})", np.log1p(numbers(frame, name)))
    found.levels(
        "admission_type", grouped(words(frame, "admission_type_id"), ADMISSION_TYPES, "other"), "emergency"
    )
    if stay:
        return found
    for name in DURING:
        found.number(name, numbers(frame, name))
    failing = _heart_failure(frame)
    found.number("heart_failure", np.asarray(failing.any(axis=0), np.float64))
    found.number("heart_failure_main", failing[0].astype(np.float64))
    for i in (1, 2, 3):
        found.levels(f"diag_{i}", icd9.groups(words(frame, f"diag_{i}", "")), "circulatory")
    discharge = grouped(words(frame, "discharge_disposition_id"), DISCHARGES, "other")
    found.levels("discharge", discharge, "home")
    found.levels("glucose", words(frame, "max_glu_serum"), "None")
    found.levels("hba1c", words(frame, "A1Cresult"), "None")
    for name in DRUGS:
        found.number(name, (words(frame, name) != "No").astype(np.float64))
    rare = np.stack([words(frame, name) != "No" for name in RARE]).any(axis=0)
    found.number("other_drug", np.asarray(rare, np.float64))
    found.levels("insulin", words(frame, "insulin"), "No")
    found.number("medication_changed", (words(frame, "change") == "Ch").astype(np.float64))
    found.number("diabetes_medication", (words(frame, "diabetesMed") == "Yes").astype(np.float64))
    return found


def numbers_of_ages(bands: np.ndarray) -> np.ndarray:
    """float64[N]: the middle of bands such as [70-80)."""
    levels, codes = np.unique(bands, return_inverse=True)
    return np.array([float(level[1:].partition("-")[0]) + 5 for level in levels], np.float64)[codes]
