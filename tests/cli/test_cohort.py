"""fedsim cohort write, and what data=omop makes of it."""

import json

import pytest

LINE = "cohort write regions data.regions=halland data.external=karolinska data.patients=60"


@pytest.mark.parametrize("form", ["parquet", "duckdb"])
def test_what_is_written_can_be_read(fedsim, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    said = fedsim(f"{LINE} --format {form} --json")
    assert said.code == 0
    found = json.loads(said.out)
    assert [(one["region"], one["external"]) for one in found] == [("halland", False), ("karolinska", True)]
    assert found[0]["patients"] == 60 and all(one["bytes"] > 0 for one in found)
    said = fedsim(
        "data describe omop data.path=regions data.external=karolinska data.outcome=survival --json"
    )
    told = json.loads(said.out)
    assert (told["kind"], told["external"]) == ("survival", ["karolinska"])
    assert [one["patients"] for one in told["per_client"]] == [one["patients"] for one in found]


def test_wrong_requests(fedsim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line, message in (
        (LINE.replace("write", "wrote"), "unknown action 'wrote'; choose one of write; did you mean 'write'"),
        (LINE.replace("halland", "haland"), "did you mean 'halland'"),
        (LINE + " seed=1", "seed says nothing about data"),
        (LINE + " data=digits", "data.regions"),
        (
            "cohort write regions data=blobs",
            "writes what data=heart_failure makes, and data=blobs was asked for",
        ),
        (LINE + " --format csv", "invalid choice: 'csv'"),
    ):
        said = fedsim(line)
        assert said.code == 2 and message in said.err, (line, said.err)
    assert fedsim(f"{LINE} --quiet").out == ""
    said = fedsim(LINE)
    assert said.code == 2 and "regions/halland exists; remove it, or name another folder" in said.err
