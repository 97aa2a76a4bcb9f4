"""Strategies of correlated noise: optimised once with jax-privacy, then kept on disk.

The only module that imports jax-privacy, and only where a strategy is not known yet. What is kept is rounded
to eight digits: accounts are of what is kept, so they hold however good the optimum is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedsim import resources
from fedsim.base import RequestError, digest, require
from fedsim.config import BandedPrivacy, BltPrivacy, PrivacyConfig

Strategy = tuple[tuple[float, ...], ...]  # a few lists of numbers

_RECIPE = "jax-privacy 2.0.0: banded by mean, blt by largest squared error of prefix sums"


def prepared(cfg: PrivacyConfig, rounds: int, period: int) -> PrivacyConfig:
    """The mechanism with the strategy filled in that a run of so many rounds needs.

    Args:
      period: rounds from one of a client's turns to the next.

    Raises RequestError for a strategy made for fewer rounds than the run has.
    """
    if not isinstance(cfg, BandedPrivacy | BltPrivacy):
        return cfg
    require(
        cfg.rounds == 0 or cfg.rounds >= rounds,
        f"privacy.rounds={cfg.rounds} is less than the {rounds} rounds of the run; raise it, or set 0",
    )
    rounds = cfg.rounds or rounds
    if isinstance(cfg, BandedPrivacy):
        if cfg.coefficients:
            return replace(cfg, rounds=rounds)
        (coefficients,) = banded(rounds, min(cfg.bands, rounds))
        return replace(cfg, rounds=rounds, coefficients=coefficients, bands=len(coefficients))
    if cfg.decay:
        return replace(cfg, rounds=rounds)
    decay, scale = blt(rounds, cfg.buffers, min(period, rounds))
    return replace(cfg, rounds=rounds, decay=decay, scale=scale)


@cache
def banded(rounds: int, bands: int) -> Strategy:
    """(Toeplitz coefficients, of norm 1), for the mean squared error of all prefix sums."""
    if bands == 1:
        return ((1.0,),)

    def optimise() -> list[Any]:
        from jax_privacy.matrix_factorization import toeplitz

        first = np.asarray(toeplitz.optimal_max_error_strategy_coefs(bands), np.float64)
        found = toeplitz.optimize_banded_toeplitz(rounds, bands, strategy_coef=jax.numpy.asarray(first))
        return [
            np.minimum.accumulate(found)
        ]  # its account needs that they do not rise, by no rounding either

    return _kept({"kind": "banded", "rounds": rounds, "bands": bands}, optimise)


@cache
def blt(rounds: int, buffers: int, period: int) -> Strategy:
    """(decay, scale), for the largest squared error of prefix sums; clients come every `period` rounds."""

    def optimise() -> list[Any]:
        from jax_privacy.matrix_factorization import buffered_toeplitz

        found = buffered_toeplitz.optimize(
            n=rounds, min_sep=period, max_participations=None, error="max",
            min_buffers=buffers, max_buffers=buffers,
        )  # fmt: skip
        return [found.buf_decay, found.output_scale]

    return _kept({"kind": "blt", "rounds": rounds, "buffers": buffers, "period": period}, optimise)


def _kept(asked: dict[str, Any], optimise: Callable[[], list[Any]]) -> Strategy:
    """What is on disk for `asked`; else what `optimise` finds, which is put there."""
    path = folder() / f"{digest([_RECIPE, asked])}.json"
    try:
        return tuple(map(tuple, json.loads(path.read_text())["strategy"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or none that is whole
    try:
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            found = [[float(f"{x:.8g}") for x in np.asarray(part, np.float64)] for part in optimise()]
    except ImportError as error:
        raise RequestError(
            f"privacy={asked['kind']} optimises its strategy with jax-privacy, which is not installed; "
            "install fedsim-regions[privacy], or give a strategy of your own"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({"recipe": _RECIPE, "asked": asked, "strategy": found}, indent=1))
    os.replace(aside, path)
    return tuple(map(tuple, found))


def folder() -> Path:
    """Where strategies are kept between processes."""
    return resources.cache() / "strategies"
