"""Randomised response for counts: how many training rows a client has is told as a sum of random answers.

Every client has as many places, a public number N, and its n rows are in some of them. For each place it
answers whether a row is in it: truly with probability p = e^eps / (e^eps + 1), else the other way round. A
row more or less changes one answer, and none is more than e^eps times as likely one way as the other: a
row's being there is eps-differentially private, with delta 0, towards whoever sees the answers, and so
towards whoever sees no more than how many were yes, S. A client answers once, before training, and
announces the unbiased estimate

    (S - (1 - p) N) / (2 p - 1), of variance N p (1 - p) / (2 p - 1)^2, whatever n is,

taken to the nearest number in [1, N], which needs no more of the data: no mean has weights below 0.

Source: Warner, "Randomized Response: A Survey Technique for Eliminating Evasive Answer Bias", JASA 1965,
equations (3) to (5); as a local mechanism: Kairouz, Bonawitz, Ramage, "Discrete Distribution Estimation under
Local Privacy", ICML 2016, section 3.
"""

from __future__ import annotations

from dataclasses import replace
from math import exp, floor

import numpy as np

from fedsim.base import require
from fedsim.config import RandomisedCounts
from fedsim.stage import Mechanism, Stage, identity

_WORD = 2**32  # equally likely values that an answer is drawn from


def threshold(epsilon: float) -> int:
    """A place is told as it is for this many of 2**32 words; the less one is for rounding, so that an answer
    is never more telling than epsilon says."""
    return max(floor(_WORD / (1 + exp(-epsilon))) - 1, _WORD // 2 + 1)


def estimate(rows: int, places: int, epsilon: float, rng: np.random.Generator) -> float:
    """What a client with so many rows makes of its answers: unbiased."""
    kept = rng.integers(0, _WORD, places, np.uint32) < threshold(epsilon)
    yes = int(kept[:rows].sum()) + int((~kept[rows:]).sum())
    p = threshold(epsilon) / _WORD
    return (yes - (1 - p) * places) / (2 * p - 1)


def deviation(places: int, epsilon: float) -> float:
    """Standard deviation of an estimate, in rows."""
    p = threshold(epsilon) / _WORD
    return float((places * p * (1 - p)) ** 0.5 / (2 * p - 1))


def announced(cfg: RandomisedCounts, rows: int, rng: np.random.Generator) -> float:
    """How many training rows a client says it has, by which its messages are weighted; `rng` is its own.

    Raises RequestError where it has more rows than there are places.
    """
    require(
        rows <= cfg.places,
        f"privacy.places={cfg.places} is fewer than the {rows} training rows of a client; set it to what no "
        "client may exceed",
    )
    return min(max(estimate(rows, cfg.places, cfg.epsilon, rng), 1.0), float(cfg.places))


def randomised_counts(cfg: RandomisedCounts) -> Stage:
    """Build the stage, which leaves messages as they are: what they are weighted by is `announced`."""
    return replace(
        identity,
        mechanism=Mechanism(
            sensitivity=1.0, cost={"event": "randomised_response", "epsilon": cfg.epsilon}, unit="record"
        ),
    )
