"""Regions' records in the OMOP common data model: features at an index date, and an outcome after it.

Source: OHDSI, "OMOP Common Data Model", version 5.4; the pipeline is fedsim.omop.
"""

from __future__ import annotations

import numpy as np

from fedsim.base import nearest, require
from fedsim.config import Omop
from fedsim.data.federation import Federation, fingerprint
from fedsim.data.names import client_ids
from fedsim.omop import Extract, Reading, extract, load, read, sites

LABELS = {"death": ("alive", "died"), "admission": ("not readmitted", "readmitted")}


def omop(cfg: Omop) -> Federation:
    """One client per region, one row per patient whose index date and outcome can be used; whom that leaves
    out, and why, is in the client's metadata.

    Raises:
      RequestError: no region, a table or column that is not there or not what it should be, units that
        cannot be converted, a region without a row, a feature without a value in any training region.
    """
    definition = load(cfg.features)
    outcome = definition.outcome(cfg.outcome)
    reading = Reading(
        outcome=cfg.outcome,
        index=cfg.index,
        harmonise=cfg.harmonise,
        unknown_units=cfg.unknown_units,
        below=cfg.below,
        same_day=cfg.same_day,
        history=cfg.history,
        drop=cfg.drop,
    )
    there = sites(cfg.path)
    outside = (cfg.external,) if isinstance(cfg.external, str) else cfg.external
    for name in outside:
        require(name in there, f"data.external: no region {name!r} in {cfg.path}; {nearest(name, there)}")
    found: dict[str, Extract] = {}
    for name, path in there.items():
        site = read(path)
        try:
            found[name] = extract(site, definition, reading)
        finally:
            site.close()
        require(
            len(found[name].y),
            f"data.path: no patient of {name} has an index date and a known {cfg.outcome}; left out: "
            f"{_reasons(found[name])}",
        )
    names = tuple(found)
    external = frozenset(names.index(name) for name in outside)
    require(
        len(external) < len(names),
        f"data.external: all regions ({', '.join(names)}) are external, so none is left",
    )
    rows = list(found.values())
    features = rows[0].features
    _check_values(features, [one.x for k, one in enumerate(rows) if k not in external])
    kind, labels = outcome.kind, LABELS.get(outcome.event, ())
    y = np.concatenate([one.y for one in rows])
    columns = {
        "x": np.concatenate([one.x for one in rows]),
        "y": y if kind == "regression" else y.astype(np.int32),
    }
    if kind == "survival":
        columns["time"] = np.concatenate([one.time for one in rows if one.time is not None])
    if kind != "regression":
        trains = np.concatenate([one.y for k, one in enumerate(rows) if k not in external])
        require(
            len(set(trains.tolist())) > 1 or (kind == "survival" and trains.any()),
            f"data.outcome={cfg.outcome} is {labels[int(trains[0])]} for all {len(trains)} patients of "
            "regions that train; nothing can be learnt from it, choose another outcome",
        )
    calendar = np.concatenate([one.day for one in rows]).astype(np.float64)
    seen = columns | {"calendar": calendar}
    offsets = np.concatenate([[0], np.cumsum([len(one.y) for one in rows])]).astype(np.int64)
    return Federation(
        names=names,
        ids=client_ids(names),
        offsets=offsets,
        columns=columns,
        kind=kind,
        classes=len(labels),
        features=features,
        labels=labels,
        external=external,
        calendar=calendar,
        fingerprint=fingerprint(names, offsets, seen, kind, features, labels),
        licence="not stated",
        source="OMOP CDM",
        metadata={name: one.notes for name, one in found.items()},
    )


def _reasons(one: Extract) -> str:
    excluded = one.notes.get("excluded", {})
    return ", ".join(f"{reason} {n}" for reason, n in excluded.items()) or "there is no patient"


def _check_values(features: tuple[str, ...], trains: list[np.ndarray]) -> None:
    """A column may be empty in a region, where it is imputed, but not in all that train."""
    empty = np.all([np.isnan(x).all(axis=0) for x in trains], axis=0)
    named = [name for name, nothing in zip(features, empty, strict=True) if nothing]
    require(
        not named,
        f"data.features: {', '.join(named[:5])}{' and others' * (len(named) > 5)} "
        f"{'has' if len(named) == 1 else 'have'} no value in any region that trains; leave out with "
        f"data.drop=[{','.join(named)}]",
    )
