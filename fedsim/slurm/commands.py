"""SLURM's own commands, and what they answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim.base import RequestError, require

_SECONDS = 60.0  # for a controller to answer
_HERE = "or run the same tasks on this machine with slurm.executor=local"


@dataclass(frozen=True)
class Element:
    """A task of an array that SLURM has. name: its job's; state: such as PENDING; node: where it runs."""

    name: str
    job: str
    task: int
    state: str
    node: str


def submit(script: Path) -> str:
    """Hand a batch script to SLURM; the job's id.

    Raises:
      RequestError: there is no SLURM here, or it refuses the job; with its words.
    """
    done = _ask(["sbatch", "--parsable", str(script)])
    if done.returncode:
        said = _words(done.stderr)
        partitions = _partitions() if "partition" in said else []
        advice = f"; partitions here: {', '.join(partitions)}" if partitions else ""
        raise RequestError(f"SLURM refuses {script}: {said}{advice}; set slurm.* otherwise, {_HERE}")
    return done.stdout.strip().split(";")[0]


def elements() -> list[Element]:
    """Every array task of this user that waits, runs, or is about to end or to wait again.

    Raises:
      RequestError: there is no SLURM here, or it does not answer.
    """
    asked = ["squeue", f"--user={os.getuid()}", "--array", "--noheader", "--format=%j|%F|%K|%T|%N"]
    done = _ask(asked)
    require(done.returncode == 0, f"SLURM does not answer: {_words(done.stderr)}; try again later, {_HERE}")
    rows = [line.strip().rsplit("|", 4) for line in done.stdout.splitlines() if line.strip()]
    return [Element(n, job, int(task), state, node) for n, job, task, state, node in rows if task.isdigit()]


def describe(job: str) -> str | None:
    """What SLURM knows of a job, as NAME=value words; None if it knows none of that id, or no more.

    Raises:
      RequestError: there is no SLURM here, or it does not answer.
    """
    done = _ask(["scontrol", "show", "job", "--oneliner", job])
    if done.returncode == 0:
        return done.stdout
    unknown = "Invalid job id" in done.stderr
    require(unknown, f"SLURM does not answer: {_words(done.stderr)}; try again later")
    return None


def _partitions() -> list[str]:
    done = _ask(["sinfo", "--noheader", "--format=%R"])
    return sorted(set(done.stdout.split())) if done.returncode == 0 else []


def _ask(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError:
        raise RequestError(
            f"there is no SLURM here: {command[0]} is not on the PATH; submit from a login node, {_HERE}"
        ) from None
    except subprocess.TimeoutExpired:
        raise RequestError(
            f"{command[0]} did not answer within {_SECONDS:g} s; try again later, {_HERE}"
        ) from None


def _words(stderr: str) -> str:
    """What a program of SLURM's said, as one line without its own name."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for lead in ("sbatch: ", "squeue: ", "scontrol: ", "error: ", "fatal: "):
        lines = [line.removeprefix(lead) for line in lines]
    return "; ".join(dict.fromkeys(lines)) or "without a word"
