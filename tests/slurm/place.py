"""A folder with a sweep of 24 small cells, and fedsim's command line in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """
name: small
base:
  - data=blobs
  - data.clients=4
  - split=natural
  - split.test=0.3
  - rounds=200
  - numerics.threads=1
  - executor.checkpoint_seconds=0.5
grid: {algorithm: [fedavg, fedprox], optimizer.step_size: [0.02, 0.05], seed: 'range(0,6)'}
"""
# Given to tasks by --with: notes every run that a process has stored; a round takes as many seconds more as
# the file `pace` says, where there is one.
COUNTED = """
import os, pathlib, time

from fedsim.store import ResultStore

write = ResultStore.write


def counted(self, run, result, *more):
    found = write(self, run, result, *more)
    with open("stored.txt", "a") as file:
        file.write(f"{run} {result.status}\\n")
    return found


ResultStore.write = counted
if "SLURM_ARRAY_TASK_ID" in os.environ:
    from fedsim.simulate.engine import Engine

    advance = Engine.advance

    def slow(self, states, first, count):
        for _ in range(count):
            try:
                time.sleep(float(pathlib.Path("pace").read_text()))
            except FileNotFoundError:
                break
        return advance(self, states, first, count)

    Engine.advance = slow
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Place:
    """A folder with the sweep, and fedsim's command line in it, as a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment | {"PYTHONPATH": str(ROOT)}
        sweep = folder / "experiments" / "small" / "sweep.yaml"
        sweep.parent.mkdir(parents=True)
        sweep.write_text(SWEEP)
        (folder / "counted.py").write_text(COUNTED)

    def fedsim(self, *words: str, check: bool = True) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "fedsim.cli", *words],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    def submit(self, *words: str, check: bool = True) -> Said:
        return self.fedsim("submit", "small", "--with", "counted.py", *words, check=check)

    def slow(self, seconds_a_round: float) -> None:
        """Give tasks some way to go, however fast the machine is, until `hurry`."""
        (self.folder / "pace").write_text(str(seconds_a_round))

    def hurry(self) -> None:
        """Let tasks do the rest as fast as they can."""
        (self.folder / "pace").unlink()

    @property
    def stored(self) -> Counter[str]:
        """Run -> how often a process stored it."""
        path = self.folder / "stored.txt"
        return (
            Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()
        )

    @property
    def models(self) -> dict[str, str]:
        """Run -> its model's hash."""
        found = [json.loads(p.read_text()) for p in self.folder.glob("results/store/*/manifest.json")]
        return {m["run"]: m["model_sha256"] for m in found if m["status"] == "done"}

    @property
    def said(self) -> str:
        """All that the tasks wrote."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("results/small/slurm/*/logs/*")))
