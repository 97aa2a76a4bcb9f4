"""Strategies of correlated noise: optimised once, in a process of its own (optimise.py), and kept on disk.

What is kept is rounded to eight digits: accounts are of what is kept, so they hold however good it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fedsim import resources
from fedsim.base import FedsimError, RequestError, digest, require
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
        bands = min(cfg.bands, rounds)
        (coefficients,) = kept("banded", rounds=rounds, bands=bands) if bands > 1 else ((1.0,),)
        return replace(cfg, rounds=rounds, coefficients=coefficients, bands=bands)
    if cfg.decay:
        return replace(cfg, rounds=rounds)
    decay, scale = kept("blt", rounds=rounds, buffers=cfg.buffers, period=min(period, rounds))
    return replace(cfg, rounds=rounds, decay=decay, scale=scale)


@cache
def kept(kind: str, **asked: int) -> Strategy:
    """The strategy on disk; else a new one, which is put there."""
    path = folder() / f"{digest([_RECIPE, kind, asked])}.json"
    try:
        return tuple(map(tuple, json.loads(path.read_text())["strategy"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or none that is whole
    found = [[float(f"{x:.8g}") for x in part] for part in optimised(kind, **asked)]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({"recipe": _RECIPE, "kind": kind, **asked, "strategy": found}, indent=1))
    os.replace(aside, path)
    return tuple(map(tuple, found))


def optimised(kind: str, **asked: int) -> list[list[float]]:
    """A new strategy, which takes seconds."""
    if find_spec("jax_privacy") is None:
        raise RequestError(
            f"privacy={kind} optimises its strategy with jax-privacy, which is not installed; install "
            "fedsim-regions[privacy], or give a strategy of your own"
        )
    # -P: the script's folder, whose modules have common names, is not searched for imports.
    command = [sys.executable, "-P", str(Path(__file__).with_name("optimise.py"))]
    done = subprocess.run(
        [*command, json.dumps({"kind": kind} | asked)],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise FedsimError(f"jax-privacy found no strategy for privacy={kind} with {asked}: {said[-1]}")
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def folder() -> Path:
    """Where strategies are kept between processes."""
    return resources.cache() / "strategies"
