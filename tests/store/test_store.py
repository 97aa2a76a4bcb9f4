"""A run is stored whole, once, and read back as it was."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from fedsim import config
from fedsim.base import FedsimError, RequestError
from fedsim.store import ResultStore, RunResult, arrays, files, source, versions
from tests.store.stored import EXPERIMENT, ID, MODEL, other, result, visible


def test_round_trip(tmp_path):
    kept = ResultStore(tmp_path / "new" / "store")
    assert kept.state(ID) == "missing"
    manifest = kept.write(ID, result())
    assert visible(kept.root) == [ID]
    files = ["clients", "predictions", "rounds", "tuning"]
    names = ["config.yaml", "manifest.json", "model.safetensors", *(f"{f}.parquet" for f in files)]
    assert visible(kept.root / ID) == sorted(names)
    assert kept.state(ID) == "done"

    assert kept.read(ID, "rounds").to_pydict() == {"round": [0, 1, 2], "loss": [1.0, None, math.inf]}
    assert kept.read(ID, "clients", ["auc", "name"]).to_pydict() == {
        "auc": [0.75, None],  # undefined, and never a number
        "name": ["Halland", "Örebro"],
    }
    assert kept.read(ID, "predictions")["score"].to_pylist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert kept.read(ID, "tuning").to_pylist()[0] == {"step_size": 0.1, "chosen": True}
    model = kept.model(ID)
    for name, value in MODEL.items():
        np.testing.assert_array_equal(model[name], value, strict=True)

    assert kept.experiment(ID) == EXPERIMENT
    text = (kept.root / ID / "config.yaml").read_text(encoding="utf-8")
    assert config.experiment(yaml.safe_load(text)) == EXPERIMENT
    assert "Örebro/no" in text

    assert manifest == kept.manifest(ID)
    assert manifest["source"] == source()
    assert manifest["versions"] == versions()
    assert manifest["model_sha256"] == arrays.sha256(MODEL)
    assert manifest["rows"] == {"rounds": 3, "clients": 2, "predictions": 4, "tuning": 2}
    assert manifest["privacy"] == {"epsilon": "inf"}
    assert (manifest["run"], manifest["status"], manifest["error"]) == (ID, "done", None)
    assert {"commit", "host", "written", "cell", "seconds", "device_kind"} <= manifest.keys()
    json.dumps(manifest, allow_nan=False)


def test_runs_stored_together_are_those_stored_alone(tmp_path):
    """To the byte, but for when."""
    many = {
        f"{i:03d}": result(
            "diverged" if i == 2 else "done",
            float(i),
            experiment=other(seed=i),
            cell={"seed": np.int64(i)},
            clients={"name": ["Halland"] * i, "auc": [0.5] * i} if i != 3 else None,
            predictions={"row": np.arange(10_000 if i % 2 else i)},
            manifest={"seconds": math.nan if i == 1 else 0.1, "curve": np.arange(i), "of": (1, Path("a"))},
        )
        for i in range(6)
    }
    together, alone = ResultStore(tmp_path / "together"), ResultStore(tmp_path / "alone")
    together.write("004", many["004"])
    fresh = together.fresh()
    together.write_all(many, fresh)
    fresh.save()
    for run, one in many.items():
        assert alone.write(run, one) == alone.manifest(run)
        for path in (alone.root / run).iterdir():
            if path.name != "manifest.json":
                assert path.read_bytes() == (together.root / run / path.name).read_bytes()
        wanted, found = alone.manifest(run), together.manifest(run)
        assert found | {"written": ""} == wanted | {"written": ""}
    assert alone.manifest("001")["seconds"] is None
    assert alone.manifest("002")["curve"] == [0, 1] and alone.manifest("002")["of"] == [1, "a"]
    assert visible(together.root) == [".kept", *many]


def test_yaml_is_what_yaml_makes_of_it():
    plain = {
        "name": "é: a",
        "a: b": {"nested": {"no": [1, 2.5, None, "1"]}, "empty": {}, "- x": 1e-05},
        "list": [{"name": "scale", "of": {"a": 1}}, [], "yes"],
        "rest": {
            "on": "line\nbreak",
            "long": "word " * 40,
            "#": " lead",
            "": True,
            "1": "null",
            "k" * 200: {"x": [0]},
        },
    }
    for _ in range(2):  # the second time of what was kept
        assert yaml.safe_load(files._yaml(plain)) == plain
    short = {name: plain[name] for name in ("name", "a: b", "list")}
    assert files._yaml(short) == yaml.safe_dump(short, sort_keys=False, allow_unicode=True)
    assert files._yaml({}) == ""


def test_options_may_be_numpy_scalars(tmp_path):
    scalars: dict = {"seed": np.int64(3), "algorithm": config.FedProx(mu=np.float64(0.5))}
    kept = ResultStore(tmp_path)
    kept.write(ID, result(experiment=other(**scalars)))
    assert kept.experiment(ID) == other(**scalars)


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_failed_or_diverged_run_is_a_row(tmp_path, status):
    kept = ResultStore(tmp_path)
    bare = RunResult(experiment=EXPERIMENT, status=status, error="client Halland failed in round 2")
    kept.write(ID, bare)
    assert kept.state(ID) == status
    assert kept.manifest(ID)["error"] == "client Halland failed in round 2"
    assert kept.manifest(ID)["model_sha256"] is None
    assert kept.ids() == [ID]
    with pytest.raises(RequestError, match="has no model"):
        kept.model(ID)
    with pytest.raises(RequestError, match="has no table 'rounds'"):
        kept.read(ID, "rounds")


def test_finished_is_left_alone_and_failed_or_stale_is_replaced(tmp_path):
    old, new = ResultStore(tmp_path, source="old"), ResultStore(tmp_path, source="new")
    loss = lambda: new.read(ID, "rounds")["loss"][0].as_py()  # noqa: E731

    old.write(ID, result("failed", 1))
    assert (old.state(ID), new.state(ID)) == ("failed", "failed")
    old.write(ID, result("done", 2))
    assert (old.state(ID), new.state(ID), loss()) == ("done", "stale", 2)
    before = os.stat(tmp_path / ID)
    for status in ("done", "diverged", "failed"):
        assert old.write(ID, result(status, 3))["status"] == "done"
    assert os.path.samestat(before, os.stat(tmp_path / ID))
    assert loss() == 2
    new.write(ID, result("diverged", 4))
    assert (old.state(ID), new.state(ID), loss()) == ("stale", "diverged", 4)
    new.write(ID, result("done", 5))
    assert (new.state(ID), loss()) == ("diverged", 4)
    assert visible(tmp_path) == [ID]


def test_states_of_many(tmp_path):
    kept = ResultStore(tmp_path, source="new")
    ResultStore(tmp_path, source="old").write("a", result())
    kept.write("b", result())
    kept.write("c", result("failed"))
    kept.write("d", result("diverged"))
    (tmp_path / "e").mkdir()
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "manifest.json").write_text('{"status": "do')
    (tmp_path / "g").write_text("a file")
    (tmp_path / ".claims").mkdir()
    wanted = {"a": "stale", "b": "done", "c": "failed", "d": "diverged"}
    wanted |= dict.fromkeys("efgh", "missing")
    assert kept.states(wanted) == wanted
    assert {i: kept.state(i) for i in wanted} == wanted
    assert kept.ids() == ["a", "b", "c", "d"]
    assert ResultStore(tmp_path / "nowhere").states(["a"]) == {"a": "missing"}
    for torn in "ef":
        kept.write(torn, result())
        assert kept.state(torn) == "done"


def test_wrong_requests_say_what_there_is(tmp_path):
    kept = ResultStore(tmp_path)
    with pytest.raises(RequestError, match=f"no run {ID} in "):
        kept.manifest(ID)
    kept.write(ID, result())
    with pytest.raises(RequestError, match="did you mean 'clients'"):
        kept.read(ID, "client")
    with pytest.raises(RequestError, match=r"no column 'auk'.* did you mean 'auc'"):
        kept.read(ID, "clients", ["auk"])
    with pytest.raises(RequestError, match="no column 'auk'"):
        kept.read_all([ID], "clients", ["auk"])
    with pytest.raises(RequestError, match="did you mean 'clients'"):
        kept.read_all([ID], "client")
    for bad in ("../x", ".tmp", "", "a/b"):
        with pytest.raises(RequestError, match="a run id is"):
            kept.write(bad, result())
    with pytest.raises(ValueError, match="status must be"):
        result("finished")


def test_damaged_files_are_named(tmp_path):
    kept = ResultStore(tmp_path)
    kept.write(ID, result())
    path = tmp_path / ID / "rounds.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FedsimError, match=r"rounds\.parquet is damaged"):
        kept.read(ID, "rounds")
    path = tmp_path / ID / "model.safetensors"
    data = path.read_bytes()
    for harmed in (data[:-2], data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(harmed)
        with pytest.raises(FedsimError, match=r"model\.safetensors is damaged"):
            kept.model(ID)


# --- many runs -------------------------------------------------------------------------------


def test_tables_are_ordinary_parquet(tmp_path):
    ResultStore(tmp_path).write(ID, result())
    assert pq.read_table(tmp_path / ID / "clients.parquet").column_names == ["name", "auc", "undefined"]
