"""`fedsim sweep --processes` stores what one process stores."""

import subprocess
import sys

import pytest

from fedsim.store import ResultStore

pytestmark = pytest.mark.production
SWEEP = """
name: shared
base: [rounds=3]
grid: {algorithm: [local, fedavg], seed: [0, 1]}
"""
TABLES = "tables: [{name: pooled, title: AUROC, rows: [algorithm], metrics: [auroc]}]"


def sweep(folder, *more):
    done = subprocess.run(
        [sys.executable, "-m", "fedsim.cli", "sweep", "shared", *more],
        cwd=folder, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    store = ResultStore(folder / "results" / "store")
    return done.stdout, {
        run: (store.manifest(run)["model_sha256"], store.read(run, "rounds"), store.read(run, "predictions"))
        for run in store.ids()
    }


def test_two_processes_store_what_one_stores(tmp_path):
    for name in ("one", "two"):
        place = tmp_path / name / "experiments" / "shared"
        place.mkdir(parents=True)
        (place / "sweep.yaml").write_text(SWEEP)
        (place / "tables.yaml").write_text(TABLES)
    _, alone = sweep(tmp_path / "one")
    said, shared = sweep(tmp_path / "two", "--processes", "2")
    assert said.startswith("4 cells: 4 to run\n4 cells: 4 done, in ")
    assert len(alone) == 4 and shared == alone
    logs = list((tmp_path / "two" / "results" / "shared" / "slurm").glob("*/logs/local_*.out"))
    assert len(logs) == 2 and all("2 cells: 2 done" in log.read_text() for log in logs)
    tables = [tmp_path / name / "results" / "shared" / "tables" / "pooled.csv" for name in ("one", "two")]
    assert tables[0].read_text() == tables[1].read_text()


def test_a_process_that_fails_is_named_and_its_cells_are_missing(tmp_path):
    place = tmp_path / "experiments" / "shared"
    place.mkdir(parents=True)
    (place / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "results" / "shared" / "slurm").mkdir(parents=True)
    broken = tmp_path / "bash"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "fedsim.cli", "sweep", "shared", "--processes", "2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "process 0: exit code 3; see results/shared/slurm/" in done.stderr
    assert done.stdout.count("missing: algorithm=") == 4
