"""What runs say that they cost, to the byte, and what it took to reach a target."""

from typing import Any

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.cli import main
from fedsim.config import Target
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.run.spending import to_target
from fedsim.store import ResultStore, run_id
from tests.run import hospitals

BASE: dict[str, Any] = hospitals.BASE | {
    "evaluate": {"every": 1, "target": {"metric": "auroc", "value": 0.8}},
    "system": {"name": "lognormal", "flops_per_second": 1e5},
}


def stored(root, **changes):
    experiment = config.experiment(BASE | changes)
    outcome = run_experiments([Cell(experiment, {})], root)
    (run,) = outcome.done
    store = ResultStore(root)
    pooled = [row for row in store.read(run, "rounds").to_pylist() if row["aggregate"] == "pooled"]
    return store, run, sorted(pooled, key=lambda row: row["round"])


@pytest.fixture(scope="module")
def synchronous(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def asynchronous(tmp_path_factory):
    world = {"name": "asynchronous", "concurrency": 3, "buffer": 2, "staleness": 1}
    return stored(tmp_path_factory.mktemp("store"), world=world, rounds=9)


def test_costs_add_up_round_by_round(synchronous):
    store, run, rows = synchronous
    manifest = store.manifest(run)
    size = manifest["bytes_per_client_round"]
    messages = [(i + 1) * 2 * 4 for i in range(4)]  # two folds of four hospitals
    assert [row["bytes_up"] for row in rows] == [n * size["up"] for n in messages]
    assert [row["bytes_down"] for row in rows] == [n * size["down"] for n in messages]
    seconds = np.array([row["simulated_seconds"] for row in rows])
    assert np.allclose(seconds, seconds[0] * np.arange(1, 5)) and seconds[0] > 0
    table = store.read(run, "timeline").to_pydict()
    ends: dict[tuple[int, int], float] = {}
    for rnd, fold, sent in zip(table["round"], table["replica"], table["sent"], strict=True):
        ends[rnd, fold] = max(ends.get((rnd, fold), 0.0), sent)
    assert max(ends[4, 0], ends[4, 1]) == pytest.approx(seconds[-1])  # folds side by side
    assert set(table["outcome"]) == {"used"} and len(table["sent"]) == 4 * 8
    last = {key: rows[-1][key] for key in ("bytes_down", "bytes_up", "simulated_seconds", "energy_joules")}
    assert manifest["spent"] == last | {"wasted": 0}


def test_the_target_is_the_first_round_that_reaches_it(synchronous):
    store, run, rows = synchronous
    found = store.manifest(run)["to_target"]
    first = next(row for row in rows if row["auroc"] >= 0.8)
    assert found["round"] == first["round"] and found["simulated_seconds"] == first["simulated_seconds"]
    assert found["bytes"] == first["bytes_up"] + first["bytes_down"]
    assert found["energy_joules"] == first["energy_joules"] and found["reason"] is None


def test_without_machines_there_are_bytes_alone(synchronous, tmp_path):
    _, _, with_machines = synchronous
    store, run, rows = stored(tmp_path, system="none", evaluate={"every": 1})
    manifest = store.manifest(run)
    assert "simulated_seconds" not in rows[0] and "timeline" not in manifest["rows"]
    assert manifest["to_target"] is None and set(manifest["spent"]) == {"bytes_down", "bytes_up", "wasted"}
    # Machines change no bit of what is learnt.
    assert [row["auroc"] for row in rows] == [row["auroc"] for row in with_machines]


def test_an_asynchronous_run_counts_what_it_threw_away(asynchronous):
    store, run, rows = asynchronous
    manifest = store.manifest(run)
    timeline = store.read(run, "timeline").to_pydict()
    discarded = timeline["outcome"].count("discarded")
    assert manifest["spent"]["wasted"] == discarded > 0
    assert rows[-1]["bytes_up"] == len(timeline["sent"]) * manifest["bytes_per_client_round"]["up"]
    assert len(timeline["sent"]) == 2 * 9 * 2 + discarded and rows[-1]["cohort"] == 2 * 2
    assert rows[-1]["simulated_seconds"] == pytest.approx(max(timeline["sent"]))


BYTES = ("bytes_up", "bytes_down")
ROWS = [
    {"round": r, "set": s, "aggregate": "pooled", "auroc": a, "log_loss": 1 - a} | dict.fromkeys(BYTES, r)
    for r, a in ((4, 0.9), (2, 0.7), (6, 0.8))
    for s in ("valid", "external", "test")
]


@pytest.mark.parametrize(
    ("metric", "value", "rnd"),
    [("auroc", 0.7, 2), ("auroc", 0.75, 4), ("log_loss", 0.2, 4), ("log_loss", 0.3000001, 2)],
)
def test_targets_are_reached_from_their_side(metric, value, rnd):
    found = to_target(Target(metric=metric, value=value), ROWS)
    assert found is not None
    assert (found["round"], found["bytes"], found["set"]) == (rnd, 2 * rnd, "test")
    assert found["simulated_seconds"] is None


def test_a_target_out_of_reach_says_what_was_reached():
    found = to_target(Target(metric="auroc", value=0.95), ROWS)
    assert found is not None and found["round"] is None and found["bytes"] is None
    assert found["reason"] == "the best is 0.9, of 3 judged rounds round 4"
    nothing = to_target(Target(metric="auroc", value=0.95), [ROWS[0] | {"auroc": None}])
    assert nothing is not None and nothing["reason"] == "auroc is undefined in all judged rounds"
    assert to_target(Target(), ROWS) is None


def test_a_target_must_be_whole_and_measured(tmp_path):
    with pytest.raises(RequestError, match=r"evaluate\.target needs both metric and value, or neither"):
        Target(metric="auroc")
    wrong = config.experiment(BASE | {"evaluate": {"target": {"metric": "auprc", "value": 0.5}}})
    with pytest.raises(RequestError, match=r"target\.metric=auprc is not measured every round here; .*auroc"):
        run_experiments([Cell(wrong, {})], tmp_path)


def test_what_a_trace_says_is_part_of_the_runs_id(tmp_path):
    path = tmp_path / "machines.csv"
    e = config.experiment(BASE | {"system": {"name": "trace", "path": str(path)}})
    with pytest.raises(RequestError, match=r"machines\.csv cannot be read .*give a CSV file"):
        run_id(e, "rows")
    ids = []
    for text in ("client,flops_per_second,up,down\n", "client,up,down,flops_per_second\n"):
        path.write_text(text)
        ids.append(run_id(e, "rows"))
    assert len(set(ids)) == 2


@pytest.mark.long
@pytest.mark.parametrize("name", ["synchronous", "asynchronous"])
def test_a_timeline_is_drawn(name, request, tmp_path, capsys):
    store, run, _ = request.getfixturevalue(name)
    assert main(["timeline", run, f"results={store.root}", "--to", str(tmp_path), "--rounds", "3"]) == 0
    files = capsys.readouterr().out.split()
    assert [f.rsplit(".")[-1] for f in files] == ["png", "svg", "pdf", "csv"]
    suffixes = ("png", "svg", "csv")
    png, svg, lines = ((tmp_path / f"{run}.{suffix}").read_bytes() for suffix in suffixes)
    assert png[:4] == b"\x89PNG" and b"Switzerland" in svg and b"server step" in svg
    assert (b"for nothing" in svg) == (b"discarded" in lines)
    assert {int(line.split(b",")[0]) for line in lines.splitlines()[1:]} == {1, 2, 3}
    # The newest run, and the same bytes.
    assert main(["timeline", f"results={store.root}", "--to", str(tmp_path / "again"), "--rounds", "3"]) == 0
    assert (tmp_path / "again" / f"{run}.png").read_bytes() == png
