"""Sepsis in Norway: 110,204 hospital admissions of 2011 and 2012 with three predictors.

Source: Chicco and Jurman, "Survival prediction of patients with sepsis from age, sex, and septic episode
number alone", Scientific Reports 2020;10:17156, doi:10.1038/s41598-020-73558-3; UCI data set 827.

The tables are no part of fedsim: `data.path` is a folder with sepsis_primary_cohort.csv and
sepsis_study_cohort.csv, plain or gzipped. They name neither hospital nor patient: all training rows lie at
one client, and a split such as `split=dirichlet split.clients=21` deals them to several.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fedsim.base import require
from fedsim.config import SepsisNorway
from fedsim.data.federation import Federation, gather
from fedsim.data.known import numbers, read

FILES = {
    "primary": (
        "sepsis_primary_cohort.csv",
        "6ba4ebd256fa3b5f6c0d42444a3e6b9a4b90d6e493c9efdfedcb2ef7470d4b0f",
    ),
    "study": (
        "sepsis_study_cohort.csv",
        "d3302756c0e16d78acf8f1ed7d9692afeafe02d5b224b5aa694598e1b7443001",
    ),
}
WHENCE = "UCI Machine Learning Repository, data set 827"
COLUMNS = ("age_years", "sex_0male_1female", "episode_number")
OUTCOME = "hospital_outcome_1alive_0dead"
FEATURES = ("age", "female", "episode")
OUTSIDE = "sepsis-3"


def sepsis_norway(cfg: SepsisNorway) -> Federation:
    """Load a cohort; the label is death in hospital.

    The study cohort (Sepsis-3) is part of the primary one. With `cohort=both` it is the external client
    `sepsis-3`, and the primary cohort is without it: as admissions have four columns and no identity, one of
    the same four values is taken out for each.

    Raises:
      RequestError: no folder or file, or another table than the published one.
    """
    names = ("primary", "study") if cfg.cohort == "both" else (cfg.cohort,)
    tables = {name: _rows(read("sepsis_norway", cfg.path, *FILES[name], WHENCE)) for name in names}
    owner = ["norway"] * len(tables[names[0]])
    if cfg.cohort == "both":
        tables["primary"] = without(tables["primary"], tables["study"])
        owner = ["norway"] * len(tables["primary"]) + [OUTSIDE] * len(tables["study"])
    rows = np.concatenate([tables[name] for name in names])
    return gather(
        owner,
        {"x": rows[:, :3].astype(np.float32), "y": 1 - rows[:, 3].astype(np.int32)},
        kind="binary",
        classes=2,
        external=(OUTSIDE,) if cfg.cohort == "both" else (),
        features=FEATURES,
        labels=("alive", "dead"),
        licence="CC BY 4.0",
        source="Sepsis survival, Norway, UCI data set 827; Chicco and Jurman, Scientific Reports "
        "2020;10:17156",
    )


def without(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """int64[N - M, C]: `rows` less one equal row for each of `others`, the first ones.

    Raises:
      RequestError: another row that is not there, or not as often.
    """
    _, code = np.unique(np.concatenate([rows, others]), axis=0, return_inverse=True)
    mine, theirs = code[: len(rows)].ravel(), code[len(rows) :].ravel()
    remove = np.bincount(theirs, minlength=code.max() + 1)
    order = np.argsort(mine, kind="stable")
    counts = np.bincount(mine, minlength=code.max() + 1)
    require(
        bool((counts >= remove).all()), "data=sepsis_norway: the study cohort is no part of the primary one"
    )
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.ones(len(rows), dtype=bool)
    kept[order[rank < remove[mine[order]]]] = False
    return rows[kept]


def _rows(frame: pa.Table) -> np.ndarray:
    """int64[N, 4]: age in years, sex, episode, alive."""
    return np.stack([numbers(frame, name) for name in (*COLUMNS, OUTCOME)], axis=1).astype(np.int64)
