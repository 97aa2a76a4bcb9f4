import json

PROMISED = [
    "run", "status", "error", "model_sha256", "rounds", "metrics", "coefficients", "regression", "seconds",
    "seconds_per_round", "privacy", "audit",
]  # fmt: skip


def test_json_is_one_document_with_what_is_promised(fedsim, engine, monkeypatch):
    inner = engine.run_experiments

    def noisy(*args, **kwargs):
        print("a library's chatter")
        return inner(*args, **kwargs)

    monkeypatch.setattr(engine, "run_experiments", noisy)
    said = fedsim("run algorithm=fedprox rounds=3 --json")
    found = json.loads(said.out)
    assert said.code == 0 and list(found)[: len(PROMISED)] == PROMISED
    assert (found["status"], found["rounds"], found["error"]) == ("done", 3, None)
    assert found["metrics"]["clients"]["Switzerland"]["auroc"] is None
    assert "chatter" in said.err
    [asked] = engine.asked
    assert asked.cells[0].experiment.algorithm.name == "fedprox" and asked.cells[0].labels == {}


def test_people_get_a_table(fedsim, engine):
    said = fedsim("run")
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[1:] == [
        ["auroc", "n"],
        ["all", "test", "rows", "0.8800", "920"],
        ["Cleveland", "0.9000", "303"],
        ["Switzerland", "-", "123"],
        ["Karolinska", "(external)", "0.8000", "50"],
    ]
    assert len(fedsim("run --quiet").out.splitlines()) == 1


def test_a_grid_runs_every_combination_in_order(fedsim, engine):
    said = fedsim("run -m algorithm=fedavg,scaffold seed=range(0,2) rounds=4 --json")
    found = json.loads(said.out)["runs"]
    assert said.code == 0
    assert [m["cell"] for m in found] == [
        {"algorithm": a, "seed": seed} for a in ("fedavg", "scaffold") for seed in (0, 1)
    ]
    assert {m["rounds"] for m in found} == {4}
    assert len(fedsim("run -m seed=0,1").out.splitlines()) == 2


def test_what_did_not_end_well_is_exit_code_1(fedsim, engine):
    engine.ends = {0: "done", 1: "failed", 2: "diverged"}.__getitem__
    for seed, code in [(0, 0), (1, 1), (2, 1)]:
        said = fedsim(f"run seed={seed} --json")
        assert said.code == code and json.loads(said.out)["status"] == engine.ends(seed)
    assert "failed at round 3" in fedsim("run seed=1").out
    assert fedsim("run -m seed=0,1,2").code == 1


def test_a_failure_that_left_no_row_is_reported(fedsim, engine, monkeypatch):
    from types import SimpleNamespace

    lost = SimpleNamespace(done=[], skipped=[], diverged=[], failed=["abc"], errors={"abc": "disk full"})
    monkeypatch.setattr(engine, "run_experiments", lambda *a, **k: lost)
    said = fedsim("run --json")
    found = json.loads(said.out)
    assert said.code == 1 and (found["run"], found["status"], found["error"]) == (
        "abc",
        "failed",
        "disk full",
    )


def test_results_and_modules_are_handed_on(fedsim, engine, here, groups):
    (here / "mine.py").write_text("")
    assert fedsim("run --with mine.py results=elsewhere/store").code == 0
    [asked] = engine.asked
    assert str(asked.root) == "elsewhere/store" and asked.modules == (str(here / "mine.py"),)
    assert (here / "elsewhere" / "store").is_dir()
