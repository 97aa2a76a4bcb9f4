import json
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from fedsim import plan
from fedsim.cli.compose import compose, parse
from fedsim.store import Claims, ResultStore

TABLES = """
tables:
  - name: pooled
    title: AUROC
    rows: [algorithm]
    metrics: [auroc]
"""


def test_a_sweep_runs_what_is_missing_and_then_nothing(fedsim, engine, tiny):
    said = fedsim("sweep tiny")
    assert (said.code, said.out) == (0, "4 cells: 4 to run\n4 cells: 4 done, in 1 s\n")
    said = fedsim("sweep tiny")
    assert (said.code, said.out) == (0, "4 cells: 4 done, nothing to do\n")
    assert fedsim("sweep tiny algorithm=fedavg seed=1,7").out.startswith("2 cells: 1 done, 1 to run\n")
    assert [len(asked.cells) for asked in engine.asked] == [4, 1]
    assert engine.asked[1].cells[0].labels == {"algorithm": "fedavg", "seed": 7}


def test_the_second_run_starts_no_jax_and_not_the_engine(fedsim, engine, tiny, root):
    assert fedsim("sweep tiny").code == 0
    code = (
        "import sys; from fedsim.cli import main\n"
        "sys.modules.update(dict.fromkeys(['jax', 'jaxlib', 'flax', 'optax', 'ray', 'fedsim.run']))\n"
        "assert main(['sweep', 'tiny']) == 0 and main(['status', 'tiny']) == 0\n"
        "assert main(['sweep', 'heart_disease', '--dry-run']) == 0"
    )
    env = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 cells: 4 done, nothing to do\ntiny: 4 cells: 4 done\n")


def test_failed_and_diverged_cells_are_named(fedsim, engine, tiny):
    engine.ends = {0: "done", 1: "failed", 2: "diverged"}.__getitem__
    said = fedsim("sweep tiny")
    assert said.code == 1
    assert "failed: algorithm=fedavg, seed=1" in said.out and "failed at round 3" in said.out
    assert "diverged: algorithm=fedavg, seed=2" in said.out
    # What failed is tried again; what diverged would diverge again, and stays a failure.
    engine.ends = lambda seed: "done"
    said = fedsim("sweep tiny")
    assert said.code == 1 and len(engine.asked[1].cells) == 1
    assert "diverged: algorithm=fedavg, seed=2" in said.out and "failed:" not in said.out


def test_a_cell_that_is_still_missing_is_not_success(fedsim, engine, tiny, monkeypatch):
    from types import SimpleNamespace

    nothing = SimpleNamespace(done=[], skipped=[], diverged=[], failed=[], errors={}, seconds=0.0)
    monkeypatch.setattr(engine, "run_experiments", lambda *a, **k: nothing)
    said = fedsim("sweep tiny")
    assert said.code == 1 and "missing: algorithm=local, seed=0" in said.out


def test_stale_runs_are_done_again_or_kept(fedsim, engine, tiny, monkeypatch):
    assert fedsim("sweep tiny").code == 0
    monkeypatch.setattr("fedsim.store.identity.source", lambda: "another")
    assert fedsim("status tiny").code == 3
    said = fedsim("sweep tiny stale=keep")
    assert (said.code, said.out) == (0, "4 cells: 4 stale, nothing to do\n")
    assert fedsim("status tiny stale=keep").code == 0
    assert fedsim("sweep tiny").code == 0
    assert len(engine.asked[1].cells) == 4 and engine.asked[1].rerun_stale


def test_a_dry_run_runs_nothing(fedsim, engine, tiny, here):
    said = fedsim("sweep tiny --dry-run")
    assert said.code == 0 and engine.asked == [] and not (here / "results").exists()
    assert said.out.splitlines() == [
        "4 cells: 4 to run",
        "  algorithm: local, fedavg",
        "  seed: 0, 1, 2",
        "  2 cells excluded: one is enough",
    ]
    assert fedsim("sweep tiny --dry-run --reduced").out.startswith("2 cells: 2 to run\n")


