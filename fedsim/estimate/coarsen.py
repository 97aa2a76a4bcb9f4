"""Values that no fewer than k rows share: what a site may say where small numbers must not leave it.

Source: Domingo-Ferrer and Mateo-Sanz, "Practical Data-Oriented Microaggregation for Statistical Disclosure
Control", IEEE TKDE 2002, section 2: univariate microaggregation of sorted values.
"""

from __future__ import annotations

import numpy as np


def batches(values: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean of each batch, float64[m], rising; rows in it, int32[m], each at least k).

    Sorted values are cut into as many batches as have k rows; nothing is left over, and nothing is made of
    fewer than k values.
    """
    many = len(values) // k
    if many == 0:
        return np.zeros(0, np.float64), np.zeros(0, np.int32)
    ordered = np.sort(values.astype(np.float64))
    sizes = np.full(many, len(values) // many, np.int32)
    sizes[: len(values) % many] += 1
    ends = np.cumsum(sizes)
    starts = ends - sizes
    # Clipped, since a mean of equal numbers may differ from them in the last bit.
    means = np.clip(np.add.reduceat(ordered, starts) / sizes, ordered[starts], ordered[ends - 1])
    return means, sizes


def batch_quantiles(means: np.ndarray, sizes: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Quantiles of values known by batches: linear between batches, each of which lies in its middle."""
    order = np.argsort(means, kind="stable")
    means, sizes = means[order], sizes[order].astype(np.float64)
    middle = np.cumsum(sizes) - sizes / 2
    return np.interp(q * sizes.sum(), middle, means)
