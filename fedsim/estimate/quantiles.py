"""Federated quantiles: exact by bisection, from batches of at least k rows, or from a histogram with noise.

Exact: sites count values up to thresholds that are bisected in float32's own order, so that 32 rounds of
counts after one of how many there are end at order statistics of all rows. Quantiles lie between them as in
NumPy (Hyndman and Fan, "Sample Quantiles in Statistical Packages", American Statistician 1996, type 7); the
median is the one that `data.preprocess.impute=median` fills in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from fedsim.base import nearest, require
from fedsim.config.estimate import Quantiles
from fedsim.estimate.coarsen import batch_quantiles, batches
from fedsim.estimate.noise import Noise, calibrated, counted_rows, statement
from fedsim.estimate.sites import Message, Post, Site, check_variable
from fedsim.estimate.survival import quantile

ROUNDS = 32  # bits of a float32
LEAST = 4.0  # deviations of its noise that the number of values must exceed for quantiles to be known


def quantiles(sites: Sequence[Site], cfg: Quantiles) -> dict[str, Any]:
    """Quantiles of each variable over all sites, ready for JSON; null where no row has a value.

    Raises:
      RequestError: an unknown variable, or with epsilon one without a public range.
    """
    names = cfg.variables or tuple(name for name in sites[0].features if "=" not in name)
    for name in names:
        check_variable(sites, name, "variables")
    require(names, "variables: no feature is a number; name some, as in variables=[time]")
    post, q = Post(), np.array(cfg.q, np.float64)
    found: dict[str, Any] = {"q": list(cfg.q)}
    if cfg.epsilon is not None:
        low, high = _ranges(names, cfg)
        noise = calibrated(cfg, len(names), len(names) * cfg.bins)
        histograms = post.collect(
            sites, partial(send_histogram, names=names, low=low, high=high, cfg=cfg, noise=noise)
        )
        found["variables"] = combine_histograms(histograms, names, low, high, cfg, noise)
        found["privacy"] = statement(
            noise, "histograms of the variables, and all that is made of them", "sites and ranges"
        )
    elif cfg.minimum_count is not None:
        sent = post.collect(sites, partial(send_batches, names=names, k=cfg.minimum_count))
        found["variables"] = combine_batches(sent, names, q)
        found["left_out"] = [
            {"site": site.name, "variable": name}
            for site, message in zip(sites, sent, strict=True)
            for v, name in enumerate(names)
            if v not in message["variable"]
        ]
    else:
        found["variables"] = bisected(sites, names, q, post)
    return found | {"bytes": post.sent, "exchanges": post.rounds}


# --- exact -----------------------------------------------------------------------------------


def bisected(sites: Sequence[Site], names: Sequence[str], q: np.ndarray, post: Post) -> list[dict[str, Any]]:
    """Order statistics by counts, and quantiles between them."""
    n = np.sum([m["present"] for m in post.collect(sites, partial(send_present, names=names))], axis=0)
    position = np.maximum(n - 1, 0)[:, None] * q  # [variables, q]
    ranks = np.stack([np.floor(position), np.ceil(position)], axis=-1).astype(np.int64)
    low = np.zeros(ranks.shape, np.int64)
    high = np.full(ranks.shape, 2**ROUNDS - 1, np.int64)
    keys = {site.name: [sorted_keys(site, name) for name in names] for site in sites}  # each site's own
    for _ in range(ROUNDS):
        middle = (low + high) // 2
        sent = post.collect(sites, partial(_send_counts_of, keys=keys, thresholds=middle))
        enough = np.sum([message["below"] for message in sent], axis=0) > ranks
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    ends = values_of(low)
    between = _between(ends[..., 0], ends[..., 1], position - np.floor(position))
    return [
        {"variable": name, "n": int(n[v]), "values": between[v].tolist() if n[v] else [None] * len(q)}
        for v, name in enumerate(names)
    ]


def send_present(site: Site, names: Sequence[str]) -> Message:
    """present i64[variables]: values that are not missing."""
    return {"present": np.array([(~np.isnan(site.values(name))).sum() for name in names], np.int64)}


def send_counts(keys: Sequence[np.ndarray], thresholds: np.ndarray) -> Message:
    """below i64, like `thresholds` [variables, ...]: values of each variable whose key is at most that."""
    at = thresholds.astype(np.uint32)
    below = [np.searchsorted(mine, at[v], side="right") for v, mine in enumerate(keys)]
    return {"below": np.array(below, np.int64)}


def _send_counts_of(site: Site, keys: Mapping[str, Sequence[np.ndarray]], thresholds: np.ndarray) -> Message:
    return send_counts(keys[site.name], thresholds)


def sorted_keys(site: Site, name: str) -> np.ndarray:
    """uint32[present], rising."""
    x = site.values(name)
    return np.sort(keys_of(x[~np.isnan(x)]))


def keys_of(x: np.ndarray) -> np.ndarray:
    """uint32[n]: whole numbers in the order of float32 values; both zeros are one."""
    bits = (x.astype(np.float32) + np.float32(0)).view(np.uint32)
    flipped: np.ndarray = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return flipped


def values_of(keys: np.ndarray) -> np.ndarray:
    """float64 values of `keys_of`."""
    flipped = keys.astype(np.uint32)
    bits = np.where(flipped >> 31, flipped ^ np.uint32(1 << 31), ~flipped)
    return bits.view(np.float32).astype(np.float64)


def _between(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear, from the nearer end, as NumPy does it."""
    gap = high - low
    found: np.ndarray = np.where(share < 0.5, low + gap * share, high - gap * (1 - share))
    return found