def test_status_counts_every_state(fedsim, engine, tiny, here):
    assert fedsim("sweep tiny seed=0").code == 0
    engine.ends = lambda seed: "failed"
    assert fedsim("sweep tiny algorithm=fedavg seed=1").code == 1
    said = fedsim("status tiny --json")
    found = json.loads(said.out)
    assert said.code == 3 and found["total"] == 4
    assert found["counts"] == {
        "done": 2, "diverged": 0, "running": 0, "queued": 0, "failed": 1, "stale": 0, "missing": 1
    }  # fmt: skip
    assert found["seconds_left"] == 4.0  # two more cells, as long as the two that are done
    missing = next(cell for cell in found["cells"] if cell["state"] == "missing")
    assert missing["labels"] == {"algorithm": "fedavg", "seed": 2}
    failed = next(cell for cell in found["cells"] if cell["state"] == "failed")
    assert failed["error"].endswith("failed at round 3")
    with Claims("results/store").take([missing["run"]]):
        said = fedsim("status tiny")
    assert "tiny: 4 cells: 2 done, 1 running, 1 failed, about 4 s left" in said.out
    assert f"running  {missing['run']}  fedavg" in said.out
    assert re.search(rf"failed +{failed['run']} .* failed at round 3\n", said.out)
    engine.ends = lambda seed: "done"
    assert fedsim("sweep tiny").code == 0
    said = fedsim("status tiny --quiet")
    assert (said.code, said.out) == (0, "tiny: 4 cells: 4 done\n")


def test_status_says_where_a_cell_runs_and_how_fast(fedsim, engine, tiny):
    one, two = list(json.loads(fedsim("status tiny --json").out)["cells"])[:2]
    with Claims("results/store").take([one["run"], two["run"]]) as hold:
        hold.begin([one["run"]], total=40)
        hold.advance(10)
        time.sleep(0.01)
        hold.advance(10)
        hold._holder.beat()
        found = json.loads(fedsim("status tiny --json").out)["cells"]
        shown = fedsim("status tiny").out
    begun, waiting = found[:2]
    assert (begun["state"], waiting["state"]) == ("running", "running")
    assert begun["where"] == waiting["where"] == os.uname().nodename
    assert (begun["rounds_done"], begun["rounds"]) == (20, 40)
    assert 0 < begun["rounds_per_second"] < 10 / 0.01
    assert begun["seconds_left"] == pytest.approx(20 / begun["rounds_per_second"], abs=0.06)
    assert waiting["rounds"] is None
    assert re.search(r"state +run +algorithm +seed +where +for +rounds +rounds/s +left\n", shown)
    assert re.search(rf"running +{one['run']} .* 20 of 40 ", shown)


def test_status_watches_until_all_is_done(fedsim, engine, tiny, monkeypatch):
    looks: list[float] = []

    def meanwhile(seconds):
        looks.append(seconds)
        assert len(looks) < 10
        if len(looks) == 2:
            assert fedsim("sweep tiny").code == 0

    monkeypatch.setattr("fedsim.cli.status.time.sleep", meanwhile)
    said = fedsim("status tiny --watch --quiet")
    assert said.code == 0 and len(looks) == 2
    assert said.out == "tiny: 4 cells: 4 done\n"
    assert "choose one" in fedsim("status tiny --watch --json").err


