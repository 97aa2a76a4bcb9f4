# mypy: disable-error-code="index, union-attr"
"""Probabilities by a horizon: Breslow's baseline of the training rows, once for all or for each client."""

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.plan import Cell
from fedsim.run import rows, run_experiments
from fedsim.run.absolute import curved, ends
from fedsim.run.sources import Sources
from fedsim.store import ResultStore
from fedsim.tasks.survival_discrete import edges
from tests.run.hospitals import BASE

sksurv = pytest.importorskip("sksurv.metrics", reason="scikit-survival is of the dev lock")

HORIZON = 3.0
COX = {
    "task": {"name": "cox", "init": "zeros"},
    "split": {"name": "natural", "test": 0.4},
    "optimizer": {"batch_size": 0, "step_size": 0.2},
    "rounds": 3,
    "evaluate": {"horizon": HORIZON, "thresholds": [0.3]},
    "numerics": {"x64": False},
}
LATER = {"c_index", "cox_loss"}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Two hospitals, one of which sees its patients die twice as fast."""
    rng = np.random.default_rng(4)
    n = 160
    x, clinic = rng.normal(size=(n, 2)), np.arange(n) % 2
    died = rng.exponential(8 / np.exp(x[:, 0]) / (1 + clinic))
    left = rng.uniform(1, 9, n)
    path = tmp_path_factory.mktemp("data") / "cohort.csv"
    rows = [
        f"{'ab'[c]},{int(d <= e)},{max(min(d, e), 0.01):.4f},{p:.4f},{q:.4f}"
        for c, d, e, (p, q) in zip(clinic, died, left, x, strict=True)
    ]
    path.write_text("\n".join(["clinic,died,years,p,q", *rows]) + "\n")
    return {"name": "table", "path": str(path), "client": "clinic", "label": "died", "time": "years"}


def run(cohort, root, **changes):
    experiment = config.experiment(BASE | COX | {"data": cohort} | changes)
    outcome = run_experiments([Cell(experiment, {})], root)
    assert outcome.done, outcome.errors
    store = ResultStore(root)
    return experiment, store, outcome.done[0]


def by_loop(time, event, risk, score):
    """1 - exp(-H exp(score)), H being Breslow's sum of (time, event, risk)."""
    hazard = sum(
        (event & (time == t)).sum() / np.exp(risk[time >= t]).sum()
        for t in np.unique(time[event & (time <= HORIZON)])
    )
    return 1 - np.exp(-hazard * np.exp(score))


@pytest.mark.parametrize("algorithm", ["fedavg", "local"])
def test_probabilities_are_breslows(cohort, tmp_path, algorithm):
    experiment, store, name = run(cohort, tmp_path, algorithm=algorithm)
    (lane,) = Sources().lanes(experiment)
    federation = Sources().federation(experiment)
    found = {k: v.to_numpy(zero_copy_only=False) for k, v in _columns(store.read(name, "predictions"))}
    rows, client = lane.judged.part("train")
    constants = lane.judged_constants
    x = federation.columns["x"]
    own = [f"{n}/" for n in lane.judged.names] if algorithm == "local" else [""] * 2
    model = store.model(name)
    weights = [next(v for k, v in model.items() if k.startswith(o) and v.size == 2).ravel() for o in own]
    scaled = (x - constants.shift[0]) * constants.scale[0]
    for k in range(2):
        mine = client == k if algorithm == "local" else client >= 0
        # A baseline is that of zero risk, whatever the scores are measured from: both sides by one model.
        judged = found["row"][found["client"] == lane.judged.names[k]]
        risk, score = scaled[rows[mine]] @ weights[k], scaled[judged] @ weights[k]
        if algorithm == "fedavg":
            np.testing.assert_allclose(
                score, found["score"][found["client"] == lane.judged.names[k]], atol=1e-5
            )
        time, event = federation.times_of(rows[mine]), federation.labels_of(rows[mine]) > 0
        wanted = by_loop(time, event, risk, score)
        np.testing.assert_allclose(found["risk"][found["client"] == lane.judged.names[k]], wanted, atol=1e-5)
    (last,) = [
        r for r in store.read(name, "rounds").to_pylist() if r["aggregate"] == "pooled" and r["round"] == 3
    ]
    for metric in ("uno_c", "auc_t", "brier_t", "ibs", "o_e", "ici", "net_benefit_0.3"):
        assert last[metric] is not None, metric
    assert last["positives"] == int(found["event"].sum())


