"""Where rows come from, who holds them, and which of them train. NumPy only: no JAX below here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from fedsim import base
from fedsim.base import RequestError, nearest, require
from fedsim.config import DataConfig
from fedsim.data.arrays import arrays
from fedsim.data.blobs import blobs
from fedsim.data.digits import digits
from fedsim.data.federation import Federation, pieces
from fedsim.data.heart_disease import heart_disease
from fedsim.data.heart_failure import heart_failure
from fedsim.data.idx import idx
from fedsim.data.synthetic import synthetic
from fedsim.data.tcga_brca import tcga_brca

MOST_LISTED = 100


def _late(name: str) -> Callable[[Any], Federation]:
    """The loader of a source that is imported when it is asked for: pyarrow and DuckDB take longer to import
    than small sources to load."""

    def load(cfg: Any) -> Federation:
        loader: Callable[[Any], Federation] = getattr(import_module(f"fedsim.data.{name}"), name)
        return loader(cfg)

    return load


SOURCES: dict[str, Callable[[Any], Federation]] = {
    "heart_disease": heart_disease,
    "heart_failure": heart_failure,
    "tcga_brca": tcga_brca,
    "diabetes_130": _late("diabetes_130"),
    "support2": _late("support2"),
    "sepsis_norway": _late("sepsis_norway"),
    "table": _late("table"),
    "omop": _late("omop"),
    "arrays": arrays,
    "digits": digits,
    "idx": idx,
    "synthetic": synthetic,
    "blobs": blobs,
}


def register_source(name: str, config_class: type[DataConfig], loader: Callable[[Any], Federation]) -> None:
    """Make `data=name` build `config_class` and hand it to `loader`; for modules of your own.

    Raises:
      RequestError: the name belongs to another source, or the class is no DataConfig.
    """
    require(
        issubclass(config_class, DataConfig),
        f"data={name} needs a frozen dataclass derived from fedsim.config.DataConfig, got {config_class!r}",
    )
    base.register("data", name, config_class)
    SOURCES[name] = loader


def load(cfg: DataConfig) -> Federation:
    """The federation that `cfg` describes.

    Raises:
      RequestError: an unknown source, a mode it does not have, missing values that nothing would
        fill, or anything its loader refuses.
    """
    name = getattr(cfg, "name", type(cfg).__name__)
    require(name in SOURCES, f"unknown data source {name!r}; {nearest(name, SOURCES)}")
    federation = SOURCES[name](cfg)
    require(
        cfg.mode != "generated" or federation.generate is not None,
        f"data.mode=generated needs a source that makes its rows, such as data=blobs; data={name} has only "
        "stored ones, use data.mode=resident or streamed",
    )
    # What a generator makes may be larger than memory; its loader knows whether it is complete.
    if cfg.preprocess.impute == "none" and federation.columns is not None and federation.generate is None:
        _refuse_missing(federation, federation.columns["x"])
    return federation


def _refuse_missing(federation: Federation, x: np.ndarray) -> None:
    if x.dtype == np.uint8:
        return
    for piece in pieces(x):
        missing = np.isnan(piece)
        if missing.any():
            column = int(np.argwhere(missing)[0][1])
            name = federation.features[column] if federation.features else f"number {column}"
            raise RequestError(
                f"{federation.source}: feature {name} has missing values, and data.preprocess.impute=none "
                "leaves them; use data.preprocess.impute=mean, median or zero, "
                "or with task=trees impute=keep"
            )


def describe(federation: Federation) -> dict[str, Any]:
    """What a federation holds, ready for JSON; above 100 that train, a summary of their sizes."""
    sizes = federation.sizes
    found: dict[str, Any] = {
        "source": federation.source,
        "licence": federation.licence,
        "fingerprint": federation.fingerprint,
        "kind": federation.kind,
        "classes": federation.classes,
        "labels": list(federation.labels[:MOST_LISTED]),
        "clients": federation.clients,
        "rows": federation.rows,
        "shape": list(federation.shape),
        "dtype": str(federation.dtype),
        "features": list(federation.features),
        "external": [federation.names[k] for k in sorted(federation.external)],
        "notes": list(federation.notes),
    }
    if federation.clients - len(federation.external) > MOST_LISTED:
        quantiles = np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1])
        keys = ("minimum", "lower_quartile", "median", "upper_quartile", "maximum")
        found["sizes"] = dict(zip(keys, quantiles.tolist(), strict=True)) | {"mean": float(sizes.mean())}
    else:
        found["per_client"] = [_describe_client(federation, k) for k in range(federation.clients)]
    return found


def _describe_client(federation: Federation, k: int) -> dict[str, Any]:
    name = federation.names[k]
    found: dict[str, Any] = {
        "name": name,
        "rows": int(federation.sizes[k]),
        "external": k in federation.external,
    }
    if federation.columns is not None:
        rows = slice(int(federation.offsets[k]), int(federation.offsets[k + 1]))
        y, x = federation.columns["y"][rows], federation.columns["x"][rows]
        if federation.kind == "regression":
            found["label_mean"] = float(np.mean(y, dtype=np.float64))
        else:
            shares = np.bincount(y, minlength=federation.classes) / len(y)
            found["label_share"] = dict(zip(federation.labels, shares.tolist(), strict=True))
        if federation.kind == "survival":
            found["time_median"] = float(np.median(federation.columns["time"][rows]))
        found["missing_share"] = 0.0 if x.dtype == np.uint8 else float(np.isnan(x).mean())
    return found | dict(federation.metadata.get(name, {}))
