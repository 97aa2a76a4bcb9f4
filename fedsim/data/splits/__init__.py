"""Who holds which rows. A split is a pure function of (federation, config, seed)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedsim.base import nearest, require
from fedsim.config import SplitConfig
from fedsim.data.federation import Federation
from fedsim.data.splits.assignment import Assignment
from fedsim.data.splits.classes import classes
from fedsim.data.splits.coding import coding
from fedsim.data.splits.concept import concept
from fedsim.data.splits.covariate import covariate
from fedsim.data.splits.dirichlet import dirichlet
from fedsim.data.splits.dirichlet_client import dirichlet_client
from fedsim.data.splits.drift import drift
from fedsim.data.splits.feature_shift import feature_shift
from fedsim.data.splits.groups import groups
from fedsim.data.splits.iid import iid
from fedsim.data.splits.missing import missing
from fedsim.data.splits.natural import natural
from fedsim.data.splits.prevalence import prevalence
from fedsim.data.splits.published import published
from fedsim.data.splits.quantity import quantity
from fedsim.data.splits.quantity_label import quantity_label
from fedsim.data.splits.rotation import rotation
from fedsim.data.splits.shards import shards
from fedsim.data.splits.temporal import temporal

SPLITS: dict[str, Callable[[Federation, Any, int], Assignment]] = {
    "natural": natural,
    "published": published,
    "temporal": temporal,
    "iid": iid,
    "dirichlet": dirichlet,
    "shards": shards,
    "quantity": quantity,
    "feature_shift": feature_shift,
    "dirichlet_client": dirichlet_client,
    "classes": classes,
    "quantity_label": quantity_label,
    "prevalence": prevalence,
    "groups": groups,
    "covariate": covariate,
    "rotation": rotation,
    "concept": concept,
    "missing": missing,
    "coding": coding,
    "drift": drift,
}


def assign(federation: Federation, cfg: SplitConfig, seed: int) -> Assignment:
    """The split that `cfg` describes. Raises RequestError if it is unknown or cannot be made."""
    name = getattr(cfg, "name", type(cfg).__name__)
    require(name in SPLITS, f"unknown split {name!r}; {nearest(name, SPLITS)}")
    return SPLITS[name](federation, cfg, seed)
