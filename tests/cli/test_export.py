"""A sweep's rows for other programs, read back."""

import csv
import errno
import json
import sys

import pyarrow.parquet as pq
import pytest

from fedsim.store import sinks


def test_rows_with_labels_in_every_format(fedsim, engine, tiny, here):
    assert fedsim("sweep tiny").code == 0
    folder = here / "results" / "tiny" / "export"
    found = {}
    for form in ("csv", "parquet", "json"):
        said = fedsim(f"export tiny --to {form}")
        assert said.code == 0, said.err
        assert [line.split(": ")[0] for line in said.out.splitlines()] == [
            f"results/tiny/export/{table}.{form}" for table in ("runs", "rounds")
        ]
    found["csv"] = list(csv.DictReader((folder / "rounds.csv").read_text().splitlines()))
    found["parquet"] = pq.read_table(folder / "rounds.parquet").to_pylist()
    found["json"] = json.loads((folder / "rounds.json").read_text())
    assert {len(rows) for rows in found.values()} == {len(found["json"])}
    assert list(found["csv"][0])[:3] == ["run", "algorithm", "seed"]
    labels = {(row["algorithm"], row["seed"]) for row in found["json"]}
    assert labels == {("local", 0), ("fedavg", 0), ("fedavg", 1), ("fedavg", 2)}
    assert found["parquet"] == found["json"]
    for text, row in zip(found["csv"], found["json"], strict=True):
        assert {k: v for k, v in text.items() if v} == {
            k: written(v) for k, v in row.items() if v is not None
        }
    runs = json.loads((folder / "runs.json").read_text())
    assert {(row["run"], row["algorithm"], row["seed"]) for row in runs} == {
        (row["run"], row["algorithm"], row["seed"]) for row in found["json"]
    }
    assert {row["state"] for row in runs} == {"done"}


def written(value):
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def test_what_is_not_there_is_said(fedsim, engine, tiny, here):
    said = fedsim("export tiny --to csv")
    assert said.code == 2 and "no cell is done" in said.err and "fedsim sweep tiny" in said.err
    assert fedsim("sweep tiny seed=0").code == 0
    said = fedsim("export tiny --to csv --folder elsewhere --table rounds")
    assert said.code == 3 and "2 of 4 cells are not done" in said.err
    assert [path.name for path in (here / "elsewhere").iterdir()] == ["rounds.csv"]
    said = fedsim("export tiny --to csv --table timeline")
    assert said.code == 2 and "has a table 'timeline'" in said.err
    (here / "file").touch()
    said = fedsim("export tiny --to csv --folder file")
    assert said.code == 1 and "file/runs.csv cannot be written (file is no folder); give --folder" in said.err


def test_a_file_that_is_damaged_or_gone_is_named(fedsim, engine, tiny, here):
    assert fedsim("sweep tiny").code == 0
    path = next((here / "results" / "store").glob("*/rounds.parquet"))
    for harm in (lambda: path.write_bytes(path.read_bytes()[:50]), path.unlink):
        harm()
        said = fedsim("export tiny --to csv")
        assert said.code == 2 and f"{path.parent.name}/rounds.parquet is gone or damaged" in said.err, (
            said.err
        )
        assert not (here / "results" / "tiny" / "export" / "rounds.csv").exists()


# --- trackers ------------------------------------------------------------------------------------

ROUNDS = [
    {"round": r, "replica": f, "set": "test", "aggregate": "pooled", "auroc": 0.5 + r / 10, "loss": None}
    for r in (1, 2)
    for f in (-1, 0)
]


def test_scalars_are_the_defined_numbers_by_round_and_fold():
    assert list(sinks.scalars(ROUNDS)) == [
        ("auroc/test pooled", 0.6, 1),
        ("auroc/test pooled fold 0", 0.6, 1),
        ("auroc/test pooled", 0.7, 2),
        ("auroc/test pooled fold 0", 0.7, 2),
    ]


def test_event_files_read_back(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs the extra `tracking`")
    from tensorboardX.proto import event_pb2

    for _ in range(2):  # written again, they take the place of the old ones
        sinks.tensorboard(tmp_path, "abc", {"algorithm": "fedavg", "seed": 0}, ROUNDS)
    [file] = tmp_path.rglob("events*")
    assert file.parent.name == "algorithm=fedavg,seed=0 abc"
    data, at, found = file.read_bytes(), 0, []
    while at < len(data):  # TFRecord: length u64, its checksum u32, the record, its checksum u32
        length = int.from_bytes(data[at : at + 8], "little")
        event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
        found += [(v.tag, round(v.simple_value, 6), event.step) for v in event.summary.value]
        at += 16 + length
    assert found == [(name.replace(" ", "_"), value, step) for name, value, step in sinks.scalars(ROUNDS)]


@pytest.mark.long
def test_mlflow_reads_back_what_was_written_once(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="needs the extra `tracking`")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    runs = {"abc": ({"algorithm": "fedavg"}, {"optimizer.step_size": 0.1}, ROUNDS)}
    for _ in range(2):
        sinks.mlflow(tmp_path / "mlflow", "small", runs)
    client = MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"optimizer.step_size": "0.1"}
    assert run.data.tags["fedsim.run"] == "abc" and run.data.tags["label.algorithm"] == "fedavg"
    history = client.get_metric_history(run.info.run_id, "auroc/test pooled")
    assert [(m.step, m.value) for m in history] == [(1, 0.6), (2, 0.7)]

    # Killed in the middle of one: what is there of it is deleted, and the run is there once.
    def killed(self: MlflowClient, *some: object, **more: object) -> None:
        raise KeyboardInterrupt

    second = {"def": runs["abc"]}
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MlflowClient, "set_terminated", killed)
        sinks.mlflow(tmp_path / "mlflow", "small", second)
    sinks.mlflow(tmp_path / "mlflow", "small", runs | second)
    found = client.search_runs([experiment.experiment_id])
    assert sorted((f.data.tags["fedsim.run"], f.info.status) for f in found) == [
        ("abc", "FINISHED"), ("def", "FINISHED"),
    ]  # fmt: skip


def test_without_the_extra_it_is_said_how_to_get_it(fedsim, engine, tiny, monkeypatch):
    assert fedsim("sweep tiny seed=0").code == 0
    for module, tracker in (("tensorboardX", "tensorboard"), ("mlflow", "mlflow")):
        monkeypatch.setitem(sys.modules, module, None)
        said = fedsim(f"export tiny seed=0 --to {tracker}")
        assert said.code == 2 and "pip install 'fedsim-regions[tracking]'" in said.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory"),
            "cannot be written (Not a directory); make it a",
        ),
        (
            OSError(errno.ENOSPC, "No space left"),
            "cannot be written (No space left); free space there; the runs",
        ),
        (KeyError("meta.yaml"), "(KeyError: 'meta.yaml'); move it away, or leave the sink out; the runs are"),
    ],
)
def test_a_tracker_that_fails_says_where_and_why_and_that_runs_are_stored(
    fedsim, engine, tiny, monkeypatch, error, words
):
    pytest.importorskip("tensorboardX", reason="needs the extra `tracking`")
    assert fedsim("sweep tiny seed=0").code == 0

    def fail(*_):
        raise error

    monkeypatch.setattr(sinks, "tensorboard", fail)
    said = fedsim("export tiny seed=0 --to tensorboard")
    assert said.code == 1 and words in said.err and "results/tiny/export/tensorboard" in said.err
    assert said.err.endswith(
        "the runs are stored, and fedsim export NAME --to tensorboard tells it of those of a sweep\n"
    )
