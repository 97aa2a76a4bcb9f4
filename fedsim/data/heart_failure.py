"""Heart-failure patients of Swedish regions, who do not exist: features at an index date, and an outcome.

Source: published figures of Davidge 2022, Lindberg 2024, Zayed 2021, SHFDB4 2025 and others, which
docs/cohort.md lists; fedsim.cohort makes patients of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from fedsim.base import RequestError, require, to_dict
from fedsim.cohort.population import Cohort
from fedsim.cohort.table import features, table
from fedsim.config import NO_PREPROCESS, HeartFailure
from fedsim.data.cohort_rows import CohortRows
from fedsim.data.federation import Federation, Kind, fingerprint
from fedsim.data.names import client_ids

LABELS = {
    "death_1y": ("alive", "died"),
    "survival": ("censored", "died"),
    "readmission_30": ("not readmitted", "readmitted"),
    "readmission_100": ("not readmitted", "readmitted"),
}


def heart_failure(cfg: HeartFailure) -> Federation:
    """One client per region, one row per patient whose outcome is known; outside regions are external.

    Rows lie in memory, but for data.mode=generated, where `CohortRows` makes them wherever they are asked for
    and nothing is kept of them.

    Raises:
      RequestError: an unknown region, a region without a row, or with data.mode=generated an outcome that is
        not known of all, or missing values that nothing would fill.
    """
    cohort = Cohort(cfg)
    if cfg.mode == "generated":
        return _generated(cohort)
    rows = table(cohort)
    for region, found in zip(cohort.regions, rows, strict=True):
        require(
            len(found.y),
            f"data=heart_failure: no patient of {region.name} has a known {cfg.outcome}; raise data.patients",
        )
    names = tuple(region.name for region in cohort.regions)
    columns = {"x": np.concatenate([r.x for r in rows]), "y": np.concatenate([r.y for r in rows])}
    kind: Kind = "regression" if cfg.outcome in ("length_of_stay", "cost") else "binary"
    if kind == "binary":
        columns["y"] = columns["y"].astype(np.int32)
    if cfg.outcome == "survival":
        kind = "survival"
        columns["time"] = np.concatenate([r.time for r in rows if r.time is not None])
        if not columns["y"].any():
            raise RequestError("data=heart_failure: nobody died while followed; raise data.patients")
    offsets = np.concatenate([[0], np.cumsum([len(r.y) for r in rows])]).astype(np.int64)
    named, labels = features(cfg.outcome, cfg.selection), LABELS.get(cfg.outcome, ())
    return Federation(
        names=names,
        ids=client_ids(names),
        offsets=offsets,
        columns=columns,
        kind=kind,
        classes=len(labels),
        features=named,
        labels=labels,
        external=cohort.external,
        # In the fingerprint by the feature `year`, which is the same day.
        calendar=np.concatenate([r.day for r in rows]).astype(np.float64),
        fingerprint=fingerprint(names, offsets, columns, kind, named, labels),
        licence="none needed: generated",
        source="fedsim's cohort simulator",
        metadata={r.name: _described(cohort, k, len(rows[k].y)) for k, r in enumerate(cohort.regions)},
    )


def _generated(cohort: Cohort) -> Federation:
    cfg = cohort.cfg
    # How rows are prepared is nothing to who makes them: one program serves all ways.
    rows = CohortRows(replace(cfg, preprocess=NO_PREPROCESS))
    require(
        cfg.preprocess.impute != "none",
        "data=heart_failure has missing values, and data.preprocess.impute=none leaves them; use "
        "data.preprocess.impute=mean or zero, or with task=trees impute=keep",
    )
    names = tuple(region.name for region in cohort.regions)
    # Other patients than in memory: nobody is left out, and numbers are rounded as the compiler likes.
    recipe = {k: v for k, v in to_dict(cfg).items() if k != "preprocess"}
    named, labels = features(cfg.outcome, cfg.selection), LABELS.get(cfg.outcome, ())
    return Federation(
        names=names,
        ids=client_ids(names),
        offsets=np.concatenate([[0], np.cumsum(rows.sizes, dtype=np.int64)]),
        columns=None,
        generate=rows,
        kind="binary" if labels else "regression",
        classes=len(labels),
        features=named,
        labels=labels,
        external=cohort.external,
        fingerprint=hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest(),
        licence="none needed: generated",
        source="fedsim's cohort simulator",
        metadata={r.name: _described(cohort, k, cohort.sizes[k]) for k, r in enumerate(cohort.regions)},
    )


def _described(cohort: Cohort, k: int, known: int) -> dict[str, object]:
    region, cfg = cohort.regions[k], cohort.cfg
    own = region.units if cohort.cfg.dials.units and not cfg.harmonise else ()
    return {
        "population": round(region.population),
        "patients": cohort.sizes[k],
        "outcome_known": known,
        "selection": cfg.selection,
        "own_units": ", ".join(own) or "none",
    }
