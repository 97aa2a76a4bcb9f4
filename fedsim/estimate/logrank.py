"""Federated log-rank test of k groups, from sums: the pooled test's numbers.

Source: Kalbfleisch and Prentice, "The Statistical Analysis of Failure Time Data", 2nd ed., section 1.5, eq.
1.12 to 1.14 (Mantel 1966, Peto and Peto 1972); strata are added up (ibid., stratified tests).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from fedsim.base import RequestError, require
from fedsim.config.estimate import LogRank
from fedsim.estimate.groups import Groups, groups_of
from fedsim.estimate.kaplan_meier import combine, left_out, send
from fedsim.estimate.sites import Message, Post, Site
from fedsim.estimate.survival import Counts


def logrank(sites: Sequence[Site], cfg: LogRank) -> dict[str, Any]:
    """chi_square, df, p, and observed and expected events by group, ready for JSON.

    Not stratified, sites send what a Kaplan-Meier curve is made of; stratified, each makes its own sums.

    Raises:
      RequestError: fewer than two groups have rows, or there is nothing to compare.
    """
    post = Post()
    k = cfg.minimum_count
    groups = groups_of(sites, cfg, k is not None, post)
    if cfg.stratified:
        messages = post.collect(sites, partial(send_sums, groups=groups, k=k))
        out = _left_out(messages, sites, groups) if k is not None else []
        sums = {key: np.sum([message[key] for message in messages], axis=0) for key in messages[0]}
    else:
        messages = post.collect(sites, partial(send, groups=groups, k=k))
        out = left_out(messages, sites, groups, k)
        sums = compared(combine(messages, groups, k), groups.names)
    return tested(sums, groups.names) | {
        "stratified": cfg.stratified,
        "left_out": out,
        "bytes": post.sent,
        "exchanges": post.rounds,
    }


def _left_out(messages: Sequence[Message], sites: Sequence[Site], groups: Groups) -> list[dict[str, str]]:
    return [
        {"site": site.name, "group": name}
        for site, message in zip(sites, messages, strict=True)
        for name, n in zip(groups.names, message["n"], strict=True)
        if n == 0
    ]


def send_sums(site: Site, groups: Groups, k: int | None) -> Message:
    """observed, expected f64[groups] and covariance f64[groups, groups] of the site by itself, rows n
    f64[groups]; with k of batches, and of groups that are large enough."""
    message = send(site, groups, k)
    own = combine([message], groups, k) if len(message["group"]) else {}
    return compared(own, groups.names)


def compared(by_group: Mapping[str, Counts], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Sums over event times of one stratum; of groups without rows they are 0."""
    size = len(names)
    if not by_group:
        nothing = np.zeros(size)
        return {"n": nothing, "observed": nothing, "expected": nothing, "covariance": np.zeros((size, size))}
    time = np.unique(np.concatenate([counts.time for counts in by_group.values()]))
    events, risk = np.zeros((size, len(time))), np.zeros((size, len(time)))
    for g, name in enumerate(names):
        if name in by_group:
            counts = by_group[name]
            events[g, np.searchsorted(time, counts.time)] = counts.events
            risk[g] = np.append(counts.at_risk, 0.0)[np.searchsorted(counts.time, time)]
    d, n = events.sum(axis=0), risk.sum(axis=0)
    share = risk / n
    spread = d * np.where(n > 1, (n - d) / np.maximum(n - 1, 1), 0.0)
    return {
        "n": np.array([by_group[name].n if name in by_group else 0.0 for name in names]),
        "observed": events.sum(axis=1),
        "expected": share @ d,
        "covariance": np.diag(share @ spread) - (share * spread) @ share.T,
    }


def tested(sums: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, Any]:
    """The test of sums over strata. Groups of which no row was ever at risk have no part in it."""
    observed, expected, covariance = sums["observed"], sums["expected"], sums["covariance"]
    there = sums["n"] > 0
    require(
        there.sum() > 1,
        f"only {int(there.sum())} of the groups {', '.join(names)} may be compared, for lack of rows; choose "
        "other groups, or lower minimum_count",
    )
    gap = (observed - expected)[there]
    rank = int(np.linalg.matrix_rank(covariance[np.ix_(there, there)], hermitian=True))
    if rank == 0:
        raise RequestError(
            "no event happened while rows of two groups were at risk, so there is nothing to compare; choose "
            "other groups"
        )
    # Groups' gaps add up to 0: any but one of them say all. More falls out where groups never meet.
    chi_square = float(gap @ np.linalg.pinv(covariance[np.ix_(there, there)], hermitian=True) @ gap)
    return {
        "chi_square": chi_square,
        "df": rank,
        "p": float(stats.chi2.sf(chi_square, rank)),
        "groups": [
            {"group": name, "n": float(n), "observed": float(o), "expected": float(e)}
            for name, n, o, e in zip(names, sums["n"], observed, expected, strict=True)
        ],
    }