def test_a_sweep_writes_and_shows_its_tables(fedsim, engine, tiny, here, monkeypatch):
    from fedsim import report

    calls = []

    def write(name, store_root, spec_path, out_dir, runs, stale, without_runs, axes, again):
        without_runs.append("table other: no run fits")
        calls.append((name, str(store_root), spec_path.name, str(out_dir), list(runs.values()), stale))
        path = out_dir / "tables" / "pooled.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("| a table |\n")
        return [path]

    monkeypatch.setattr(report, "write", write)
    (tiny / "tables.yaml").write_text(TABLES)
    said = fedsim("sweep tiny --reduced")
    labels = [{"algorithm": a, "seed": 0} for a in ("local", "fedavg")]
    assert said.code == 0 and "| a table |" in said.out
    assert "\nleft out: table other: no run fits\n" in said.out
    assert calls == [("tiny", "results/store", "tables.yaml", "results/tiny/reduced", labels, "refuse")]
    assert fedsim("sweep tiny --reduced").out == "2 cells: 2 done, nothing to do\n"
    assert len(calls) == 1
    assert "| a table |" not in fedsim("sweep tiny --quiet").out
    assert calls[1][3] == "results/tiny"


def test_tables_need_no_engine_and_check_for_drift(fedsim, engine, tiny, here):
    assert "has no tables.yaml" in fedsim("tables tiny").err
    (tiny / "tables.yaml").write_text(TABLES)
    assert fedsim("tables tiny").code == 2  # nothing stored
    assert fedsim("sweep tiny --reduced --quiet").code == 0
    said = fedsim("tables tiny --reduced")
    assert said.code == 0 and "AUROC" in said.out
    assert (here / "results" / "tables" / "tiny" / "pooled.csv").is_file()
    assert fedsim("tables tiny --reduced --check").code == 0

    committed = here / "results" / "tables" / "tiny" / "pooled.csv"
    assert "0.88" in committed.read_text()
    committed.write_text(committed.read_text().replace("0.88", "0.99"))
    said = fedsim("tables tiny --reduced --check")
    assert said.code == 1 and "pooled:" in said.out

    said = fedsim("tables tiny")
    assert said.code == 3 and "2 of 4 cells are not done; run: fedsim sweep tiny\n" in said.err


@pytest.mark.parametrize(
    ("added", "words"),
    [
        ("where: {algorithm: fedvag}", "where: the sweep has no algorithm=fedvag; choose one of"),
        ("where: {algorithm: [fedavg, locale]}", "where: the sweep has no algorithm=locale; choose one of"),
        ("where: {seed: 7}", "where: the sweep has no seed=7; choose one of 0, 1, 2\n"),
        ("reference: {algorithm: lokal}", "reference: the sweep has no algorithm=lokal; choose one of"),
        ("where: {set: tets}", "where: there is no set=tets; choose one of"),
        ("where: {aggregate: means}", "where: there is no aggregate=means; choose one of"),
    ],
)
def test_a_value_that_no_cell_can_have_is_named(fedsim, engine, tiny, here, added, words):
    (tiny / "tables.yaml").write_text(TABLES + f"    {added}\n")
    for line in (
        "sweep tiny",
        "sweep tiny --reduced --quiet",
        "submit tiny --dry-run",
        "tables tiny",
        "tables tiny --reduced --check",
        "report tiny",
        "tables tiny algorithm=local",
    ):
        (here / "results/tables/tiny").mkdir(parents=True, exist_ok=True)
        said = fedsim(line)
        assert said.code == 2 and f"tiny: table pooled: {words}" in said.err, line
    assert "did you mean" in said.err or "seed" in added
    assert not engine.asked  # nothing has run


def test_a_value_whose_cells_are_left_out_or_not_run_yet_has_no_table_yet(fedsim, engine, tiny, here):
    one = "  - {name: NAME, title: T, rows: [algorithm], metrics: [auroc], where: WHERE}\n"
    asked = {"other": "{algorithm: fedavg, seed: 2}", "seeds": "{seed: [0, 5]}", "option": "{rounds: 999}"}
    tables = [one.replace("NAME", name).replace("WHERE", where) for name, where in asked.items()]
    (tiny / "tables.yaml").write_text(TABLES + "".join(tables))
    assert fedsim("sweep tiny algorithm=local seed=0,5 --quiet").code == 0  # 5 by the command line
    said = fedsim("tables tiny algorithm=local seed=0,5")
    # Declared and left out; no choice of the sweep, so that its values are not known.
    assert said.code == 0 and [line for line in said.out.splitlines() if line.startswith("left out")] == [
        "left out: table other: no run fits where {'algorithm': 'fedavg', 'seed': 2}; loosen it, or run the "
        "sweep first",
        "left out: table option: no run fits where {'rounds': 999}; loosen it, or run the sweep first",
    ]
    assert "the sweep has no seed=5; choose one of 0, 1, 2" in fedsim("tables tiny").err


