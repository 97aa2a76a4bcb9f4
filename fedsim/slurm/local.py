"""The tasks of a submission on this machine: the same script, given the variables that SLURM would set."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from fedsim.slurm.script import LOGS

_LOOK_SECONDS = 0.1
_TAIL = 2**14  # bytes of a log, with its last line
_ARRAY = "local"  # no number, so that the script asks no SLURM


@dataclass
class _Running:
    task: int
    process: subprocess.Popen[bytes]
    restarts: int


def run_here(
    path: Path,
    tasks: int,
    workers: int,
    retries: int,
    stopped: Callable[[], bool],
    look: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, int, str]]:
    """Run every task of the script at `path`, `workers` at a time; yield (task, exit code, last line that one
    which failed wrote) as each ends.

    A task that a signal killed begins again up to `retries` times. Once `stopped` says so, tasks are warned
    as SLURM would, save what they have, and are waited for; none is started. `look` is called meanwhile.
    """
    waiting = [(task, 0) for task in range(tasks)]
    running: list[_Running] = []
    warned = False
    with ExitStack() as ending:
        ending.callback(_end, running)
        while running or (waiting and not warned):
            while waiting and len(running) < workers and not warned:
                task, restarts = waiting.pop(0)
                running.append(_Running(task, _start(path, task, tasks, restarts), restarts))
            if stopped() and not warned:
                warned = True
                for one in running:
                    _signal(one, signal.SIGUSR1)
            for one in [r for r in running if r.process.poll() is not None]:
                running.remove(one)
                code = one.process.returncode
                if (code < 0 or code > 128) and one.restarts < retries and not warned:
                    waiting.insert(0, (one.task, one.restarts + 1))
                else:
                    yield one.task, code, _last_line(_log(path, one.task)) if code else ""
            look()
            time.sleep(_LOOK_SECONDS)


def _start(path: Path, task: int, tasks: int, restarts: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "SLURM_JOB_ID": f"{_ARRAY}_{task}",
        "SLURM_JOB_NAME": path.parent.name,
        "SLURM_ARRAY_JOB_ID": _ARRAY,
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_COUNT": str(tasks),
        "SLURM_RESTART_COUNT": str(restarts),
        "SLURM_SUBMIT_DIR": os.getcwd(),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": os.uname().nodename,
    }
    with _log(path, task).open("ab") as out:
        return subprocess.Popen(
            ["bash", str(path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is passed on as a warning, not as it is
        )


def _log(path: Path, task: int) -> Path:
    return path.parent / LOGS / f"{_ARRAY}_{task}.out"


def _last_line(log: Path) -> str:
    with suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = file.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
    return ""


def _end(running: list[_Running]) -> None:
    """Where the caller goes away, so do the tasks."""
    for one in running:
        _signal(one, signal.SIGTERM)


def _signal(one: _Running, number: int) -> None:
    if one.process.poll() is None:
        one.process.send_signal(number)
