"""Table one: who is in the data, by site and all together, from sums of each site.

Differences between sites are standardised mean differences: of numbers the difference of means over the root
of the mean variance; of categories the Mahalanobis distance of their shares (Yang and Dalton, "A Unified
Approach to Measuring the Effect Size Between Two Groups", SAS Global Forum 2012, paper 335, section 2).

With minimum_count a site says nothing of fewer than k rows. Of categories small cells of its column and those
from which they would follow are hidden before the column leaves it, and totals over sites are then unknown,
too. Of numbers sums would tell how many they are made of: where 1 to k - 1 rows miss one, further rows are
left out until k do, and where fewer than k have it, none is said to.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from fedsim.base import RequestError, nearest, require
from fedsim.config.estimate import TableOne
from fedsim.data.federation import Federation
from fedsim.data.rng import generator
from fedsim.estimate.coarsen import batch_quantiles, batches
from fedsim.estimate.quantiles import batch_message, bisected, combine_batches
from fedsim.estimate.sites import Message, Post, Site
from fedsim.estimate.suppress import HIDDEN, suppressed

QUARTERS = np.array([0.25, 0.5, 0.75])
MOST_LEVELS = 20
MOST_SITES = 100  # whose differences are looked at pair by pair


class Category(NamedTuple):
    """A variable whose values are counted. columns: one-hot columns, the last level having none; values: of a
    single column; label: whether it is the label's classes."""

    name: str
    levels: tuple[str, ...]
    columns: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    label: bool = False

    def counts(self, site: Site) -> np.ndarray:
        """int64[levels + 1]: rows of each level, and those that miss it. They add up to the site's rows."""
        if self.label:
            place = site.y.astype(np.int64)
        elif self.columns:
            x = np.stack([site.values(name) for name in self.columns], axis=1)
            place = np.where((x == 1).any(axis=1), x.argmax(axis=1), len(self.columns))
            place = np.where(np.isnan(x).any(axis=1), len(self.levels), place)
        else:
            hit = site.values(self.name)[:, None] == np.array(self.values)
            place = np.where(hit.any(axis=1), hit.argmax(axis=1), len(self.levels))
        return np.bincount(place, minlength=len(self.levels) + 1).astype(np.int64)


def table_one(sites: Sequence[Site], cfg: TableOne, federation: Federation) -> dict[str, Any]:
    """Rows by variable, ready for JSON; null where a number is hidden or there is none.

    Raises:
      RequestError: an unknown variable, or no site has k rows.
    """
    post, k = Post(), cfg.minimum_count
    everyone = sites
    sites = [site for site in sites if k is None or site.n >= k]
    if not sites:
        raise RequestError(f"minimum_count={k}: no site has {k} rows; lower minimum_count")
    numbers, categories = _variables(sites, cfg, federation, post)
    sent = post.collect(sites, partial(send, numbers=numbers, categories=categories, k=k))
    columns = [*(site.name for site in sites), "all"]
    found: list[dict[str, Any]] = []
    middle = _quarters_of_all(sites, sent, numbers, k, post)
    for v, name in enumerate(numbers):
        found.append(_number(name, v, sent, columns, middle[v]))
    for c, category in enumerate(categories):
        found.append(_category(category, [message[f"counts/{c}"] for message in sent], columns))
    n = [int(message["n"][0]) for message in sent]
    return {
        "columns": columns,
        "n": dict(zip(columns, [*n, sum(n)], strict=True)),
        "variables": found,
        "minimum_count": k,
        "left_out": [{"site": site.name} for site in everyone if site not in sites],
        "bytes": post.sent,
        "exchanges": post.rounds,
    }


# --- what leaves a site ----------------------------------------------------------------------


def send_kinds(site: Site, names: Sequence[str]) -> Message:
    """binary bool[names]: whether a feature is 0, 1 or missing in every row."""
    columns = [site.values(name) for name in names]
    return {"binary": np.array([(np.isnan(x) | (x == 0) | (x == 1)).all() for x in columns], np.bool_)}


def send_levels(site: Site, names: Sequence[str]) -> Message:
    """Distinct values of features that are counted."""
    found = {}
    for name in names:
        x = site.values(name)
        found[name] = np.unique(x[~np.isnan(x)])[: MOST_LEVELS + 1]
    return found


