"""Which group each row is in: the same groups at every site, agreed on before anything is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedsim.base import nearest, require
from fedsim.config.estimate import Grouped
from fedsim.estimate.sites import Message, Post, Site

MOST = 20  # groups that are made of the values of a feature


@dataclass(frozen=True)
class Groups:
    """names: of the groups; by: what makes them; values: of a feature, or the one-hot columns of a category;
    cuts: whether values are cut points."""

    names: tuple[str, ...]
    by: str | None
    values: tuple[float, ...] = ()
    block: tuple[str, ...] = ()
    cuts: bool = False

    def of(self, site: Site) -> np.ndarray:
        """int64[n]: group of each row, -1 for those whose group is missing or no group of these."""
        if self.by is None:
            return np.zeros(site.n, np.int64)
        if self.by == "client":
            return np.full(site.n, self.names.index(site.name), np.int64)
        if self.block:
            columns = np.stack([site.values(name) for name in self.block], axis=1)
            place = np.where((columns == 1).any(axis=1), columns.argmax(axis=1), len(self.block))
            return np.where(np.isnan(columns).any(axis=1), -1, place).astype(np.int64)
        x = site.values(self.by)
        if self.cuts:
            return np.where(np.isnan(x), -1, np.searchsorted(self.values, x, side="right")).astype(np.int64)
        hit = x[:, None] == np.array(self.values, np.float64)
        return np.where(hit.any(axis=1), hit.argmax(axis=1), -1).astype(np.int64)


def groups_of(sites: Sequence[Site], cfg: Grouped, public: bool, post: Post) -> Groups:
    """The groups that `cfg` asks for.

    Args:
      public: whether the groups must not depend on rows, as where sites protect their numbers.

    Raises:
      RequestError: an unknown feature, too many values, or groups that only the rows could tell.
    """
    by = cfg.by
    if by is None:
        return Groups(("all",), None)
    if by == "client":
        return Groups(tuple(site.name for site in sites), "client")
    features = sites[0].features
    block = tuple(name for name in features if name.startswith(f"{by}="))
    if by not in features and block:
        require(
            not (cfg.levels or cfg.cuts), f"by={by} is a category with levels of its own; leave levels out"
        )
        return Groups((*block, f"{by}: another"), by, block=block)
    known = ["client", *dict.fromkeys(name.partition("=")[0] for name in features)]
    require(by in features, f"by: no feature {by!r}; {nearest(by, known)}")
    if cfg.cuts:
        return Groups(_between(by, cfg.cuts), by, cfg.cuts, cuts=True)
    values = cfg.levels or ((0.0, 1.0) if "=" in by else ())
    if not values:
        require(
            not public,
            f"by={by}: which values there are would be said by the rows themselves; name them, as in "
            "levels=[0,1], or cut points, as in cuts=[65,80]",
        )
        found = post.collect(sites, lambda site: send_levels(site, by))
        values = tuple(np.unique(np.concatenate([message["levels"] for message in found])).tolist())
        require(
            len(values) <= MOST,
            f"by={by} has more than {MOST} values; cut it into groups, as in cuts=[65,80]",
        )
        require(values, f"by={by} is missing in all rows; choose another feature")
    return Groups(tuple(f"{by}={value:g}" for value in values), by, values)


def send_levels(site: Site, by: str) -> Message:
    """The distinct values of a feature at a site, or the first few of too many."""
    x = site.values(by)
    return {"levels": np.unique(x[~np.isnan(x)])[: MOST + 1]}


def _between(by: str, cuts: Sequence[float]) -> tuple[str, ...]:
    inner = [f"{low:g} <= {by} < {high:g}" for low, high in pairwise(cuts)]
    return (f"{by} < {cuts[0]:g}", *inner, f"{by} >= {cuts[-1]:g}")
