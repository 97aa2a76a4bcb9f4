"""Which rows are judged apart: by the values of a column, or by intervals of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fedsim.base import nearest, require
from fedsim.data.federation import Federation

MOST = 20  # groups of a column without cut points
MISSING = "missing"


class Groups(NamedTuple):
    """names: of the groups; of_row: i64[n], the group of each row."""

    names: tuple[str, ...]
    of_row: np.ndarray


def check(wanted: Mapping[str, Any], federation: Federation, option: str = "evaluate.groups") -> None:
    """Raises RequestError where a column is not there, holds too many values, or text that is to be cut."""
    for name, cuts in wanted.items():
        every = np.arange(federation.rows if federation.columns is not None else 0)
        groups(federation, name, cuts, every, option)


def groups(
    federation: Federation,
    name: str,
    cuts: Sequence[float],
    rows: np.ndarray,
    option: str = "evaluate.groups",
) -> Groups:
    """The groups of `rows` by the column `name`: `name = 1`, or `name < 65`, `name 65 to 80`, `name >= 80`.

    Args:
      option: that named them, for messages.

    Raises:
      RequestError: as `check`.
    """
    values = _column(federation, name, option)[rows]
    if values.dtype.kind != "f":
        require(
            not len(cuts),
            f"{option}.{name}={list(cuts)} are cut points, and {name} holds text; set [] for one "
            "group per value",
        )
        missing, levels = values == "", np.unique(values[values != ""])
        named = [f"{name} = {level}" for level in levels]
        code = np.searchsorted(levels, values)
    elif len(cuts):
        missing, code = np.isnan(values), np.searchsorted(np.asarray(cuts, np.float64), values, side="right")
        inner = [f"{name} {a:g} to {b:g}" for a, b in itertools.pairwise(cuts)]
        named = [f"{name} < {cuts[0]:g}", *inner, f"{name} >= {cuts[-1]:g}"]
    else:
        missing = np.isnan(values)
        levels = np.unique(values[~missing])
        named = [f"{name} = {level:g}" for level in levels]
        code = np.searchsorted(levels, values)
    require(
        len(named) <= MOST,
        f"{option}.{name} would make {len(named)} groups, and at most {MOST} can be; give cut points",
    )
    return Groups((*named, f"{name} {MISSING}"), np.where(missing, len(named), code).astype(np.int64))


def _column(federation: Federation, name: str, option: str) -> np.ndarray:
    """float64[N] or text[N]."""
    if name in federation.kept:
        return federation.kept[name]
    features = list(federation.features)
    known = [*federation.kept, *features]
    require(
        name not in features or federation.columns is not None,
        f"{option}: rows that are generated are not kept, so {name!r} cannot tell them apart; use "
        "data.mode=resident",
    )
    require(
        name in features,
        f"{option}: {name!r} is neither a feature nor a column that data.keep keeps; "
        f"{nearest(name, known) or 'rows that are generated have no groups'}",
    )
    assert federation.columns is not None
    found: np.ndarray = federation.columns["x"][:, features.index(name)].astype(np.float64)
    return found
