"""A sweep over noise, packed, against the same runs one by one in a warm process and in a process each.

    python tests/benchmarks/sweeps.py [--seeds N] [--turns N] [--processes N] [override ...]

Logistic regression on four hospitals with DP-SGD: noise multipliers by seeds, from experiment to stored run,
accounts included, and in a process each from the command on. The first two take turns, each with seeds that
no run had before, and accountants forget between turns; the least of the turns is shown, in seconds and in
those of the processor, which others at work on the machine change less. Of processes a few are timed, and
their mean is multiplied.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

NOISES = (0.5, 1.0, 2.0)
OPTIONS = (
    "data.preprocess.impute=median", "task=logistic", "privacy=record", "optimizer.batch_size=32", "rounds=10"
)  # fmt: skip
FOREVER = 10**6  # seeds of different turns are this far apart


class Took(NamedTuple):
    seconds: float
    processor: float  # seconds of all threads, and of processes that ended

    def times(self, factor: float) -> Took:
        return Took(self.seconds * factor, self.processor * factor)


def timed(work: Callable[[], object]) -> Took:
    def now() -> Took:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return Took(time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used))

    begin = now()
    work()
    end = now()
    return Took(*(b - a for a, b in zip(begin, end, strict=True)))


def cells(seeds: Sequence[int], more: Sequence[str]) -> list[Any]:
    """Noise multipliers by seeds, of a single composed config."""
    from fedsim.cli.compose import compose, parse
    from fedsim.plan import Sweep, cells

    noises = "privacy.noise_multiplier"
    grid = {noises: list(NOISES), "seed": list(seeds)}
    return cells(Sweep(base=(*OPTIONS, *more), grid=grid), compose, parse)


def forget() -> None:
    """What accountants remember: the next sweep asks them anew."""
    from fedsim.accounting import accountants, pld

    for cache in (accountants.sampled_rdp, accountants._bound, accountants._pld_total, pld.gaussian):
        cache.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="options of all runs, such as privacy.accountant=rdp")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--processes", type=int, default=3)
    asked = parser.parse_args()

    from fedsim.environment import prepare
    from fedsim.run import run_experiments

    prepare(threads=2)
    more, runs = asked.overrides, asked.seeds * len(NOISES)
    with tempfile.TemporaryDirectory(prefix="fedsim-bench-") as folder:
        store = Path(folder)

        def packed(grid: Sequence[Any]) -> None:
            assert len(run_experiments(grid, store).done) == runs

        def one_by_one(grid: Sequence[Any]) -> None:
            for cell in grid:
                assert len(run_experiments([cell], store).done) == 1

        def process(first: int) -> None:
            command = [sys.executable, "-m", "fedsim.cli", "run", *OPTIONS, *more, f"seed={first}"]
            where = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
            cache = {"JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"]}
            command += [f"results={folder}", f"privacy.noise_multiplier={NOISES[first % len(NOISES)]}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=where | cache)

        ways = {"packed": packed, "one by one": one_by_one}
        took: dict[str, list[Took]] = {way: [] for way in ways}
        for turn in range(asked.turns + 1):
            for i, (name, way) in enumerate(ways.items()):
                first = FOREVER * (1 + 2 * turn + i)
                grid = cells(range(first, first + asked.seeds), more)
                forget()
                took[name].append(timed(partial(way, grid)))
        process(0)
        took["a process each"] = [timed(partial(process, 1 + p)).times(runs) for p in range(asked.processes)]
    mean = [sum(values) / asked.processes for values in zip(*took["a process each"], strict=True)]
    best = {name: Took(*map(min, zip(*took[name][1:], strict=True))) for name in ways}  # the first compiles
    best["a process each"] = Took(*mean)
    print(f"{runs} runs{'':14} seconds  / packed   processor  / packed")
    for name, one in best.items():
        ratios = [a / b for a, b in zip(one, best["packed"], strict=True)]
        print(f"{name:20} {one.seconds:9.2f} {ratios[0]:9.1f}   {one.processor:9.2f} {ratios[1]:9.1f}")


if __name__ == "__main__":
    main()