def test_a_misspelt_baseline_is_named(fedsim, engine, tiny, here):
    figure = "figures: [{name: gain, kind: gain, baseline: locall}]\n"
    (tiny / "tables.yaml").write_text(TABLES + figure)
    said = fedsim("sweep tiny --reduced --quiet")
    assert said.code == 2
    assert "figure gain: baseline: the sweep has no algorithm=locall; choose one of fedavg, local" in said.err


def test_the_store_holds_labels(fedsim, engine, tiny):
    assert fedsim("sweep tiny seed=0").code == 0
    store = ResultStore("results/store")
    cells = [store.manifest(run)["cell"] for run in store.ids()]
    assert sorted(cell["algorithm"] for cell in cells) == ["fedavg", "local"]


def test_processes_that_share_the_cells_are_one_at_least_and_inline(fedsim, engine, tiny, here):
    said = fedsim("sweep tiny --processes 0")
    assert said.code == 2 and said.err == "fedsim: error: --processes must be >= 1, got 0\n"
    said = fedsim("sweep tiny --processes 2 executor=ray")
    assert said.code == 2 and "executor=ray shares each cell's clients between executor.workers" in said.err
    assert not engine.asked and not (here / "results" / "tiny" / "slurm").exists()


def test_what_processes_have_finished_is_asked_for_once(fedsim, engine, tiny, monkeypatch):
    asked: list[int] = []
    shown: list[float] = []
    real = ResultStore.states

    def states(store, ids):
        asked.append(len(list(ids)))
        return real(store, ids)

    def run_here(script, tasks, workers, retries, stopped, look):
        cells = plan.cells(plan.read("tiny"), compose, parse)
        for some in (cells[:1], cells[1:3], cells[3:]):
            look()
            engine.run_experiments(some, "results/store")
            yield 0, 0, ""
        look()

    bar = SimpleNamespace(start=print, advance=shown.append, note=print, close=print)
    monkeypatch.setitem(sys.modules, "fedsim.run.progress", SimpleNamespace(Silent=None))
    monkeypatch.setattr("fedsim.cli.tasks._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("fedsim.slurm.run_here", run_here)
    monkeypatch.setattr("fedsim.cli.progress.watch", lambda quiet: bar)
    monkeypatch.setattr(ResultStore, "states", states)
    assert fedsim("sweep tiny --processes 2").code == 0
    assert shown == [0, 1, 2, 1]
    assert asked == [4, 4, 4, 3, 1, 4]  # at first, at every look, and at the end


def test_why_a_process_failed_is_said_quiet_or_not(fedsim, tiny, here, monkeypatch):
    def run_here(script, *rest):
        yield 0, 0, "2 cells: 2 done"
        yield 1, 2, "fedsim: error: algorithm=local: aggregator=median takes the place of a mean"

    monkeypatch.setattr("fedsim.slurm.run_here", run_here)
    for line in ("sweep tiny --processes 2", "sweep tiny --processes 2 --quiet"):
        said = fedsim(line)
        assert said.code == 1 and "process 1: exit code 2: algorithm=local: aggregator=" in said.err
        assert said.err.count("process") == 1 and "/logs\n" in said.err


def test_a_single_cell_needs_no_second_process(fedsim, engine, tiny, here):
    assert fedsim("sweep tiny --processes 2 seed=0 algorithm=local").code == 0
    assert len(engine.asked) == 1 and not (here / "results" / "tiny" / "slurm").exists()
