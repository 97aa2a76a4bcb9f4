"""A Hydra user's own app, with `hydra/launcher=fedsim`."""

import os
import subprocess
import sys

import pytest

from fedsim.store import ResultStore

APP = """
import hydra
from fedsim import resources
from fedsim.store import ResultStore

@hydra.main(version_base="1.3", config_path=str(resources.folder("configs")), config_name="config")
def main(cfg):
    print("job", cfg.algorithm.name, cfg.seed, len(ResultStore(cfg.results).ids()))

main()
"""


@pytest.fixture
def app(tmp_path, root):
    (tmp_path / "app.py").write_text(APP)

    def run(*arguments):
        command = [sys.executable, "app.py", "-m", "hydra/launcher=fedsim", "results=store", *arguments]
        env = os.environ | {"PYTHONPATH": str(root)}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)

    return run


@pytest.mark.long
def test_a_multirun_is_one_sweep_and_then_the_app_sees_every_job(app, tmp_path):
    """All jobs are stored, side by side, before the app's function is called for the first."""
    done = app("algorithm=fedavg,local", "seed=range(0,2)", "rounds=2")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("job")]
    assert said == ["job fedavg 0 4", "job fedavg 1 4", "job local 0 4", "job local 1 4"]
    store = ResultStore(tmp_path / "store")
    found = store.runs().select(["state", "algorithm", "seed", "cell.algorithm", "cell.seed"]).to_pylist()
    assert {row["state"] for row in found} == {"done"}
    assert store.manifest(store.ids()[0])["cell"].keys() == {"algorithm", "seed"}
    assert {(row["cell.algorithm"], row["cell.seed"]) for row in found} == {
        (row["algorithm"], row["seed"]) for row in found
    }
    written = {run: store.manifest(run)["written"] for run in store.ids()}
    assert app("algorithm=fedavg,local", "seed=range(0,2)", "rounds=2").returncode == 0
    assert {run: store.manifest(run)["written"] for run in store.ids()} == written


@pytest.mark.long
def test_what_is_no_experiment_is_refused_in_one_sentence_before_anything_runs(app, tmp_path):
    done = app("rounds=2,0")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("fedsim: error: hydra/launcher=fedsim: rounds=0")
    assert "Traceback" not in done.stderr and "job" not in done.stdout
    assert not (tmp_path / "store").exists()
    done = app("hydra.launcher.key=task", "seed=0,1")
    assert done.returncode == 2 and "seed=0" in done.stderr
