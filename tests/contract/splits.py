# mypy: disable-error-code="arg-type, index, union-attr"
"""What every split declares: what its severity changes, and the options with which its laws are tested."""

from dataclasses import replace
from typing import Any

import numpy as np

from fedsim import config
from fedsim.data.federation import Federation, gather
from fedsim.data.heterogeneity import measure
from fedsim.data.partition import partitions
from fedsim.data.splits import assign

SPLITS = config.MEMBERS["split"]
STAYS = ("natural", "published", "temporal")  # every row stays where it came from
SEARCHED = ("dirichlet", "dirichlet_client", "quantity_label", "groups", "prevalence")
WHOLE = ("shards", "classes")  # have a few whole numbers for their severity
# What a split's severity changes: a measure, or one of those that `measured` adds.
CHANGES = {
    **dict.fromkeys(SEARCHED + WHOLE, "label_js"),
    **dict.fromkeys(("feature_shift", "covariate", "rotation", "coding"), "feature_wasserstein"),
    "quantity": "size_gini",
    "concept": "labels changed",
    "missing": "missing by client",
    "drift": "order in time",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "dirichlet": {"min_rows": 5},
    "shards": {"shards": 3},
    "quantity": {"alpha": 0.5},
}


def federation(classes: int = 2, rows: int = 4000, external: tuple[str, ...] = ()) -> Federation:
    """Rows whose features differ by label; of one client, and of the `external` ones a tenth each."""
    rng = np.random.default_rng(0)
    y = rng.choice(classes, rows, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    x = rng.normal(size=(rows, 10)) + np.outer(y, [1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0])
    digit = np.arange(rows) % 10
    owner = np.array(["a", *external])[np.where(digit < len(external), digit + 1, 0)]
    return gather(
        owner.tolist(),
        {"x": x.astype(np.float32), "y": y.astype(np.int32)},
        kind="binary" if classes == 2 else "multiclass",
        classes=classes,
        external=external,
        licence="-",
        source="test",
    )


def measured(fed: Federation, cfg: Any, seed: int = 0, which: str | None = None) -> float:
    """What changes with the severity of a split."""
    assert fed.columns is not None
    found = assign(fed, cfg, seed)
    which = which or CHANGES[cfg.name]
    if which == "labels changed":
        return 0.0 if found.y is None else float((found.y != fed.columns["y"]).mean())
    if which == "order in time":
        time = np.random.default_rng(seed).random(fed.rows) if found.time is None else found.time
        return max(abs(float(np.corrcoef(time, x)[0, 1])) for x in fed.columns["x"].T)
    changed = {k: v for k, v in (("x", found.x), ("y", found.y)) if v is not None}
    shifted = replace(fed, columns=fed.columns | changed)
    if which == "missing by client":
        x = shifted.columns["x"]
        return float(np.std([np.isnan(x[found.client == k]).mean() for k in range(len(found.names))]))
    value = measure(shifted, partitions(shifted, found, replace(cfg, test=0.0), seed)[0])[which]
    assert value is not None
    return value
