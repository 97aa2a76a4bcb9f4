"""Diagnosis codes of ICD-9-CM, in the nine groups of the study of readmission among 70,000 diabetics.

Source: Strack et al., "Impact of HbA1c Measurement on Hospital Readmission Rates", BioMed Research
International 2014:781670, Table 2.
"""

from __future__ import annotations

import numpy as np

# Whole numbers of the codes, both ends included.
GROUPS: dict[str, tuple[tuple[int, int], ...]] = {
    "circulatory": ((390, 459), (785, 785)),
    "respiratory": ((460, 519), (786, 786)),
    "digestive": ((520, 579), (787, 787)),
    "diabetes": ((250, 250),),
    "injury": ((800, 999),),
    "musculoskeletal": ((710, 739),),
    "genitourinary": ((580, 629), (788, 788)),
    "neoplasms": ((140, 239),),
}
HEART_FAILURE = 428


def group(code: str) -> str:
    """The group of a code such as 250.83 or V57; `other` for those without, `none` for no code."""
    if code == "":
        return "none"
    whole = _whole(code)
    for name, ranges in GROUPS.items():
        if any(low <= whole <= high for low, high in ranges):
            return name
    return "other"


def groups(codes: np.ndarray) -> np.ndarray:
    """text[N] of text[N]."""
    levels, at = np.unique(codes, return_inverse=True)
    return np.array([group(str(code)) for code in levels], dtype=np.str_)[at]


def heart_failure(codes: np.ndarray) -> np.ndarray:
    """bool[N]: whether a code is 428 or below it."""
    levels, at = np.unique(codes, return_inverse=True)
    return np.array([_whole(str(code)) == HEART_FAILURE for code in levels], dtype=bool)[at]


def _whole(code: str) -> int:
    """What stands before the point; -1 of V and E codes, and of none."""
    head = code.partition(".")[0]
    return int(head) if head.isdigit() else -1