# --- at least k rows -------------------------------------------------------------------------


def send_batches(site: Site, names: Sequence[str], k: int) -> Message:
    """Batches of each variable, of at least k rows; none of a variable that has fewer."""
    columns = [site.values(name) for name in names]
    return batch_message([batches(x[~np.isnan(x)], k) for x in columns])


def batch_message(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Message:
    """variable i16[m], batch_mean f64[m], batch_size i32[m] of (means, sizes) of each variable."""
    return {
        "variable": np.repeat(np.arange(len(found)), [len(means) for means, _ in found]).astype(np.int16),
        "batch_mean": np.concatenate([means for means, _ in found]),
        "batch_size": np.concatenate([sizes for _, sizes in found]),
    }


def combine_batches(messages: Sequence[Message], names: Sequence[str], q: np.ndarray) -> list[dict[str, Any]]:
    variable, mean, size = (
        np.concatenate([message[key] for message in messages])
        for key in ("variable", "batch_mean", "batch_size")
    )
    shown = []
    for v, name in enumerate(names):
        mine = variable == v
        values = batch_quantiles(mean[mine], size[mine], q).tolist() if mine.any() else [None] * len(q)
        shown.append({"variable": name, "n": int(size[mine].sum()), "values": values})
    return shown


# --- with noise ------------------------------------------------------------------------------


def send_histogram(
    site: Site, names: Sequence[str], low: np.ndarray, high: np.ndarray, cfg: Quantiles, noise: Noise
) -> Message:
    """cells i64[variables, bins]: values in each part of the range, clipped to it, and noise."""
    keep = counted_rows(site, cfg)
    found = np.zeros((len(names), cfg.bins), np.int64)
    for v, name in enumerate(names):
        x = site.values(name)[keep]
        share = (x[~np.isnan(x)] - low[v]) / (high[v] - low[v])
        place = np.clip(np.floor(share * cfg.bins), 0, cfg.bins - 1).astype(np.int64)
        found[v] = np.bincount(place, minlength=cfg.bins)
    return {"cells": found + noise.draw(found.size, "quantiles", site.name).reshape(found.shape)}


def combine_histograms(
    messages: Sequence[Message],
    names: Sequence[str],
    low: np.ndarray,
    high: np.ndarray,
    cfg: Quantiles,
    noise: Noise,
) -> list[dict[str, Any]]:
    """Quantiles of histograms with noise, linear within a bin, and intervals that know of both.

    Values up to an edge exceed q n by a number whose variance is n q (1 - q) of sampling and, of j bins below
    and m above, (1 - q)^2 j + q^2 m times that of the noise; the interval holds the edges where it may be 0.
    """
    total = np.sum([message["cells"] for message in messages], axis=0).astype(np.float64)
    variance = len(messages) * noise.variance
    j = np.arange(cfg.bins + 1)
    z = quantile(cfg.confidence)
    shown = []
    for v, name in enumerate(names):
        n = float(total[v].sum())
        edges = np.linspace(low[v], high[v], cfg.bins + 1)
        one: dict[str, Any] = {"variable": name, "n": n, "values": [], "low": [], "high": []}
        for q in cfg.q:
            if n <= LEAST * np.sqrt(variance * cfg.bins):
                found: list[float | None] = [None] * 3
            else:
                beyond = np.append(0.0, np.cumsum(total[v])) - q * n
                spread = n * q * (1 - q) + variance * ((1 - q) ** 2 * j + q**2 * (cfg.bins - j))
                half = z * np.sqrt(spread)
                found = [_crossing(edges, beyond + by) for by in (0.0, half, -half)]
            for key, value in zip(("values", "low", "high"), found, strict=True):
                one[key].append(value)
        shown.append(one)
    return shown


def _crossing(edges: np.ndarray, values: np.ndarray) -> float:
    """Where `values`, made to rise, reach 0: within the range."""
    rising = isotonic_regression(values, increasing=True).x
    i = int(np.searchsorted(rising, 0.0, side="left"))
    if i == 0:
        return float(edges[0])
    if i == len(edges):
        return float(edges[-1])
    share = -rising[i - 1] / (rising[i] - rising[i - 1])
    return float(edges[i - 1] + share * (edges[i] - edges[i - 1]))


def _ranges(names: Sequence[str], cfg: Quantiles) -> tuple[np.ndarray, np.ndarray]:
    for name in cfg.ranges:
        require(name in names, f"ranges.{name} names no variable; {nearest(name, names)}")
    found = []
    for name in names:
        limits = cfg.ranges.get(name, [0, 1] if "=" in name else cfg.range)
        require(
            limits is not None,
            f"epsilon needs the public range of every variable, whatever the data say, and {name} has none; "
            "set ranges={NAME: [LEAST, GREATEST]} or, for all others, range=[LEAST,GREATEST]",
        )
        assert limits is not None
        found.append([float(limits[0]), float(limits[1])])
    low, high = np.array(found, np.float64).T
    return low, high
