"""How long clients' machines take for a round, and what they draw: the model of docs/system-cost.md."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from fedsim.system.profiles import Profiles

# What a client does one after another, and what it draws meanwhile.
LEGS = ("idle", "transfer", "compute", "idle", "transfer")
RECEIVED, TRAINED, SENT = 1, 2, 4  # the leg that ends then


class Load(NamedTuple):
    """What a round asks of a client. flops: of one example in a local step; batch: examples of a step, 0
    for all rows; once: FLOPs of each of its rows, whatever its steps; survey: the first of two exchanges,
    where a round has two, without local steps and not in the other numbers."""

    down_bytes: int
    up_bytes: int
    flops: float
    batch: int
    once: float = 0.0
    survey: Load | None = None


@dataclass(frozen=True)
class Machines:
    """The machines of a federation's training clients. rows: i64[n], training rows of each."""

    profiles: Profiles
    load: Load
    rows: np.ndarray

    def legs(self, at: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Seconds f64[m, 5] of every leg of clients `at` (positions) that do `steps` local steps. Of two
        exchanges the first is in the legs before the second one's message, and in the first of these the
        wait for whoever of `at` takes longest for it."""
        p, load = self._of(at), self.load
        flops = self._examples(at, steps) * load.flops + self.rows[at] * load.once
        legs = np.stack(
            [
                p.latency, load.down_bytes / p.down, flops / p.flops_per_second, p.latency,
                load.up_bytes / p.up,
            ],
            axis=1,
        )  # fmt: skip
        if load.survey is not None:
            first = replace(self, load=load.survey).legs(at, 0 * steps)
            seconds = first.sum(axis=1)
            legs[:, :RECEIVED] += first[:, :RECEIVED] + (seconds.max(initial=0.0) - seconds)[:, None]
            legs[:, :TRAINED] += first[:, TRAINED + 1 :]
            legs[:, RECEIVED : TRAINED + 1] += first[:, RECEIVED : TRAINED + 1]
        return legs

    def joules(self, at: np.ndarray, legs: np.ndarray, waiting: np.ndarray) -> np.ndarray:
        """Energy f64[m] of clients `at` over `legs`, and `waiting` seconds after them."""
        p = self._of(at)
        watts = np.stack([getattr(p, f"{doing}_watts") for doing in LEGS], axis=1)
        return np.sum(legs * watts, axis=1) + waiting * p.idle_watts

    def within(self, seconds: float, at: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """How many of its local `steps` each of clients `at` can do and still have sent in `seconds`."""
        p, rows = self._of(at), self.rows[at]
        rest = seconds - self.legs(at, 0 * steps).sum(axis=1)
        examples = np.floor(np.maximum(rest, 0) * p.flops_per_second / (self.load.flops or 1.0))
        batch = self.load.batch or rows
        epochs, left = np.divmod(examples, rows)
        # Of the last epoch only whole batches: its short one ends with the epoch.
        fit = epochs * -(-rows // batch) + left // batch
        if self.load.flops == 0:  # steps of nothing
            fit = np.where(rest >= 0, steps, 0)
        return np.minimum(steps, fit).astype(steps.dtype)

    def _of(self, at: np.ndarray) -> Profiles:
        return Profiles(*(column[at] for column in self.profiles))

    def _examples(self, at: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Rows that `steps` visit; the last batch of an epoch may be short."""
        rows = self.rows[at]
        batch = self.load.batch or rows
        epochs, left = np.divmod(steps.astype(np.int64), -(-rows // batch))
        return epochs * rows + np.minimum(left * batch, rows)


def cut(legs: np.ndarray, seconds: float) -> np.ndarray:
    """The legs as far as they had come after `seconds`."""
    return np.diff(np.minimum(np.cumsum(legs, axis=1), seconds), axis=1, prepend=0.0)
