"""Heart-failure patients of Swedish regions, who do not exist: features at an index date, and an outcome.

Source: published figures of Davidge 2022, Lindberg 2024, Zayed 2021, SHFDB4 2025 and others, which
docs/cohort.md lists; fedsim.cohort makes patients of them.
"""

from __future__ import annotations

import numpy as np

from fedsim.base import RequestError, require
from fedsim.cohort.population import Cohort
from fedsim.cohort.table import Rows, features, table
from fedsim.config import HeartFailure
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

    Raises:
      RequestError: an unknown region, data.mode other than resident, or a region without a row.
    """
    require(
        cfg.mode != "generated",
        "data=heart_failure computes in floating point, whose last bits NumPy and compiled programs round "
        "differently, so data.mode=generated could not give the same bits; use data.mode=resident",
    )
    cohort = Cohort(cfg)
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
        fingerprint=fingerprint(names, offsets, columns, kind, named, labels),
        licence="none needed: generated",
        source="fedsim's cohort simulator",
        metadata={r.name: _described(cohort, k, rows[k]) for k, r in enumerate(cohort.regions)},
    )


def _described(cohort: Cohort, k: int, rows: Rows) -> dict[str, object]:
    region, cfg = cohort.regions[k], cohort.cfg
    own = region.units if cohort.cfg.dials.units and not cfg.harmonise else ()
    return {
        "population": round(region.population),
        "patients": cohort.sizes[k],
        "outcome_known": len(rows.y),
        "selection": cfg.selection,
        "own_units": ", ".join(own) or "none",
    }
