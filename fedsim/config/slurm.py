"""How a sweep is submitted to SLURM. No part of an experiment, nor of any run's id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Literal

from fedsim.base import require

_TIME = re.compile(r"\d+-\d+(:\d+){0,2}|\d+(:\d+){1,2}")
_MEMORY = re.compile(r"\d+[KMGT]")


@dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """What every task of a submitted sweep gets.

    executor: `slurm` submits with sbatch; `local` runs the same tasks on this machine, `workers` at a time.
    tasks: into how many array tasks the work is cut, at most. throttle: how many of them run at a time.
    partition, account, qos, constraint: the site's; null leaves them to SLURM.
    time: at most, for one task: "30:00", "8:00:00" or "1-12:00:00". nodes: of one task; several need
      executor=ray. cpus, gpus, memory: on each node; null cpus are as many as numerics.threads.
    signal_seconds: how long before its end a task is warned, so that it saves what it has reached; SLURM
      may warn up to a minute earlier. retries: how often a task that was killed begins again by itself.
    container: put before the command, such as "apptainer exec --nv fedsim.sif". command: how a task calls
      fedsim; null: this Python. modules: loaded first, in order. environment: lines of bash, after that.
    extra: further options of sbatch, such as "--exclusive".
    """

    executor: Literal["slurm", "local"] = "slurm"
    workers: int = 1
    tasks: int = 16
    throttle: int | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time: str | None = None
    nodes: int = 1
    cpus: int | None = None
    gpus: int = 0
    memory: str | None = None
    signal_seconds: int = 120
    retries: int = 3
    container: str | None = None
    command: str | None = None
    modules: tuple[str, ...] = field(default=())
    environment: tuple[str, ...] = field(default=())
    extra: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("workers", "tasks", "throttle", "nodes", "cpus"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"slurm.{name} must be >= 1, got {value}")
        for name in ("gpus", "retries"):
            value = getattr(self, name)
            require(value >= 0, f"slurm.{name} must be >= 0, got {value}")
        require(
            0 <= self.signal_seconds <= 65535,  # sbatch's own range
            f"slurm.signal_seconds must be in [0, 65535], got {self.signal_seconds}",
        )
        require(
            self.time is None or _TIME.fullmatch(self.time),
            f"slurm.time must be like 30:00, 8:00:00 or 1-12:00:00 (YAML needs quotes), got {self.time!r}",
        )
        require(
            self.memory is None or _MEMORY.fullmatch(self.memory),
            f"slurm.memory must be a whole number and K, M, G or T, such as 8G, got {self.memory!r}",
        )
        require(
            self.executor == "slurm" or self.nodes == 1,
            f"slurm.executor=local has one node, so slurm.nodes must be 1, got {self.nodes}",
        )
        for option in fields(self):
            value = getattr(self, option.name)
            for text in value if isinstance(value, tuple) else [value]:
                require(
                    not isinstance(text, str) or (text.strip() and "\n" not in text),
                    f"slurm.{option.name} must be one line of text, got {text!r}",
                )
        for given in self.extra:
            require(
                given.startswith("-"),
                f"slurm.extra holds options of sbatch, such as --exclusive, got {given!r}",
            )
