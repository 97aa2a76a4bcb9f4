"""The batch script of a submitted sweep: readable, and complete, so that sbatch runs it again by hand."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim import resources
from fedsim.config.slurm import SlurmConfig

JOB, RAY, TASKS, LOGS = "job.sh", "ray.sh", "tasks.txt", "logs"  # in the folder of a submission


@dataclass(frozen=True)
class Job:
    """An array of tasks.

    name: SLURM's, by which it is found again. folder: where script, tasks and output lie. place: the folder
    it was submitted from. command: fedsim's, as words, without --cells; ray: Ray's. asked: the command line
    that wrote it. threads: cores of a task where nothing else is said. python_path: for imports, or None.
    """

    name: str
    folder: Path
    place: Path
    command: Sequence[str]
    ray: Sequence[str]
    asked: str
    tasks: int
    cells: int
    threads: int
    python_path: str | None


def batch(cfg: SlurmConfig, job: Job) -> str:
    """The text of job.sh: options of sbatch, the site's lines, the command, and slurm/task.sh."""
    before = shlex.split(cfg.container or "")
    if cfg.nodes > 1:
        before = ["bash", str(job.folder / RAY), *before, *job.ray, "--", *before]
    lines = [
        "#!/bin/bash",
        f"# {job.asked}",
        f"# {job.cells} cells in {job.tasks} tasks, listed in {TASKS}; to submit it by hand: sbatch {JOB}",
        *(f"#SBATCH {option}" for option in _options(cfg, job)),
        "",
        f"cd {shlex.quote(str(job.place))} || exit 1",
        *(f"module load {shlex.quote(name)} || exit 1" for name in cfg.modules),
        *([f"export PYTHONPATH={shlex.quote(job.python_path)}"] if job.python_path else []),
        *cfg.environment,
        "",
        f"folder={shlex.quote(str(job.folder))}",
        f"retries={cfg.retries}",
        f"command=({shlex.join([*before, *job.command])})",
        "",
    ]
    return "\n".join(lines) + "\n" + resources.file("slurm/task.sh").read_text(encoding="utf-8")


def _options(cfg: SlurmConfig, job: Job) -> list[str]:
    throttle = f"%{cfg.throttle}" if cfg.throttle else ""
    logs = str(job.folder / LOGS).replace("%", "%%")  # % begins a pattern of SLURM's
    given = {
        "job-name": job.name,
        "array": f"0-{job.tasks - 1}{throttle}",
        "partition": cfg.partition,
        "account": cfg.account,
        "qos": cfg.qos,
        "constraint": cfg.constraint,
        "time": cfg.time,
        "nodes": cfg.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": cfg.cpus or job.threads,
        "gpus-per-node": cfg.gpus or None,
        "mem": cfg.memory,
        "signal": f"B:USR1@{cfg.signal_seconds}",
        "chdir": str(job.place),
        "output": f"{logs}/%A_%a.out",
        "open-mode": "append",
    }
    found = [f"--{name}={_quoted(value)}" for name, value in given.items() if value is not None]
    return [*found, "--requeue", *cfg.extra]


def _quoted(value: object) -> str:
    """As sbatch reads its own lines: in quotes where there is a space, a quote, or what begins a comment."""
    text = str(value)
    return f'"{text}"' if any(c in text for c in " \t#'") else text