def send(site: Site, numbers: Sequence[str], categories: Sequence[Category], k: int | None) -> Message:
    """n i64[1]; of numbers present i64[numbers], mean, deviation (divisor n - 1) f64[numbers] and quarters
    f64[numbers, 3], NaN where there are none; counts/i i64[levels + 1], missing ones last; and with k batches
    of the numbers, of which quartiles of all sites are made.
    """
    size = len(numbers)
    present, sent = np.zeros(size, np.int64), []
    mean, deviation, quarters = np.full(size, np.nan), np.full(size, np.nan), np.full((size, 3), np.nan)
    for v, name in enumerate(numbers):
        x = said(site, name, k)
        present[v] = len(x)
        sent.append(batches(x, k or 1))
        if len(x):
            mean[v] = x.mean()
            deviation[v] = x.std(ddof=1) if len(x) > 1 else np.nan
            quarters[v] = np.quantile(x, QUARTERS) if k is None else batch_quantiles(*sent[v], QUARTERS)
    found: Message = {
        "n": np.array([site.n], np.int64),
        "present": present,
        "mean": mean,
        "deviation": deviation,
        "quarters": quarters,
    }
    for c, category in enumerate(categories):
        counts = category.counts(site)
        found[f"counts/{c}"] = counts if k is None else suppressed(counts, k)
    return found if k is None or not numbers else found | batch_message(sent)


def said(site: Site, name: str, k: int | None) -> np.ndarray:
    """Values of a number that its sums are made of: float64[m], with k of 0 or n or k to n - k rows."""
    x = site.values(name)
    x = x[~np.isnan(x)]
    missing = site.n - len(x)
    if k is None:
        return x
    if 0 < missing < k:
        order = generator(0, "estimate", "left out", site.name, name).permutation(len(x))
        x = x[np.sort(order[k - missing :])]
    return x if len(x) >= k else x[:0]


# --- what is made of it ----------------------------------------------------------------------


def _variables(
    sites: Sequence[Site], cfg: TableOne, federation: Federation, post: Post
) -> tuple[list[str], list[Category]]:
    """(numbers, categories) that the table has, in the order of the features, the label first."""
    features = federation.features
    require(features, f"{federation.source}: features have no names, so there is no table of them")
    timed = federation.kind == "survival"
    blocks = dict.fromkeys(name.partition("=")[0] if "=" in name else name for name in features)
    known = ["label", *(["time"] if timed else []), *blocks]
    for option, names in (("variables", cfg.variables), ("categorical", cfg.categorical)):
        for name in names:
            require(name in known, f"{option}: no variable {name!r}; {nearest(name, known)}")
    chosen = [name for name in known if not cfg.variables or name in cfg.variables]
    plain = [name for name in chosen if name in features]
    kinds = post.collect(sites, partial(send_kinds, names=plain))
    binary = dict(zip(plain, np.all([message["binary"] for message in kinds], axis=0).tolist(), strict=True))
    asked = [name for name in chosen if name in cfg.categorical and name in features]
    if asked:
        require(
            cfg.minimum_count is None,
            "categorical: which values there are would be said by the rows themselves, and minimum_count "
            "keeps them from it; leave categorical out",
        )
    levels = post.collect(sites, partial(send_levels, names=asked)) if asked else []
    numbers: list[str] = []
    categories: list[Category] = []
    for name in chosen:
        if name == "label" and federation.kind != "regression":
            categories.append(Category("label", tuple(federation.labels), label=True))
        elif name == "label" or (name == "time" and name not in features):
            numbers.append(name)
        elif name in asked:
            values = np.unique(np.concatenate([message[name] for message in levels])).tolist()
            require(len(values) <= MOST_LEVELS, f"categorical: {name} has more than {MOST_LEVELS} values")
            categories.append(Category(name, tuple(f"{v:g}" for v in values), values=tuple(values)))
        elif name not in features:
            block = tuple(feature for feature in features if feature.startswith(f"{name}="))
            shown = (*(feature.partition("=")[2] for feature in block), "another")
            categories.append(Category(name, shown, columns=block))
        elif binary[name]:
            categories.append(Category(name, ("0", "1"), values=(0.0, 1.0)))
        else:
            numbers.append(name)
    return numbers, categories


