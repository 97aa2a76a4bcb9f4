"""Many runs at once: their rows, options and states."""

import errno
import json
import math
import shutil
import sys

import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.store import TABLES, ResultStore, RunResult
from fedsim.store import kept as together
from fedsim.store.files import SCHEMA
from tests.store.stored import other, result


@pytest.fixture
def four(tmp_path):
    """Runs a (fedprox) and b (fedavg, with a column of its own) done, c failed, d stale; odd path."""
    root = tmp_path / "it's [odd]*"
    kept = ResultStore(root)
    kept.write("a", result())
    fedavg = other(algorithm=config.FedAvg(), seed=8)
    kept.write(
        "b",
        result(
            experiment=fedavg,
            cell={"method": "fedavg"},
            clients={"name": ["Kronoberg"], "auc": [None], "brier": [0.25]},
            manifest={"privacy": {"epsilon": 2.0}},
        ),
    )
    kept.write("c", RunResult(experiment=other(seed=9), status="failed", error="lost"))
    ResultStore(root, source="old").write("d", RunResult(experiment=other(seed=10), status="done"))
    return kept


def test_read_all(four):
    assert four.read_all(["b", "c", "a"], "clients").to_pylist() == [
        {"run": "b", "name": "Kronoberg", "auc": None, "brier": 0.25, "undefined": None},
        {"run": "a", "name": "Halland", "auc": 0.75, "brier": None, "undefined": 0},
        {"run": "a", "name": "Örebro", "auc": None, "brier": None, "undefined": 1},
    ]
    some = four.read_all((i for i in "ab"), "clients", ["brier"])
    assert some.to_pydict() == {"run": ["a", "a", "b"], "brier": [None, None, 0.25]}
    assert four.read_all(["c"], "clients").to_pydict() == {"run": []}


def test_query(four):
    rows = four.query(
        'select run, state, algorithm, "algorithm.mu" as mu, "privacy.epsilon" as epsilon, privacy, seed,'
        ' "cell.method" as method, error from runs order by run'
    ).to_pylist()
    assert rows[0] == {
        "run": "a",
        "state": "done",
        "algorithm": "fedprox",
        "mu": 1e-5,
        "epsilon": math.inf,
        "privacy": "none",
        "seed": 7,
        "method": "fedprox",
        "error": None,
    }
    assert [r["state"] for r in rows] == ["done", "done", "failed", "stale"]
    assert (rows[1]["algorithm"], rows[1]["mu"], rows[1]["epsilon"]) == ("fedavg", None, 2.0)
    assert rows[2]["error"] == "lost"

    joined = four.query(
        "SELECT algorithm, count(*) AS n, avg(auc) AS auc FROM Clients JOIN runs USING (run)"
        " GROUP BY ALL ORDER BY ALL"
    )
    assert joined.to_pylist() == [
        {"algorithm": "fedavg", "n": 1, "auc": None},
        {"algorithm": "fedprox", "n": 2, "auc": 0.75},
    ]
    assert four.query("select distinct run from predictions order by run")["run"].to_pylist() == ["a", "b"]
    assert four.query("select count(*) as n from rounds").to_pylist() == [{"n": 6}]


def test_query_of_an_empty_store_and_refusals(four, tmp_path, monkeypatch):
    empty = ResultStore(tmp_path / "nothing")
    for name in ("runs", *TABLES):
        assert empty.query(f"select run from {name}").num_rows == 0
    with pytest.raises(RequestError, match="query refused"):
        four.query("select nothing from runs")
    with pytest.raises(RequestError, match="must return rows"):
        four.query("-- nothing")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(RequestError, match="need DuckDB"):
        four.query("select 1")


def test_values_without_a_common_type_become_text(tmp_path):
    kept = ResultStore(tmp_path)
    for name, value in {"a": 1, "b": "one", "c": None, "d": [1, 2]}.items():
        kept.write(name, result(cell={"label": value}))
    assert kept.runs()["cell.label"].to_pylist() == ["1", "one", None, "[1, 2]"]


# --- what goes wrong while writing -----------------------------------------------------------


# --- states of many ------------------------------------------------------------------------------


@pytest.fixture
def hundred(tmp_path):
    kept = ResultStore(tmp_path, source="new")
    for i in range(100):
        bare = {"rounds": None, "clients": None, "predictions": None, "tuning": None, "model": None}
        kept.write(f"{i:03d}", result(**bare, manifest={"seconds": float(i)}))
    return kept


