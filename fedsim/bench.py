"""Ratio benchmarks: the engine's time over a hand-written program's, held against a committed run.

Seconds depend on the machine and on who else is at work on it; a ratio of two programs that took turns
hardly does, and across kinds of machines not even ratios are compared. What is measured lies in
tests/benchmarks of a checkout.
"""

from __future__ import annotations

import importlib
import json
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedsim.base import FedsimError, RequestError, require
from fedsim.environment import processor
from fedsim.store import host

REPEATS = 3
LIMIT = 1.3  # of the committed ratio; all repeats must exceed it
COMMITTED = Path("results", "benchmarks", "machines")
_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Kind:
    """A kind of machine. features: digits for the instruction set; cores: those that may be used."""

    processor: str
    features: str
    cores: int
    jaxlib: str

    @property
    def name(self) -> str:
        """What a file of its is called."""
        words = f"{self.processor} {self.features} {self.cores} cores jaxlib {self.jaxlib}"
        return re.sub(r"[^a-z0-9.]+", "-", re.sub(r"\((r|tm)\)", "", words.lower())).strip("-")


def here() -> Kind:
    """This machine's."""
    model, features = processor()
    return Kind(model, features, host()["cores"], version("jaxlib"))


@dataclass(frozen=True)
class Repeat:
    """Milliseconds per round, each the least of its program's turns."""

    engine: float
    handwritten: float

    @property
    def ratio(self) -> float:
        return self.engine / self.handwritten


def middle(repeats: Sequence[Repeat]) -> float:
    """The ratio that is committed."""
    return statistics.median(r.ratio for r in repeats)


def is_slower(ratios: Sequence[float], committed: float) -> bool:
    """Whether all repeats, and no fewer than REPEATS, exceed LIMIT times the committed ratio."""
    return len(ratios) >= REPEATS and all(ratio > LIMIT * committed for ratio in ratios)


def is_settled(ratios: Sequence[float], committed: float | None) -> bool:
    """Whether no further repeat can change what `is_slower` says."""
    within = committed is not None and any(ratio <= LIMIT * committed for ratio in ratios)
    return within or len(ratios) >= REPEATS


@dataclass(frozen=True)
class Verdict:
    """What repeats of one benchmark say beside the committed ratio, if there is one."""

    ratio: float
    repeats: list[float]
    committed: float | None
    slower: bool


def judge(repeats: Sequence[Repeat], committed: float | None) -> Verdict:
    ratios = [one.ratio for one in repeats]
    slower = committed is not None and is_slower(ratios, committed)
    return Verdict(middle(repeats), ratios, committed, slower)


def repeat(measure: Callable[[], Repeat], committed: float | None = None) -> Iterator[Repeat]:
    """Repeats of one benchmark, at most REPEATS; fewer where a committed ratio settles it before."""
    ratios: list[float] = []
    while not is_settled(ratios, committed):
        one = measure()
        ratios.append(one.ratio)
        yield one


def checkout() -> Path:
    """The root of the checkout that this package runs from.

    Raises:
      RequestError: it does not run from one.
    """
    root = _PACKAGE.parent
    require(
        (root / "tests" / "benchmarks" / "ratios.py").is_file(),
        f"benchmarks are not part of an installed fedsim: {root} has no tests/benchmarks; run fedsim bench "
        "with a checkout of its repository that is installed by make setup",
    )
    return root


def workloads(reduced: bool) -> dict[str, Callable[[], Repeat]]:
    """Name -> one repeat of its benchmark, in processes of their own; FedsimError where one fails."""
    if (root := str(checkout())) not in sys.path:
        sys.path.insert(0, root)
    ratios = importlib.import_module("tests.benchmarks.ratios")

    def measure(size: Any) -> Repeat:
        try:
            return Repeat(*ratios.measure(size))
        except RuntimeError as error:
            raise FedsimError(str(error)) from None

    chosen = ratios.REDUCED if reduced else ratios.FULL
    return {size.workload: partial(measure, size) for size in chosen}


def committed(root: Path, kind: Kind, reduced: bool) -> dict[str, Any] | None:
    """The last committed run of a kind of machine: its `commit` and `ratios`; None where there is none.

    Raises:
      RequestError: the file is no such run.
    """
    path = _path(root, kind)
    if not path.is_file():
        return None
    try:
        run = json.loads(path.read_text(encoding="utf-8")).get(_size(reduced))
        if run is not None:
            run = {
                "commit": str(run["commit"]),
                "ratios": {k: float(v["ratio"]) for k, v in run["ratios"].items()},
            }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        said = f"{path.relative_to(root)} is no run of benchmarks ({error!r})"
        raise RequestError(f"{said}; remove it and write it anew by fedsim bench --record") from None
    return run


def record(root: Path, kind: Kind, reduced: bool, commit: str, found: Mapping[str, Sequence[Repeat]]) -> Path:
    """Write a run where it is committed, in place of the last one of its kind and size."""
    path = _path(root, kind)
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    ratios = {
        name: {
            "ratio": round(middle(repeats), 3),
            "repeats": [round(r.ratio, 3) for r in repeats],
            "engine_ms": round(statistics.median(r.engine for r in repeats), 3),
            "handwritten_ms": round(statistics.median(r.handwritten for r in repeats), 3),
        }
        for name, repeats in found.items()
    }
    held |= {"machine": asdict(kind), _size(reduced): {"commit": commit, "ratios": ratios}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _path(root: Path, kind: Kind) -> Path:
    return root / COMMITTED / f"{kind.name}.json"


def _size(reduced: bool) -> str:
    return "reduced" if reduced else "full"
