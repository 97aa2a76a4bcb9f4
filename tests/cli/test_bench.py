"""fedsim bench with made-up measurements."""

import json

import pytest

from fedsim import bench, store


@pytest.fixture
def ratio(tmp_path, monkeypatch):
    """A checkout with a committed ratio of 1, and what is measured, which a test may change."""
    now = {"mlp": 1.1}
    monkeypatch.setattr(bench, "checkout", lambda: tmp_path)
    monkeypatch.setattr(store, "commit", lambda: "abc")
    monkeypatch.setattr(bench, "workloads", lambda reduced: {"mlp": lambda: bench.Repeat(now["mlp"], 1.0)})
    bench.record(tmp_path, bench.here(), True, "old", {"mlp": [bench.Repeat(1.0, 1.0)]})
    return now


def test_compare_passes_within_the_limit_and_fails_beyond_it(fedsim, ratio):
    said = fedsim("bench compare --reduced")
    assert said.code == 0 and said.out.splitlines()[-1].split() == ["mlp", "1.1000", "1.0000", "1"]
    ratio["mlp"] = 1.4
    said = fedsim("bench compare --reduced")
    assert said.code == 1 and said.out.splitlines()[-1].split() == ["mlp", "1.4000", "1.0000", "3", "slower"]
    assert said.err.count("mlp: 1.40 ms a round, by hand 1.00 ms\n") == 3


def test_compare_under_json_is_one_document(fedsim, ratio):
    said = fedsim("bench compare --reduced --json --quiet")
    told = json.loads(said.out)
    assert (said.code, said.err, told["commit"], told["against"]) == (0, "", "abc", "old")
    row = {"ratio": 1.1, "repeats": [1.1], "committed": 1.0, "slower": False}
    assert told["benchmarks"] == {"mlp": row}


def test_nothing_is_measured_where_no_run_of_the_kind_is_committed(fedsim, ratio):
    said = fedsim("bench compare")
    assert said.code == 0 and "is committed, so nothing is compared" in said.out and said.err == ""
    assert json.loads(fedsim("bench compare --json").out)["benchmarks"] == {}


def test_record_writes_what_compare_reads(fedsim, ratio, tmp_path):
    assert fedsim("bench --record --reduced --quiet").code == 0
    found = bench.committed(tmp_path, bench.here(), reduced=True)
    assert found == {"commit": "abc", "ratios": {"mlp": 1.1}}


def test_what_cannot_be_recorded_is_refused(fedsim, ratio, monkeypatch):
    assert fedsim("bench compare --record").code == 2
    monkeypatch.setattr(store, "commit", lambda: "abc-dirty")
    said = fedsim("bench --record")
    assert said.code == 2 and "commit them first" in said.err
