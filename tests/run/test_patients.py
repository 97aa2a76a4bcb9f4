"""Whole runs that protect patients with several rows each: what is trained, and what is said of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim import ResultStore, config, run_experiments
from fedsim.cli.run import _privacy
from fedsim.plan import Cell
from fedsim.run.sources import Sources

pytestmark = pytest.mark.long

FEATURES, MOST, STEP, CLIP = 60, 4, 0.5, 0.7
SIZES = {"A": 40, "B": 25, "C": 10}  # patients; C is external


def table(path: Path, spoil: bool = False) -> None:
    """One line a row; patients have 1 to 6 rows, in no order. spoil: some patients of A have rows whose
    gradients are too long for their type."""
    rng = np.random.default_rng(0)
    lines: list[list[Any]] = []
    for hospital, patients in SIZES.items():
        for number in range(patients):
            for visit in range(1 + (number + len(lines)) % 6):
                x = rng.normal(size=FEATURES) + number / patients
                bad = spoil and hospital == "A" and number in (7, 9, 11, 13) and visit < 2
                x[0] = 1e30 if bad else x[0]
                died = int(x.sum() + rng.normal() > 0)
                lines.append([hospital, f"{hospital}{number}", *(f"{value:.6g}" for value in x), died])
    names = ["hospital", "patient", *(f"x{i}" for i in range(FEATURES)), "died"]
    order = rng.permutation(len(lines))
    path.write_text("\n".join(",".join(map(str, line)) for line in [names, *(lines[i] for i in order)]))


def experiment(path: Path, noise: float, **privacy: Any) -> config.Experiment:
    return config.experiment(
        {
            "data": {
                "name": "table",
                "path": str(path),
                "client": "hospital",
                "label": "died",
                "patient": "patient",
                "external": ["C"],
                "preprocess": {"impute": "none", "standardise": False},
            },
            "split": {"name": "natural", "test": 0.2},
            "task": "logistic",
            "algorithm": {"name": "fedavg", "weighting": "uniform"},
            "optimizer": {"batch_size": 0, "step_size": STEP},
            "channel": "direct",
            "privacy": {"name": "record", "clip_norm": CLIP, "noise_multiplier": noise} | privacy,
            "world": "all",
            "numerics": {},
            "executor": "inline",
            "rounds": 1,
            "seed": 0,
        }
    )


PATIENT = {"unit": "patient", "rows_per_patient": MOST}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    root = tmp_path_factory.mktemp("patients")
    table(root / "table.csv")
    table(root / "spoiled.csv", spoil=True)

    def run(name: str, noise: float, **privacy: Any) -> Any:
        """(the experiment, its manifest, its stored rounds)."""
        e = experiment(root / name, noise, **privacy)
        outcome = run_experiments([Cell(e, {})], root / "store")
        assert not outcome.failed and not outcome.diverged, outcome.errors
        store, (found,) = ResultStore(root / "store"), [*outcome.done, *outcome.skipped]
        return e, store.manifest(found), store.read(found, "rounds").to_pylist()

    return run


def held(e: config.Experiment) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each training hospital, (x, y, patient) of its training rows in their order."""
    (lane,) = Sources().lanes(e)
    columns, part = Sources().split(e)[0].columns, lane.clients
    assert columns is not None and part.rows is not None
    found = []
    for k in np.flatnonzero(part.federated):
        rows = part.rows[part.offsets[k] :][: part.train[k]]
        found.append((columns["x"][rows].astype(float), columns["y"][rows], columns["patient"][rows]))
    return found


def vector(manifest: Any) -> np.ndarray:
    made = manifest["coefficients"]
    return np.array([*(made[f"x{i}"] for i in range(FEATURES)), made["intercept"]]).ravel()


def step(e: config.Experiment, unit: str) -> np.ndarray:
    """The mean of what hospitals send after one step from zeros, written out."""
    sent = []
    for x, y, patient in held(e):
        code = patient if unit == "patient" else np.arange(len(y))
        total = np.zeros(FEATURES + 1)
        for p in np.unique(code):
            mine = np.flatnonzero(code == p)[:MOST]
            with_one = np.column_stack([x[mine], np.ones(len(mine))])
            gradient = ((0.5 - y[mine])[:, None] * with_one).sum(axis=0)
            length = np.linalg.norm(gradient)
            total += gradient * min(1, CLIP / length) if length < 1e19 else 0  # its square, in 32 bits
        sent.append(-STEP * total / (code[-1] - code[0] + 1))
    return np.mean(sent, axis=0)


def test_gradients_are_clipped_by_patient(run: Callable[..., Any]) -> None:
    e, by_patient, _ = run("table.csv", 0.0, **PATIENT)
    np.testing.assert_allclose(vector(by_patient), step(e, "patient"), rtol=1e-4, atol=1e-6)
    e, by_record, _ = run("table.csv", 0.0)
    np.testing.assert_allclose(vector(by_record), step(e, "record"), rtol=1e-4, atol=1e-6)
    assert not np.allclose(step(e, "patient"), step(e, "record"), rtol=0.05)


@pytest.mark.parametrize(("unit", "options"), [("patient", PATIENT), ("record", {})])
def test_noise_and_account_are_of_the_unit(run: Callable[..., Any], unit: str, options: Any) -> None:
    noise = 40.0
    e, noisy, rounds = run("table.csv", noise, **options)
    _, quiet, _ = run("table.csv", 0.0, **options)
    last = [p if unit == "patient" else np.arange(len(p)) for _, _, p in held(e)]
    counts = [int(code[-1] - code[0] + 1) for code in last]
    deviation = STEP * noise * CLIP * np.linalg.norm(1 / np.array(counts)) / len(counts)
    drawn = vector(noisy) - vector(quiet)
    assert 0.75 < drawn.std() / deviation < 1.3  # 61 numbers; there are three rows to a patient
    said = noisy["privacy"]
    assert said["unit"] == unit and said["epsilon"] > 0
    assert {r["region"]: r["units"] for r in said["regions"]} == dict(zip("AB", counts, strict=True))
    assert said["lost_gradients"] == 0 and all(row["lost_gradients"] == 0 for row in rounds)


@pytest.mark.parametrize("options", [PATIENT, {}])
def test_gradients_that_are_not_finite_are_counted_by_unit(run: Callable[..., Any], options: Any) -> None:
    """And take nothing of others' with them, whose rows lie beside theirs."""
    e, manifest, rounds = run("spoiled.csv", 0.0, **options)
    spoiled, *_ = (patient[abs(x[:, 0]) > 1e29] for x, _, patient in held(e))
    assert 1 < len(set(spoiled)) < len(spoiled)
    lost = len(set(spoiled)) if options else len(spoiled)
    assert manifest["status"] == "done"
    np.testing.assert_allclose(vector(manifest), step(e, "patient" if options else "record"), 1e-4, 1e-6)
    assert manifest["privacy"]["lost_gradients"] == lost
    assert {row["lost_gradients"] for row in rounds} == {lost}
    assert f"warning: {lost} times the gradient" in next(_privacy(manifest["privacy"]))
