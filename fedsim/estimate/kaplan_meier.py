"""Federated Kaplan-Meier curves: what a site sends, and what is made of it.

`exact`: the distinct times of a site, with events and censorings at each. `minimum_count`: the same of
batches of at least k rows, events and censorings apart. `epsilon`: how many events and censorings lie in each
interval of a public grid, with noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fedsim.base import RequestError
from fedsim.config.estimate import KaplanMeier
from fedsim.estimate.coarsen import batches
from fedsim.estimate.groups import Groups, groups_of
from fedsim.estimate.noise import Noise, calibrated, counted_rows, statement
from fedsim.estimate.private_curve import actuarial
from fedsim.estimate.sites import Message, Post, Site
from fedsim.estimate.survival import (
    Counts,
    Curve,
    median,
    merged,
    plain,
    product_limit,
    restricted_mean,
)


def kaplan_meier(sites: Sequence[Site], cfg: KaplanMeier) -> dict[str, Any]:
    """Curves by group, ready for JSON.

    Raises:
      RequestError: groups that cannot be made, or too few rows to say anything.
    """
    post = Post()
    groups = groups_of(sites, cfg, cfg.minimum_count is not None or cfg.epsilon is not None, post)
    found: dict[str, Any] = {}
    if cfg.epsilon is None:
        messages = post.collect(sites, partial(send, groups=groups, k=cfg.minimum_count))
        by_group = combine(messages, groups, cfg.minimum_count)
        horizon = cfg.horizon or min(float(counts.time[-1]) for counts in by_group.values())
        at = cfg.at or tuple(horizon * (i + 1) / 5 for i in range(5))
        shown = [
            described(name, counts, product_limit(counts, cfg.confidence), cfg, horizon, at)
            for name, counts in by_group.items()
        ]
        found["left_out"] = left_out(messages, sites, groups, cfg.minimum_count)
    else:
        noise = calibrated(cfg, 1, len(groups.names) * (2 * len(cfg.edges) + 1))
        cells = post.collect(sites, partial(send_noised, groups=groups, cfg=cfg, noise=noise))
        at = cfg.at or tuple(cfg.edges[-1] * (i + 1) / 5 for i in range(5))
        shown = combine_noised(cells, groups, cfg, noise, at)
        found["privacy"] = statement(
            noise,
            "counts of events and censorings by interval, and all that is made of them",
            "sites, groups and the grid of times",
        )
    return {"groups": shown, **found, "bytes": post.sent, "exchanges": post.rounds}


# --- what leaves a site ----------------------------------------------------------------------


def send(site: Site, groups: Groups, k: int | None) -> Message:
    """group i16[m], time f64[m], events i32[m], censored i32[m], by group and rising time.

    With k every batch has at least k rows, and a group of which fewer than k had the event, or fewer than k
    are censored, is not sent at all: that there is none would be said otherwise.
    """
    assert site.time is not None
    group, time, event = groups.of(site), site.time.astype(np.float64), site.y == 1
    parts: list[tuple[np.ndarray, ...]] = []
    for g in range(len(groups.names)):
        mine = group == g
        if k is None:
            counts = merged(time[mine], event[mine], ~event[mine])
            parts.append((np.full(len(counts.time), g), counts.time, counts.events, counts.censored))
        elif _enough(event[mine], k):
            for happened in (True, False):
                means, sizes = batches(time[mine & (event == happened)], k)
                parts.append((np.full(len(means), g), means, sizes * happened, sizes * (not happened)))
    kinds = (np.int16, np.float64, np.int32, np.int32)
    columns = zip(*parts, strict=True) if parts else iter(((),) * 4)
    joined = [
        np.concatenate(column).astype(kind) if column else np.zeros(0, kind)
        for column, kind in zip(columns, kinds, strict=True)
    ]
    return dict(zip(("group", "time", "events", "censored"), joined, strict=True))


def _enough(event: np.ndarray, k: int) -> bool:
    return bool(event.sum() >= k and (~event).sum() >= k)


def send_noised(site: Site, groups: Groups, cfg: KaplanMeier, noise: Noise) -> Message:
    """cells i64[groups, 2 m + 1]: events by interval, censorings by interval, rows that are left after all.

    A row is in one cell; intervals are closed on the right.
    """
    assert site.time is not None
    m = len(cfg.edges)
    of, keep = groups.of(site), counted_rows(site, cfg)
    interval = np.searchsorted(np.array(cfg.edges, np.float64), site.time.astype(np.float64), side="left")
    cell = np.where(interval == m, 2 * m, interval + m * (site.y != 1))
    width = 2 * m + 1
    keep &= of >= 0
    counts = np.bincount((of * width + cell)[keep], minlength=len(groups.names) * width).reshape(-1, width)
    # Other regions' groups have no rows here, as is public: noise on them would hide nobody.
    own = [groups.names.index(site.name)] if groups.by == "client" else range(len(groups.names))
    for g in own:
        counts[g] += noise.draw(width, "kaplan_meier", site.name, str(g * (groups.by != "client")))
    return {"cells": counts}


# --- what is made of it ----------------------------------------------------------------------


def combine(messages: Sequence[Message], groups: Groups, k: int | None) -> dict[str, Counts]:
    """Counts of each group that has any: those of the sites, added up by time.

    Raises:
      RequestError: no group has any.
    """
    group, time, events, censored = (
        np.concatenate([message[key] for message in messages])
        for key in ("group", "time", "events", "censored")
    )
    if not len(group):
        raise RequestError(
            f"by={groups.by}: no row is in any of the groups {', '.join(groups.names)}; name others"
            if k is None
            else f"minimum_count={k}: no site has {k} rows with the event and {k} censored ones in a group, "
            "so none may say anything; lower minimum_count, or make fewer groups"
        )
    return {
        name: merged(time[group == g], events[group == g], censored[group == g])
        for g, name in enumerate(groups.names)
        if (group == g).any()
    }


def left_out(
    messages: Sequence[Message], sites: Sequence[Site], groups: Groups, k: int | None
) -> list[dict[str, str]]:
    """Which sites say nothing of which group, because it would be of too few, or of none."""
    if k is None:
        return []
    return [
        {"site": site.name, "group": name}
        for site, message in zip(sites, messages, strict=True)
        for g, name in enumerate(groups.names)
        if g not in message["group"] and (groups.by != "client" or name == site.name)
    ]


def combine_noised(
    messages: Sequence[Message], groups: Groups, cfg: KaplanMeier, noise: Noise, at: Sequence[float]
) -> list[dict[str, Any]]:
    total = np.sum([message["cells"] for message in messages], axis=0).astype(np.float64)
    m, ends = len(cfg.edges), np.array(cfg.edges, np.float64)
    contributing = 1 if groups.by == "client" else len(messages)
    shown = []
    for name, cells in zip(groups.names, total, strict=True):
        events, censored, beyond = cells[:m], cells[m : 2 * m], float(cells[-1])
        curve = actuarial(events, censored, beyond, ends, contributing * noise.variance, cfg.confidence)
        counts = Counts(np.append(ends, np.inf), np.append(events, 0.0), np.append(censored, beyond))
        shown.append(described(name, counts, curve, cfg, cfg.edges[-1], at))
    return shown


def described(
    name: str, counts: Counts, curve: Curve, cfg: KaplanMeier, horizon: float, at: Sequence[float]
) -> dict[str, Any]:
    """A group's curve and what is read off it; of counts with noise, numbers are what noise made them."""
    m, risk = len(curve.time), counts.at_risk
    diagonal = curve.log_covariance if curve.log_covariance.ndim == 1 else np.diag(curve.log_covariance)
    # Just before a time, or with intervals at their ends.
    where = np.searchsorted(counts.time, np.array(at), side="left" if curve.steps else "right")
    return {
        "group": name,
        "n": counts.n,
        "events": float(counts.events.sum()),
        "median": median(curve),
        "restricted_mean": {"horizon": horizon} | restricted_mean(curve, horizon, cfg.confidence),
        "at": [
            {
                "time": t,
                "at_risk": float(risk[i]) if i < len(risk) else 0.0,
                "survival": curve.at(t, curve.survival),
                "low": curve.at(t, curve.low),
                "high": curve.at(t, curve.high),
            }
            for t, i in zip(at, where.tolist(), strict=True)
        ],
        "curve": {
            "time": plain(curve.time),
            "at_risk": plain(risk[:m]),
            "events": plain(counts.events[:m]),
            "censored": plain(counts.censored[:m]),
            "survival": plain(curve.survival),
            "std_error": plain(curve.survival * np.sqrt(diagonal)),
            "low": plain(curve.low),
            "high": plain(curve.high),
        },
    }
