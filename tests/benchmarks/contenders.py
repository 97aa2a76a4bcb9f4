"""Runs one contender on one workload in a process of its own, and reads what it measured.

    python -m tests.benchmarks.contenders CONTENDER WORKLOAD ROUNDS CLIENTS ANSWER.json

is what such a process is. Thread and device settings must stand before JAX and BLAS start.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import engine, workloads

ROOT = Path(__file__).resolve().parents[2]
CONTENDERS = ("engine", "handwritten", "numpy_loop", "floor")


@dataclass(frozen=True)
class Measured:
    """One process. `skipped` says why there are no numbers."""

    contender: str
    workload: str
    seconds_first: float = float("nan")
    seconds_per_round: tuple[float, ...] = ()
    peak_bytes: int = 0  # largest resident size of the process; actors of an executor are not in it
    padding: float | None = None
    skipped: str | None = None

    @property
    def seconds(self) -> float:
        """Median seconds per round after the first."""
        return statistics.median(self.seconds_per_round)


def environment(contender: str, cores: int, cache: Path | None = None) -> dict[str, str]:
    """The settings each contender is fastest with; the engine chooses its own.

    With a compile cache only rounds can be compared, on the CPU; without, the first round compiles.
    """
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    if cache:
        env |= {engine.CACHE: str(cache), "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    if contender == "numpy_loop":  # products this small only wait for a second thread
        env |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if contender == "handwritten":
        flags = f"--xla_force_host_platform_device_count={cores} --xla_cpu_prefer_vector_width=512"
        env |= {"NPROC": str(cores), "XLA_FLAGS": flags}
    if contender == "floor":
        env |= {"NPROC": str(cores), "XLA_FLAGS": ""}
    return env


def unfit(contender: str, workload: str) -> str | None:
    """Why this pair is not run, or None."""
    if contender == "numpy_loop" and workload == "cifar_iid":
        return "a convolution in NumPy takes minutes a round"
    return None


def measure(
    contender: str,
    workload: str,
    rounds: int | None = None,
    cores: int | None = None,
    *,
    clients: int | None = None,
    cache: Path | None = None,
) -> Measured:
    """Run the pair in a fresh process, with the workload's own rounds and clients where none are given.

    Raises:
      RuntimeError: the process failed; the message ends with the last lines it wrote.
    """
    if reason := unfit(contender, workload):
        return Measured(contender, workload, skipped=reason)
    work = workloads.WORKLOADS[workload]
    sizes = [str(rounds or work.rounds), str(clients or work.clients)]
    cores = cores or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder, "answer.json"), Path(folder, "log")
        command = [sys.executable, "-m", "tests.benchmarks.contenders", contender, workload, *sizes]
        with log.open("wb") as out:
            child = subprocess.Popen(
                [*command, str(answer)],
                env=environment(contender, cores, cache),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            child.wait()
        if child.returncode != 0 or not answer.exists():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"{contender} on {workload} ended with status {child.returncode}:\n{tail}")
        found = json.loads(answer.read_text())
    found["seconds_per_round"] = tuple(found["seconds_per_round"])
    return Measured(contender, workload, **found)


def run(contender: str, workload: str, rounds: int, clients: int) -> workloads.Result:
    """Run the pair in this process; making the rows is not timed."""
    data = workloads.make_data(workload, clients)
    if contender == "handwritten":
        return importlib.import_module(f"tests.benchmarks.handwritten.{workload}").run(rounds, data)
    return importlib.import_module(f"tests.benchmarks.{contender}").run(workload, rounds, data)


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource  # the system's own count; on Linux it would begin with what the parent had

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main(contender: str, workload: str, rounds: str, clients: str, answer: str) -> None:
    result = run(contender, workload, int(rounds), int(clients))
    found = {k: v for k, v in result._asdict().items() if k != "params"} | {"peak_bytes": peak_bytes()}
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
