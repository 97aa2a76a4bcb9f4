import pytest

from fedsim.base import RequestError
from fedsim.plan import cells, names, read

TEXT = """
name: tiny
base: [rounds=5]
grid:
  algorithm: {local: [algorithm=local], fedavg: [algorithm=fedavg]}
  seed: range(0,4)
exclude:
  - {match: {algorithm: local, seed: 3}, reason: enough}
reduced:
  base: [rounds=2]
  grid: {algorithm: [fedavg, scaffold], seed: "range(0,2)"}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lay(folder, text=TEXT):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.yaml").write_text(text)
    return folder


def test_a_sweep_is_found_by_name_folder_or_file(here):
    folder = lay(here / "experiments" / "tiny")
    assert "tiny" in names()
    by_name = read("tiny")
    assert by_name.name == "tiny" and by_name.folder is not None and by_name.folder.samefile(folder)
    assert read(str(folder)).grid == read(str(folder / "sweep.yaml")).grid == by_name.grid


def test_the_current_folder_wins_over_what_comes_with_fedsim(here):
    assert read("heart_disease").grid.keys() == {"algorithm", "split", "epsilon", "seed"}
    lay(here / "experiments" / "heart_disease", "name: heart_disease\nbase: [rounds=3]\n")
    assert read("heart_disease").base == ("rounds=3",)


def test_the_reduced_variant(here, compose, parse):
    lay(here / "experiments" / "tiny")
    assert len(cells(read("tiny"), compose, parse)) == 7
    small = cells(read("tiny", reduced=True), compose, parse)
    assert [tuple(c.labels.values()) for c in small] == [
        ("fedavg", 0), ("fedavg", 1), ("scaffold", 0), ("scaffold", 1)
    ]  # fmt: skip
    assert {c.experiment.rounds for c in small} == {2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: tiny\ngrids: {}", "unknown option grids; .*did you mean 'grid'"),
        ("base: []", "name is required"),
        ("name: a/b", "'a/b' is a path"),
        ("name: [", "line 2: not YAML"),
        ("- 1", "must be a mapping"),
        ("name: tiny\nexclude: [{match: {}}]", r"exclude\[0\].reason is required"),
        ("name: tiny\ngrid: {seed: [1]}\nreduced: {grid: {sead: [1]}}", "did you mean 'seed'"),
        ("name: tiny", "has no reduced variant"),
    ],
)
def test_a_wrong_file_is_named(here, text, message):
    lay(here / "experiments" / "tiny", text)
    with pytest.raises(RequestError, match=message) as caught:
        read("tiny", reduced=True)
    assert "tiny" in str(caught.value)


def test_an_unknown_name_comes_with_the_nearest(here):
    lay(here / "experiments" / "tiny")
    with pytest.raises(RequestError, match=r"no experiment 'tinny'.*did you mean 'tiny'"):
        read("tinny")
