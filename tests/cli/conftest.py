"""The command line without the engine: `fedsim.run` is replaced by one that stores made-up runs."""

import copy
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fedsim import base, data
from fedsim.cli import compose as composing
from fedsim.cli import main
from fedsim.store import ResultStore, RunResult, run_id

METRICS = {
    "pooled": {"auroc": 0.88, "n": 920},
    "clients": {"Cleveland": {"auroc": 0.9, "n": 303}, "Switzerland": {"auroc": None, "n": 123}},
    "external": {"Karolinska": {"auroc": 0.8, "n": 50}},
}
TIMELINE = {
    "round": [1, 1], "replica": [0, 0], "client": ["Lund", "Umeå"], "begin": [0.0, 0.0],
    "received": [1.0, 2.0], "trained": [3.0, 5.0], "sent": [4.0, 7.0], "outcome": ["used", "used"],
}  # fmt: skip
ROUNDS = {"round": [3], "replica": [0], "set": ["test"], "aggregate": ["pooled"], "n": [920], "auroc": [0.88]}


class Engine(ModuleType):
    """What `run_experiments` was asked for; `ends` decides how a cell ends, by its seed."""

    def __init__(self):
        super().__init__("fedsim.run")
        self.asked = []
        self.ends = lambda seed: "done"
        self.raises = None

    def run_experiments(self, cells, root, *, rerun_stale=True, progress=None, modules=(), **others):
        self.asked.append(SimpleNamespace(cells=cells, root=root, rerun_stale=rerun_stale, modules=modules))
        if self.raises:
            raise self.raises
        store = ResultStore(root)
        outcome = SimpleNamespace(done=[], skipped=[], failed=[], diverged=[], errors={}, seconds=1.0)
        for cell in cells:
            run = run_id(cell.experiment, data.load(cell.experiment.data).fingerprint)
            status: Any = self.ends(cell.experiment.seed)
            error = None if status == "done" else f"{status} at round 3"
            manifest = {"rounds": cell.experiment.rounds, "metrics": METRICS, "seconds": 2.0}
            store.write(
                run,
                RunResult(
                    experiment=cell.experiment,
                    status=status,
                    cell=cell.labels,
                    error=error,
                    rounds=ROUNDS if status == "done" else None,
                    timeline=TIMELINE if cell.experiment.system.name != "none" else None,
                    manifest=manifest | {"seconds_per_round": 0.1},
                ),
            )
            getattr(outcome, status).append(run)
            if error:
                outcome.errors[run] = error
        return outcome


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """Hydra takes 0.1 s for each composition; the tests ask for the same few again and again."""
    real = composing.compose
    seen = {}

    def compose(picks, more=()):
        # Two tests may register one name for two classes.
        pairs = (pick.partition("=") for pick in (*picks, *more))
        groups = [base.GROUPS.get(group, {}).get(member) for group, _, member in pairs]
        key = (tuple(picks), tuple(more), *groups)
        if key not in seen:
            seen[key] = real(picks, more)
        return copy.deepcopy(seen[key])

    composing.compose = compose
    yield
    composing.compose = real


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(here):
    """experiments/tiny: four cells."""
    folder = here / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(
        "name: tiny\n"
        "grid: {algorithm: [local, fedavg], seed: 'range(0,3)'}\n"
        "exclude: [{match: {algorithm: local, seed: [1, 2]}, reason: one is enough}]\n"
        "reduced: {grid: {seed: [0]}}\n"
    )
    return folder


@pytest.fixture
def engine(here, monkeypatch):
    made = Engine()
    monkeypatch.setitem(sys.modules, "fedsim.run", made)
    return made


@pytest.fixture
def groups():
    """What a test registers is forgotten afterwards."""
    before = {group: dict(known) for group, known in base.GROUPS.items()}
    yield base.GROUPS
    for group, known in base.GROUPS.items():
        known.clear()
        known.update(before.get(group, {}))


@pytest.fixture
def fedsim(capsys):
    """Run a command line; its exit code, standard output and standard error."""

    def call(line):
        capsys.readouterr()
        code = main(line.split())
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    return call
