"""What is submitted, kept in a folder of the sweep: script, tasks, the sweep as it was, output, job ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim import resources
from fedsim.base import RequestError, digest
from fedsim.config.slurm import SlurmConfig
from fedsim.slurm import commands, script, tasks
from fedsim.slurm.commands import Element
from fedsim.slurm.script import Job

JOBS = "jobs.txt"  # the id of every job that was submitted from a folder, one a line
SWEEP = "sweep.yaml"


@dataclass(frozen=True)
class Submission:
    """An array before it is submitted.

    name: the sweep's. parent: the folder that keeps the sweep's submissions. sweep: its file. command: how
    fedsim is called, up to the sweep's file; rest: what follows the file. tasks: run ids of each; labels: run
    id -> what a reader calls it. The other fields are those of Job.
    """

    name: str
    parent: Path
    sweep: Path
    place: Path
    command: Sequence[str]
    rest: Sequence[str]
    ray: Sequence[str]
    asked: str
    tasks: Sequence[Sequence[str]]
    labels: Mapping[str, str]
    threads: int
    python_path: str | None

    def files(self, cfg: SlurmConfig) -> dict[Path, str]:
        """Path -> text of everything that is kept; job.sh is the last."""
        parts = [cfg, str(self.place), self.command, self.rest, self.tasks, self.threads, self.python_path]
        code = digest([str(self.parent.absolute()), *parts], 8)
        folder = self.parent.absolute() / code
        job = Job(
            name=f"fedsim-{re.sub(r'[^A-Za-z0-9_.-]', '_', self.name)}-{code}",
            folder=folder,
            place=self.place,
            command=[*self.command, str(folder / SWEEP), *self.rest],
            ray=self.ray,
            asked=self.asked,
            tasks=len(self.tasks),
            cells=sum(map(len, self.tasks)),
            threads=self.threads,
            python_path=self.python_path,
        )
        found = {
            folder / SWEEP: self.sweep.read_text(encoding="utf-8"),
            folder / script.TASKS: tasks.text(self.tasks, self.labels),
        }
        if cfg.nodes > 1:
            found[folder / script.RAY] = resources.file("slurm/ray.sh").read_text(encoding="utf-8")
        return found | {folder / script.JOB: script.batch(cfg, job)}


def written(files: Mapping[Path, str]) -> Path:
    """Write what `Submission.files` holds and return the script's path.

    Raises:
      RequestError: a file cannot be written.
    """
    path = next(iter(files))
    try:
        (path.parent / script.LOGS).mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            # The same folder holds the same files, which tasks may be reading.
            if not (path.exists() and path.read_text(encoding="utf-8") == text):
                path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(
            f"{path} cannot be written ({error.strerror or error}); set results=... to a folder that can"
        ) from error
    return path


def submit(path: Path) -> str:
    """Submit a script and note its job's id beside it. Raises RequestError as `commands.submit`."""
    job = commands.submit(path)
    with (path.parent / JOBS).open("a", encoding="utf-8") as file:
        file.write(f"{job}\n")
    return job


def earlier(parent: Path) -> list[list[str]]:
    """The run ids of every task that was submitted from the folders in `parent`."""
    files = sorted(parent.glob(f"*/{script.TASKS}"))
    return [runs for path in files for runs in tasks.read(path).values()]


def queued(parent: Path) -> dict[str, Element]:
    """Run id -> the task that will see to it, of what was submitted from the folders in `parent`.

    Jobs are known by their name, so that those which were submitted by hand are seen, too.

    Raises:
      RequestError: SLURM does not answer.
    """
    folders = {path.parent.name: path for path in sorted(parent.glob(f"*/{script.TASKS}"))}
    if not folders:
        return {}
    held: dict[str, dict[int, list[str]]] = {}
    found: dict[str, Element] = {}
    for element in commands.elements():
        code = element.name.rpartition("-")[2]
        if code in folders and element.name.startswith("fedsim-"):
            if code not in held:
                held[code] = tasks.read(folders[code])
            found |= dict.fromkeys(held[code].get(element.task, ()), element)
    return found
