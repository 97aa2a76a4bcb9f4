"""What regions would release of the rows that judge: counts of scores by label with noise, and the metrics
that follow from them. The exact metrics beside them are the simulation's knowledge.

A row adds one to one of 2 x bins counts, so that with it or without it they differ by 1 in the 2-norm; all
rows of a patient together are scaled down to that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsim import metrics
from fedsim.base import require
from fedsim.config import Evaluate, Experiment, RecordPrivacy
from fedsim.data.federation import Federation
from fedsim.data.rng import generator

PREFIX = "released_"


def check(experiment: Experiment, federation: Federation, adapts: bool) -> None:
    """Raises RequestError where there are no such counts of this kind of data, or they are not accounted for.

    adapts: whether clients are judged by models that were adapted to their training rows for that.
    """
    noise = experiment.evaluate.noise_multiplier
    columns = federation.columns or {}
    require(
        noise is None or (federation.kind == "binary" and "weight" not in columns),
        f"evaluate.noise_multiplier={noise} counts scores of two classes in rows of equal weight, and these "
        f"are of kind {federation.kind}{' with weights' if 'weight' in columns else ''}; set "
        "evaluate.noise_multiplier=null",
    )
    require(
        noise is None or not adapts,
        f"algorithm={experiment.algorithm.name} adapts the model to training rows for every evaluation, "
        "which has no account; set evaluate.noise_multiplier=null",
    )


def units(experiment: Experiment, federation: Federation, rows: np.ndarray) -> np.ndarray | None:
    """Whose each row is, where several may be one patient's; None where each is a unit of its own."""
    privacy = experiment.privacy
    if not isinstance(privacy, RecordPrivacy) or privacy.unit == "record":
        return None
    assert federation.columns is not None
    patient: np.ndarray = federation.columns["patient"][rows]
    return patient


def counts(label: np.ndarray, score: np.ndarray, unit: np.ndarray | None, bins: int) -> np.ndarray:
    """Rows by label and bin, bins closed on the right: float64[2, bins].

    Args:
      label, score: [n], 0 or 1 and probabilities; what is no number counts as 0.5. unit: [n], or None where
        each row is one.
    """
    edges = np.linspace(0.0, 1.0, bins + 1, dtype=np.float64)[1:-1]
    cell = np.searchsorted(edges, np.nan_to_num(score.astype(np.float64), nan=0.5), side="left")
    cell += bins * (label > 0)
    if unit is None:
        return np.bincount(cell, minlength=2 * bins).astype(np.float64).reshape(2, bins)
    _, who = np.unique(unit, return_inverse=True)
    pairs, times = np.unique(who * (2 * bins) + cell, return_counts=True)
    norms = np.sqrt(np.bincount(pairs // (2 * bins), weights=times.astype(np.float64) ** 2))
    share = times / norms[pairs // (2 * bins)]
    return np.bincount(pairs % (2 * bins), weights=share, minlength=2 * bins).reshape(2, bins)


def noised(exact: np.ndarray, cfg: Evaluate, seed: int, *purpose: str | int) -> np.ndarray:
    """`exact` with Gaussian noise that depends on `purpose` alone: fold, set, round and region."""
    assert cfg.noise_multiplier is not None
    drawn = generator(seed, "evaluation", *purpose).standard_normal(exact.shape, dtype=np.float64)
    return exact + cfg.noise_multiplier * drawn


def nearest_counts(noised: np.ndarray) -> np.ndarray:
    """The counts >= 0 with the same sum that are nearest to `noised`; all 0 where that sum is below 0.

    Noise below 0 would else be cut off and noise above it kept, and rows of all scores appear that nobody has
    (projection on the simplex: Duchi et al., ICML 2008, Fig. 1).
    """
    falling = np.sort(noised, axis=None)[::-1]
    surplus = (np.cumsum(falling) - max(float(noised.sum()), 0.0)) / np.arange(1, noised.size + 1)
    least: np.ndarray = np.maximum(noised - surplus[np.flatnonzero(falling > surplus)[-1:]].sum(), 0.0)
    return least if noised.sum() > 0 else np.zeros_like(noised)


def measured(found: Sequence[np.ndarray], full: bool) -> dict[str, float | None]:
    """Metrics of the sum of several noised counts, names with `PREFIX`: every row has the middle of its bin
    for score."""
    total = nearest_counts(np.sum(found, axis=0))
    middle = (np.arange(total.shape[1]) + 0.5) / total.shape[1]
    label = np.repeat(np.array([0, 1], np.int32), total.shape[1])
    made = metrics.evaluate("binary", label, np.tile(middle, 2), total.reshape(-1), full=full)
    return {PREFIX + name: value for name, value in made.items()}