def _quarters_of_all(
    sites: Sequence[Site], sent: Sequence[Message], numbers: Sequence[str], k: int | None, post: Post
) -> list[list[Any]]:
    if not numbers:
        return []
    rows = bisected(sites, numbers, QUARTERS, post) if k is None else combine_batches(sent, numbers, QUARTERS)
    return [row["values"] for row in rows]


def _number(
    name: str, v: int, sent: Sequence[Message], columns: Sequence[str], middle: list[Any]
) -> dict[str, Any]:
    present = np.array([message["present"][v] for message in sent])
    missing = np.array([message["n"][0] for message in sent]) - present
    mean = np.array([message["mean"][v] for message in sent])
    deviation = np.array([message["deviation"][v] for message in sent])
    cells = [
        {
            "missing": int(missing[i]),
            "mean": _finite(mean[i]),
            "sd": _finite(deviation[i]),
            "quartiles": [_finite(q) for q in sent[i]["quarters"][v]],
        }
        for i in range(len(sent))
    ]
    total: dict[str, Any] = {"missing": int(missing.sum()), "mean": None, "sd": None, "quartiles": middle}
    there = present > 0
    if there.any():
        n, m = present[there], mean[there]
        total["mean"] = float(n @ m / n.sum())
        if n.sum() > 1:
            own = np.where(n > 1, np.nan_to_num(deviation[there]) ** 2 * (n - 1), 0.0)
            squares = own + n * (m - total["mean"]) ** 2
            total["sd"] = float(np.sqrt(squares.sum() / (n.sum() - 1)))
    found = {"variable": name, "cells": dict(zip(columns, [*cells, total], strict=True))}
    return found | {"smd": _smd_of_numbers(mean, deviation)}


def _category(category: Category, counts: Sequence[np.ndarray], columns: Sequence[str]) -> dict[str, Any]:
    whole = np.stack(counts)
    total = np.where((whole == HIDDEN).any(axis=0), HIDDEN, whole.sum(axis=0))
    n = np.array([*(_total(row) for row in whole), _total(total)], np.float64)
    cells = {}
    for column, row, of in zip(columns, [*whole, total], n, strict=True):
        share = [None if np.isnan(of) or of == 0 or c == HIDDEN else float(c / of) for c in row[:-1]]
        cells[column] = {
            "missing": _said(row[-1]),
            "counts": dict(zip(category.levels, [_said(c) for c in row[:-1]], strict=True)),
            "shares": dict(zip(category.levels, share, strict=True)),
        }
    return {
        "variable": category.name,
        "levels": list(category.levels),
        "cells": cells,
        "smd": _smd_of_shares(whole[:, :-1]),
    }


def _total(row: np.ndarray) -> float:
    """Rows that do not miss it; NaN where that is hidden."""
    return np.nan if (row == HIDDEN).any() else float(row[:-1].sum())


def _said(count: Any) -> int | None:
    return None if count == HIDDEN else int(count)


def _finite(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


# --- differences -----------------------------------------------------------------------------


def _smd_of_numbers(mean: np.ndarray, deviation: np.ndarray) -> float | None:
    """The largest over pairs of sites; None where there is none, or nothing varies."""
    found = []
    for i, j in _pairs(np.flatnonzero(~np.isnan(deviation))):
        spread = np.sqrt((deviation[i] ** 2 + deviation[j] ** 2) / 2)
        if spread > 0:
            found.append(float(abs(mean[i] - mean[j]) / spread))
    return max(found, default=None)


def _smd_of_shares(counts: np.ndarray) -> float | None:
    """The same of counts [sites, levels]; sites that hide some have no part in it."""
    known = np.flatnonzero((counts != HIDDEN).all(axis=1) & (counts.sum(axis=1) > 0))
    found = []
    for i, j in _pairs(known):
        p, q = (counts[s, 1:] / counts[s].sum() for s in (i, j))
        spread = (np.diag(p + q) - np.outer(p, p) - np.outer(q, q)) / 2
        if spread.any():
            found.append(float(np.sqrt((p - q) @ np.linalg.pinv(spread, hermitian=True) @ (p - q))))
    return max(found, default=None)


def _pairs(sites: np.ndarray) -> list[tuple[int, int]]:
    return list(combinations(sites.tolist(), 2)) if len(sites) <= MOST_SITES else []
