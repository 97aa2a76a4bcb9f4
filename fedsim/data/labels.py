"""Labels of any kind to int32 classes or events, or to float32 targets."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedsim.base import RequestError, require
from fedsim.data.federation import Kind

MOST_CLASSES = 20  # whole numbers with more distinct values than this are taken for a quantity


def encode(
    values: np.ndarray, kind: Literal["auto"] | Kind, where: str
) -> tuple[np.ndarray, Kind, int, tuple[str, ...]]:
    """(y, kind, classes, names of the classes) of labels float64[N] or text[N], none missing.

    `auto` takes two distinct values for binary, text or whole numbers of at most 20 distinct values
    for multiclass, and everything else for regression. Classes are numbered in sorted order.

    Args:
      where: names the column in errors.

    Raises:
      RequestError: one distinct value only, or values that do not suit `kind`.
    """
    text = values.dtype.kind not in "fiub"
    levels, codes = np.unique(values.astype(np.str_) if text else values, return_inverse=True)
    require(
        len(levels) > 1,
        f"{where} has only one value ({_name(levels[0])}) in all {len(values)} rows; nothing can be learnt "
        "from it, choose another label",
    )
    if kind == "auto":
        whole = text or bool(np.all(values == np.round(values)))
        if len(levels) == 2:
            kind = "binary"
        else:
            kind = "multiclass" if text or (whole and len(levels) <= MOST_CLASSES) else "regression"
    if kind == "regression":
        require(not text, f"{where} holds text ({str(levels[0])!r}), which data.kind=regression cannot use")
        return values.astype(np.float32), "regression", 0, ()
    require(
        kind != "binary" or len(levels) == 2,
        f"{where} has {len(levels)} distinct values ({_some(levels)}), but data.kind=binary needs 2; make a "
        "label of two of them, such as one value against the others, or use data.kind=multiclass or "
        "regression",
    )
    require(
        len(levels) <= 1000,
        f"{where} has {len(levels)} distinct values, too many for classes (at most 1000); "
        "is it the right column?",
    )
    return codes.astype(np.int32), kind, len(levels), tuple(_name(level) for level in levels)


def events(values: np.ndarray, where: str) -> tuple[np.ndarray, Kind, int, tuple[str, ...]]:
    """What `encode` makes of labels that say whether an event happened: of two values the larger, or
    alphabetically later, is the event; a single one is it unless it is 0.

    Raises:
      RequestError: more than two values, or no event.
    """
    text = values.dtype.kind not in "fiub"
    levels, codes = np.unique(values.astype(np.str_) if text else values, return_inverse=True)
    require(
        len(levels) <= 2,
        f"{where} has {len(levels)} distinct values ({_some(levels)}), but with times it must say whether "
        "the event happened: 1, or 0 (censored)",
    )
    if len(levels) == 2:
        return codes.astype(np.int32), "survival", 2, (_name(levels[0]), _name(levels[1]))
    require(
        _name(levels[0]) in ("1", "True", "true"),
        f"{where} is {_name(levels[0])} in all {len(values)} rows: no event happened, so there is nothing to "
        "learn",
    )
    return np.ones(len(values), np.int32), "survival", 2, ("0", _name(levels[0]))


def times(values: np.ndarray, where: str) -> np.ndarray:
    """float32[N] > 0: when each event happened, or was censored. RequestError for any other value."""
    require(values.dtype.kind in "fiu", f"{where} must hold numbers, got {str(values[0])!r} in row 1")
    found = values.astype(np.float32)
    bad = np.flatnonzero(~(np.isfinite(found) & (found > 0)))
    if len(bad):
        raise RequestError(
            f"{where} must be finite and above 0 ({len(bad)} of {len(values)} rows are not), got "
            f"{values[bad[0]]:g} in row {bad[0] + 1}; a time of 0 says nothing about risk, so leave such "
            "rows out or count from an earlier start"
        )
    return found


def _some(levels: np.ndarray) -> str:
    """The first values of many."""
    return ", ".join(map(_name, levels[:5])) + ", ..." * (len(levels) > 5)


def _name(level: object) -> str:
    if isinstance(level, np.floating) and float(level).is_integer():
        return str(int(level))
    return str(level)
