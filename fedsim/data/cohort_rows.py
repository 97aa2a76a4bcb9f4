"""Patients of the cohort simulator made where they are asked for, from integers alone: nothing is held."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fedsim.base import require
from fedsim.cohort.generator import generator
from fedsim.cohort.population import CHUNK, Cohort
from fedsim.cohort.table import features
from fedsim.config import HeartFailure

# Known of every patient, so that a position is a patient: who is left out otherwise could be told by making
# them only.
OF_ALL = ("death_1y", "length_of_stay")


@dataclass(frozen=True)
class CohortRows:
    """Makes the patients that `cfg` describes; a `RowGenerator`. Row `position` of a client is that patient.

    Death within a year is that of everyone, who moved away within it, too: 1 in 100, whom a table leaves out.
    The integers drawn are the same on every machine; what is computed from them in float32 is rounded as
    whoever computes it likes, so that a program and NumPy agree to six digits, and in at most 2 patients of
    1,000 on different sides of a threshold.

    Raises:
      RequestError: an outcome that is not known of all.
    """

    cfg: HeartFailure

    def __post_init__(self) -> None:
        require(
            self.cfg.outcome in OF_ALL,
            f"data.mode=generated makes each patient alone, and data.outcome={self.cfg.outcome} is not known "
            f"of all of them or comes with a time; choose one of {', '.join(OF_ALL)}, or data.mode=resident",
        )

    @property
    def sizes(self) -> np.ndarray:
        return np.array(_cohort(self.cfg).sizes, np.int32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(features(self.cfg.outcome, self.cfg.selection)),)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def rows(self, xp: Any, client: Any, position: Any) -> dict[str, Any]:
        """Rows `position` of `client`, both uint32[...]: x float32[..., features], NaN where not measured;
        y int32[...] or, of a length of stay, float32[...]."""
        make = generator(_cohort(self.cfg), xp)

        def made(client: Any, position: Any) -> dict[str, Any]:
            found = make(client.astype(np.int32), position)
            if self.cfg.outcome == "death_1y":
                return {"x": found["x"], "y": (found["death"] <= 365).astype(np.int32)}
            return {"x": found["x"], "y": found["y"]}

        if xp is np and np.ndim(position) == 1 and len(position) > CHUNK:
            return _in_pieces(made, client, position)
        return made(client, position)


def _in_pieces(made: Callable[[Any, Any], dict[str, Any]], client: Any, position: Any) -> dict[str, Any]:
    """The same, some at a time: arrays that stay in cache, on all usable cores, which change nothing."""
    pieces = [slice(at, at + CHUNK) for at in range(0, len(position), CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        parts = list(pool.map(lambda piece: made(client[piece], position[piece]), pieces))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@lru_cache(maxsize=4)
def _cohort(cfg: HeartFailure) -> Cohort:
    return Cohort(cfg)
