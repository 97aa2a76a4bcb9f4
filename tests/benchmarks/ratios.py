"""What `fedsim bench` measures: the engine's time over the hand-written program's, taking turns.

One repeat is engine, hand-written, engine, hand-written, each in a process of its own, and the least of
each; a process's figure is the median of its rounds after the first. Programs come from a compile cache,
since rounds are timed and not compilers, on the CPU, for which the hand-written programs are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.contenders import ROOT
from tests.benchmarks.contenders import measure as measure_one

TURNS = 2
CACHE = ROOT / ".cache" / "benchmarks" / "xla"


@dataclass(frozen=True)
class Size:
    """A workload, with as many rounds as can be told apart from noise. clients: fewer than its own."""

    workload: str
    rounds: int
    clients: int | None = None


FULL = (
    Size("lr_mnist", 600),
    Size("mlp_silo", 40),
    Size("mlp_scale", 30),
    Size("cifar_iid", 5),
)
REDUCED = (
    Size("lr_mnist", 600),
    Size("mlp_silo", 40),
    Size("mlp_scale", 30, clients=10_000),
)


def measure(size: Size, cache: Path = CACHE) -> tuple[float, float]:
    """One repeat: milliseconds per round of the engine and of the hand-written program.

    Raises:
      RuntimeError: a process failed; the message says which, and ends with the last lines it wrote.
    """
    cache.mkdir(parents=True, exist_ok=True)
    took: dict[str, list[float]] = {"engine": [], "handwritten": []}
    for _ in range(TURNS):
        for contender, seconds in took.items():
            one = measure_one(contender, size.workload, size.rounds, clients=size.clients, cache=cache)
            seconds.append(one.seconds)
    return 1e3 * min(took["engine"]), 1e3 * min(took["handwritten"])
