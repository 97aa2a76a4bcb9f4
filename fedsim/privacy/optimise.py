"""Optimises a strategy with jax-privacy: run as a script, in a process of its own.

So that it has 64 bits and a processor, whatever the run that asks has, and its start of JAX is not theirs.
Reads what is asked for, JSON, from its argument, and writes a list of lists of numbers, JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


def banded(rounds: int, bands: int) -> list[Any]:
    """[Toeplitz coefficients], for the mean squared error of prefix sums."""
    from jax_privacy.matrix_factorization import toeplitz

    found = toeplitz.optimize_banded_toeplitz(rounds, bands)
    return [np.minimum.accumulate(found)]  # its account needs that they do not rise, not by rounding either


def blt(rounds: int, buffers: int, period: int) -> list[Any]:
    """[decay, scale], for the largest squared error of prefix sums; clients come every `period` rounds."""
    from jax_privacy.matrix_factorization import buffered_toeplitz

    found = buffered_toeplitz.optimize(
        n=rounds, min_sep=period, max_participations=None, error="max",
        min_buffers=buffers, max_buffers=buffers,
    )  # fmt: skip
    return [found.buf_decay, found.output_scale]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    kinds: dict[str, Callable[..., Any]] = {"banded": banded, "blt": blt}
    made = kinds[asked.pop("kind")](**asked)
    print(json.dumps([np.asarray(part, np.float64).tolist() for part in made]))
