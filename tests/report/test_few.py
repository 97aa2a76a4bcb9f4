# mypy: disable-error-code="index"
"""Cells with few events are marked, and subgroups and gaps are levels like sites."""

from tests.report.made import build, cells


def test_few_events_are_marked(put, tmp_path):
    sizes = {"a": (500, 250), "b": (500, 60), "c": (120, 110)}
    values = [
        {"group": "site", "name": name, "n": n, "positives": p, "auroc": 0.7}
        for name, (n, p) in sizes.items()
    ]
    runs = [
        put({"algorithm": "fedavg", "seed": s}, [{"auroc": 0.7, "n": 1120, "positives": 420}], values)
        for s in (0, 1)
    ]
    table = build(tmp_path, runs, level="site", columns="site")
    assert {key[1]: cell.few for key, cell in cells(table).items()} == {"a": None, "b": 60, "c": 10}
    assert [text.endswith("°") for text in table.texts[0]] == [False, True, True]
    (said,) = (note for note in table.notes if note.startswith("°"))
    assert "Fewer than 100 events" in said and "fewest: 10" in said
    whole = build(tmp_path, runs)
    assert cells(whole)["fedavg", "auroc"].few is None and not any("°" in note for note in whole.notes)


def test_times_to_an_event_count_events_alone(put, tmp_path):
    run = put({"algorithm": "fedavg", "seed": 0}, [{"c_index": 0.7, "n": 200, "positives": 150}])
    assert cells(build(tmp_path, [run], metrics=["c_index"]))["fedavg", "c_index"].few is None
    run = put({"algorithm": "fedavg", "seed": 1}, [{"c_index": 0.7, "n": 200, "positives": 99}])
    assert cells(build(tmp_path, [run], metrics=["c_index"]))["fedavg", "c_index"].few == 99


def test_stores_that_do_not_count_are_not_marked(put, tmp_path):
    run = put({"algorithm": "fedavg", "seed": 0}, [{"auroc": 0.7}])
    assert cells(build(tmp_path, [run]))["fedavg", "auroc"].few is None


def test_subgroups_and_gaps_are_levels(put, tmp_path):
    values = [
        {"group": "subgroup", "name": "age < 65", "n": 400, "positives": 200, "auroc": 0.8},
        {"group": "subgroup", "name": "age >= 65", "n": 400, "positives": 200, "auroc": 0.7},
        {"group": "gap", "name": "age", "n": 800, "positives": 400, "auroc": 0.1},
        {"group": "site", "name": "a", "n": 800, "positives": 400, "auroc": 0.75},
    ]
    run = put({"algorithm": "fedavg", "seed": 0}, [{"auroc": 0.75}], values)
    found = cells(build(tmp_path, [run], level="subgroup", columns="subgroup"))
    assert {key[1]: cell.mean for key, cell in found.items()} == {"age < 65": 0.8, "age >= 65": 0.7}
    found = cells(build(tmp_path, [run], level="gap", columns="gap"))
    assert {key[1]: cell.mean for key, cell in found.items()} == {"age": 0.1}
    one = cells(
        build(tmp_path, [run], level="subgroup", columns="subgroup", where={"subgroup": ["age < 65"]})
    )
    assert len(one) == 1