def _columns(table):
    return zip(table.column_names, (c.combine_chunks() for c in table.columns), strict=True)


def test_a_model_of_hazards_needs_no_baseline(cohort, tmp_path, monkeypatch):
    """Its probabilities are its own, over time too: `ibs` is that of its curves."""
    task = {"name": "survival_discrete", "horizon": HORIZON, "bins": 4}
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def watched(e, score, curve):
        seen.append((score, curve))
        return curved(e, score, curve)

    monkeypatch.setattr(rows, "curved", watched)
    _, store, name = run(cohort, tmp_path, task=task)
    found = store.read(name, "predictions").to_pydict()
    np.testing.assert_allclose(found["risk"], 1 - np.exp(-np.exp(np.array(found["score"], np.float64))))
    (held,) = [(score, curve) for score, curve in seen if len(score) == len(found["score"])]
    score, curve = (np.asarray(x, np.float64) for x in held)
    np.testing.assert_array_equal(score, found["score"])
    np.testing.assert_allclose(curve[:, -1], score, atol=1e-5)
    # A feature's effect is the same in all intervals: their logits differ by as much in every row.
    logit = np.log(np.expm1(np.diff(np.exp(curve), axis=1, prepend=0)))
    np.testing.assert_allclose(
        logit - logit[:, :1], (logit - logit[:, :1])[:1].repeat(len(score), 0), atol=1e-3
    )
    # What scikit-survival integrates is the survival at the ends of intervals, held until the next.
    grid, ends = np.linspace(0, HORIZON, 51)[1:], np.linspace(0, HORIZON, 5)
    step = np.searchsorted(ends * (1 - 1e-9), grid, side="right") - 1
    survived = np.exp(-np.column_stack([np.zeros(len(score)), np.exp(curve)]))[:, step]
    outcome = np.array(
        list(zip(np.array(found["event"]) > 0, found["time"], strict=True)), dtype=[("e", bool), ("t", float)]
    )
    _, brier = sksurv.brier_score(outcome, outcome, survived, grid)
    whole = sksurv.integrated_brier_score(outcome, outcome, survived, grid) * (HORIZON - grid[0])
    (row,) = [
        r
        for r in store.read(name, "rounds").to_pylist()
        if r["round"] == 3 and r["aggregate"] == "pooled" and r["set"] == "test"
    ]
    assert row["ibs"] == pytest.approx((whole + brier[0] * grid[0] / 2) / HORIZON, abs=1e-6)
    with pytest.raises(RequestError, match="another time; make them equal"):
        run(cohort, tmp_path, task=task | {"horizon": 5.0})


@pytest.mark.parametrize("surviving", [1.0, 0.5])
def test_intervals_end_where_the_model_has_them_end(surviving):
    task = config.SurvivalDiscrete(bins=5, horizon=HORIZON, surviving=surviving)
    np.testing.assert_allclose(ends(task), edges(task)[1:], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"privacy": {"name": "gaussian", "noise_multiplier": 1.0}},
            "which no noise of privacy=gaussian covers",
        ),
        ({"evaluate": {"horizon": 0}}, "evaluate.horizon must be in"),
        ({"evaluate": {"thresholds": [0.5]}}, "have none: set evaluate.horizon"),
        ({"evaluate": {"thresholds": [0.5, 1.5]}}, "must be different numbers in"),
        ({"split": {"name": "natural", "test": 0.4, "late": 0.5}}, "clients that join late have no part"),
    ],
)
def test_what_cannot_be_is_refused(cohort, tmp_path, changes, words):
    with pytest.raises(RequestError, match=words):
        run(cohort, tmp_path, **changes)


def test_a_horizon_is_for_times(tmp_path):
    for evaluate, words in (({"horizon": 1.0}, "name the column with data.time"),):
        with pytest.raises(RequestError, match=words):
            run_experiments([Cell(config.experiment(BASE | {"evaluate": evaluate}), {})], tmp_path)
