"""`fedsim compare` on made-up runs that are all alike."""

import json


def test_pairs_of_a_sweep(fedsim, engine, tiny):
    assert fedsim("sweep tiny").code == 0
    said = fedsim("compare tiny --baseline local --metric auroc")
    head, line = said.out.splitlines()[1:3]
    assert said.code == 0 and head.split()[:3] == ["metric", "algorithm", "difference"]
    assert line.split() == ["auroc", "fedavg", "0.0000", "-", "-", "1", "-", "-"]
    assert "corrected by Holm" in said.out and "1 pairs cannot give a p below 1" in said.out


def test_json_has_the_test_by_name(fedsim, engine, tiny):
    assert fedsim("sweep tiny").code == 0
    told = json.loads(fedsim("compare tiny --baseline fedavg --metric auroc --json").out)
    (found,) = told["differences"]
    assert (told["axis"], told["baseline"], found["choice"], found["pairs"]) == (
        "algorithm",
        "fedavg",
        "local",
        1,
    )
    assert "permutation test" in told["note"]


def test_over_patients_runs_need_predictions(fedsim, engine, tiny):
    assert fedsim("sweep tiny").code == 0
    said = fedsim("compare tiny --baseline local --metric auroc --interval patients")
    assert said.code == 2 and "run it with evaluate.predictions=true" in said.err
    said = fedsim("compare tiny --baseline local --metric auroc --interval both --from mean")
    assert said.code == 2 and "compare pooled or client" in said.err
    said = fedsim("compare tiny --baseline local --metric auroc --ends bca")
    assert said.code == 2 and "--ends bca is of --interval patients, got --interval seeds" in said.err


def test_what_is_missing_or_wrong_is_told(fedsim, engine, tiny):
    said = fedsim("compare tiny --baseline local")
    assert said.code == 2 and "error: tiny: declares no tables; name a metric" in said.err
    (tiny / "tables.yaml").write_text("figures: [{name: g, kind: gain}]")
    said = fedsim("compare tiny --baseline local")
    assert said.code == 2 and "tables.yaml declares figures alone; name a metric" in said.err
    said = fedsim("compare tiny --baseline local --metric auroc")
    assert said.code == 2 and "error: tiny: none of the 4 runs asked for is in" in said.err
    engine.ends = {0: "done", 1: "failed", 2: "done"}.__getitem__
    fedsim("sweep tiny")
    said = fedsim("compare tiny --baseline local --metric auroc")
    assert said.code == 3 and "1 of 4 cells are not done" in said.err
    said = fedsim("compare tiny --baseline locl --metric auroc")
    assert said.code == 2 and "did you mean 'local'" in said.err and "error: tiny: " in said.err
    said = fedsim("compare tiny --baseline local --metric auc")
    assert said.code == 2 and "unknown metric 'auc'" in said.err
