"""Ids change with everything that fixes a run, and with nothing else."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim import config
from fedsim.base import build, digest, to_dict
from fedsim.store import RunIds, commit, host, identity, run_id, source, versions
from fedsim.store.identity import plain
from tests.members import MEMBERS, beside, needed

BASE = {
    "data": "heart_disease",
    "split": "natural",
    "task": "logistic",
    "algorithm": "fedavg",
    "optimizer": {},
    "channel": "direct",
    "privacy": "none",
    "world": "all",
    "numerics": {},
    "executor": "inline",
    "rounds": 10,
    "seed": 0,
}


def with_member(group: str, name: str) -> config.Experiment:
    return config.experiment(BASE | beside(group, name) | {group: {"name": name} | needed(group, name)})


def changed(value):
    """Another value of the same kind."""
    match value:
        case None:
            return 1
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value + 0.125
        case str():
            return value + "x"
        case tuple():
            return (*value, {"name": "x"})
        case dict():
            return {**value, "k": [1]}


def variants(cfg, path=""):
    """(path, copy of `cfg` with the option at that path changed), for every option."""
    for f in dataclasses.fields(cfg):
        value, where = getattr(cfg, f.name), f"{path}.{f.name}".lstrip(".")
        inner = variants(value, where) if dataclasses.is_dataclass(value) else [(where, changed(value))]
        for at, other in inner:
            copy = object.__new__(type(cfg))
            for g in dataclasses.fields(cfg):
                object.__setattr__(copy, g.name, other if g.name == f.name else getattr(cfg, g.name))
            yield at, copy


@pytest.fixture
def read(tmp_path, monkeypatch):
    """What a world or a system reads must be there."""
    monkeypatch.chdir(tmp_path)
    for path in ("file", "filex"):
        (tmp_path / path).touch()


@pytest.mark.parametrize(("group", "name"), MEMBERS, ids=lambda v: v)
def test_every_option_changes_the_id_but_where_work_and_rows_go(group, name, read):
    experiment = with_member(group, name)
    first = run_id(experiment, "rows")
    paths = []
    for path, other in variants(experiment):
        paths.append(path)
        place = path in ("results", "sinks") or path.startswith("executor.")
        assert (run_id(other, "rows") == first) == place, path
    assert {"seed", "results", "numerics.threads", "tune.grid", "optimizer.step_size"} <= set(paths)


def test_every_member_and_fingerprint_has_its_own_id(read):
    alike = {("split", "natural"), ("data", "heart_disease"), ("task", "logistic"), ("algorithm", "fedavg")}
    alike |= {("channel", "direct"), ("privacy", "none"), ("world", "all")}
    alike |= {("aggregator", "mean"), ("attack", "none"), ("system", "none"), ("topology", "star")}
    alike |= {("secure", "none"), ("audit", "none")}
    alike |= {("task", "trees")}  # go with algorithm=boosting, which is among them
    ids = {m: run_id(with_member(*m), "rows") for m in MEMBERS if m[0] != "executor" and m not in alike}
    base = config.experiment(BASE)
    everything = [*ids.values(), run_id(base, "rows"), run_id(base, "other rows")]
    assert len(set(everything)) == len(everything)
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in everything)
    assert run_id(config.experiment(BASE | {"executor": "ray"}), "rows") == run_id(base, "rows")


def test_many_ids_are_hashed_from_what_they_share_and_are_those_of_the_whole_text():
    """SHA-256 of the canonical JSON of all but `executor` and `results`, whatever was hashed before."""
    names = RunIds()
    first = config.experiment(BASE)
    for change in ({}, {"seed": 1}, {"seed": 2**62}, {"rounds": 7}, {"seed": 1, "algorithm": "fedprox"}):
        for experiment in (config.experiment(BASE | change), dataclasses.replace(first, **change_of(change))):
            fields = plain(experiment)
            del fields["executor"], fields["results"], fields["sinks"]
            whole = [[whole_numbers(fields), fingerprint] for fingerprint in ("one", 'sec"ond')]
            expected = [digest(each) for each in whole]
            assert [names(experiment, "one"), names(experiment, 'sec"ond')] == expected
            assert run_id(experiment, "one") == expected[0]


def change_of(change):
    return {key: value for key, value in change.items() if key != "algorithm"}


def whole_numbers(value):
    if isinstance(value, dict):
        return {key: whole_numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [whole_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def test_equal_experiments_have_equal_ids():
    base = config.experiment(BASE | {"privacy": {"name": "gaussian"}})
    whole = dataclasses.replace(base, privacy=config.GaussianPrivacy(clip_norm=1, noise_multiplier=1))
    numbers: dict[str, Any] = {"seed": np.int64(0)}
    numpy = dataclasses.replace(
        base, **numbers, privacy=config.GaussianPrivacy(clip_norm=np.float64(1), noise_multiplier=1.0)
    )
    stored = build(config.Experiment, json.loads(json.dumps(to_dict(base))))
    assert len({run_id(e, "rows") for e in (base, whole, numpy, stored)}) == 1
    # Seeds beyond 2^53, which floats cannot tell apart.
    large = [dataclasses.replace(base, seed=2**62 + i) for i in (0, 1)]
    assert run_id(large[0], "rows") != run_id(large[1], "rows")


def test_ids_are_the_same_in_every_process_and_need_neither_jax_nor_duckdb():
    code = (
        "import json, sys\n"
        "sys.modules.update(dict.fromkeys(['jax', 'duckdb']))\n"  # importing them fails
        "from fedsim import config\n"
        "from fedsim.store import run_id, source, versions\n"
        "experiment = config.experiment(json.loads(sys.argv[1]))\n"
        "print(json.dumps([run_id(experiment, 'rows'), source(), versions()]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", code, json.dumps(BASE)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [run_id(config.experiment(BASE), "rows"), source(), versions()]
    assert versions()["jax"]


def test_source_follows_code_paths_and_packages(tmp_path):
    def hashed(files, packages=None):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        return identity.hash_source(folder, packages or {"jax": "1"})

    files = {"a.py": "x = 1", "sub/b.py": "y = 2"}
    first = hashed(files)
    assert len(first) == 16
    assert hashed(files) == first
    assert hashed(dict(reversed(files.items()))) == first
    assert hashed(files | {"notes.md": "text", "__pycache__/a.pyc": "z"}) == first
    others = [
        hashed(files | {"a.py": "x = 2"}),
        hashed(files | {"c.py": ""}),
        hashed({"a.py": "x = 1", "b.py": "y = 2"}),
        hashed(files, {"jax": "2"}),
        hashed(files, {"jax": None}),
    ]
    assert len({first, *others}) == 6


@pytest.fixture
def fresh_commit():
    commit.cache_clear()
    yield commit
    commit.cache_clear()


def test_commit_of_a_checkout(tmp_path, monkeypatch, fresh_commit):
    monkeypatch.delenv("FEDSIM_COMMIT", raising=False)
    monkeypatch.setattr(identity, "PACKAGE", tmp_path / "fedsim")
    (tmp_path / "fedsim").mkdir()
    assert fresh_commit() is None  # as installed: no checkout around it

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    git("init", "-q")
    fresh_commit.cache_clear()
    assert fresh_commit() is None  # no commit yet
    (tmp_path / "fedsim" / "a.py").write_text("x = 1")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    fresh_commit.cache_clear()
    clean = fresh_commit()
    assert len(clean) == 40
    int(clean, 16)
    (tmp_path / "fedsim" / "a.py").write_text("x = 2")
    fresh_commit.cache_clear()
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a hook of another repository
    assert fresh_commit() == f"{clean}-dirty"
    monkeypatch.setenv("PATH", "")
    fresh_commit.cache_clear()
    assert fresh_commit() is None  # no git
    monkeypatch.setenv("FEDSIM_COMMIT", "abc")
    fresh_commit.cache_clear()
    assert fresh_commit() == "abc"


def test_host_is_plain_data():
    assert json.loads(json.dumps(host())) == host()
    assert host()["cores"] >= 1


def test_plain_is_strict_json():
    value = {
        "nan": math.nan,
        "inf": -math.inf,
        "scalar": np.float32(0.5),
        "whole": np.int64(3),
        "rows": np.array([1.0, np.nan]),
        "path": Path("a") / "b",
        "config": config.Rotation(),
        1: (True, None),
    }
    found = json.loads(json.dumps(identity.plain(value), allow_nan=False))
    assert found == {
        "nan": None,
        "inf": "-inf",
        "scalar": 0.5,
        "whole": 3,
        "rows": [1.0, None],
        "path": "a/b",
        "config": {"name": "rotation", "levels": 16},
        "1": [True, None],
    }