def test_summaries_are_kept_together_and_give_what_the_folders_hold(hundred, monkeypatch):
    runs = [f"{i:03d}" for i in range(102)]
    first = hundred.summaries(runs)
    assert list(first) == runs[:100]
    assert first["007"] == {"state": "done", "error": None, "seconds": 7.0}
    read = []
    fresh = ResultStore(hundred.root, source="new")
    monkeypatch.setattr(fresh, "_manifest", lambda run: read.append(run))
    assert fresh.summaries(runs) == first
    assert read == []  # no manifest was opened


def test_summaries_are_never_trusted_over_the_folders(hundred, monkeypatch):
    runs = [f"{i:03d}" for i in range(101)]
    assert set(hundred.states(runs[:100]).values()) == {"done"}
    newer = ResultStore(hundred.root, source="newer")
    assert set(newer.states(runs[:100]).values()) == {"stale"}
    newer.write("003", result("failed", error="one\ntwo"))
    shutil.rmtree(hundred.root / "004")
    newer.write("100", result())
    states = newer.states(runs)
    assert (states["003"], states["004"], states["100"], states["005"]) == (
        "failed",
        "missing",
        "done",
        "stale",
    )
    # Copied elsewhere, or spoilt, it is read anew.
    [segment] = (hundred.root / ".kept").iterdir()
    for content in (b"{", segment.read_bytes()[:-300], segment.read_bytes().replace(b"done", b'"one')):
        segment.write_bytes(content)
        assert ResultStore(hundred.root, source="newer").states(runs) == states
    # A folder that may not be written is read all the same.
    shutil.rmtree(hundred.root / ".kept")
    monkeypatch.setattr(
        "pathlib.Path.mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EROFS, "no"))
    )
    assert ResultStore(hundred.root, source="newer").states(runs) == states
    assert not (hundred.root / ".kept").exists()


# --- folders that are none of ours ---------------------------------------------------------------


def change_manifest(root, run, **changes):
    path = root / run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_schema_is_refused_and_an_older_one_read(tmp_path):
    kept = ResultStore(tmp_path)
    for run in ("a", "b"):
        kept.write(run, result())
    path = tmp_path / "a" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest.pop("schema") == 2
    path.write_text(json.dumps(manifest))  # as the first versions wrote it
    assert kept.state("a") == "done" and kept.read("a", "rounds").num_rows == 3
    change_manifest(tmp_path, "b", schema=3)
    for asked in (lambda: kept.state("b"), lambda: kept.ids(), lambda: kept.read("b", "rounds")):
        with pytest.raises(RequestError, match=r"run b .*newer fedsim \(schema 3, .* up to 2\); update"):
            asked()
    with pytest.raises(RequestError, match="newer fedsim"):
        kept.write("b", result("failed"))  # which must not replace it
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["schema"] == 3


@pytest.mark.parametrize("schema", [0, -1, "2", True, None, 1.5])
def test_a_schema_that_never_was_is_refused(tmp_path, schema):
    kept = ResultStore(tmp_path)
    kept.write("a", result())
    change_manifest(tmp_path, "a", schema=schema)
    words = rf"run a .* has schema {schema!r}, which no fedsim has written \(this one reads 1 to 2\); move "
    for asked in (lambda: kept.states(["a"]), lambda: kept.about(["a"]), lambda: kept.write("a", result())):
        with pytest.raises(RequestError, match=words):
            asked()


def test_what_a_newer_fedsim_kept_together_is_not_believed(hundred, monkeypatch):
    """Else its runs, which are refused one by one, would be read as done where many are asked for."""
    runs = hundred.ids()
    assert set(hundred.states(runs).values()) == {"done"}
    with monkeypatch.context() as newer:
        of_newer = [3 if number == SCHEMA else number for number in together._VERSION]
        newer.setattr(together, "_VERSION", of_newer)
        newer.setattr("fedsim.store.store.SCHEMA", 3)
        shutil.rmtree(hundred.root / ".kept", ignore_errors=True)
        change_manifest(hundred.root, runs[7], schema=3)
        assert set(hundred.states(runs).values()) == {"done"} and list((hundred.root / ".kept").iterdir())
    with pytest.raises(RequestError, match=f"run {runs[7]} .*newer fedsim"):
        hundred.states(runs)


def test_folders_of_others_are_not_read_as_runs(tmp_path):
    kept = ResultStore(tmp_path)
    kept.write("a", result())
    shutil.copytree(tmp_path / "a", tmp_path / "copy")  # a run under another's name
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "manifest.json").write_text('{"name": "an app", "status": "done"}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "manifest.json").write_text("[]")
    assert kept.ids() == ["a"]
    assert kept.states(["a", "copy", "notes", "list"]) == {"a": "done"} | dict.fromkeys(
        ("copy", "notes", "list"), "missing"
    )
    assert kept.query("SELECT count(*) AS n FROM runs").to_pylist() == [{"n": 1}]
