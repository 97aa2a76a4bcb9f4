"""Discrimination and errors of times to an event against lifelines and scikit-survival."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from fedsim import metrics, survival
from fedsim.metrics import Absolute

lifelines = pytest.importorskip("lifelines.utils", reason="lifelines is of the dev lock; run make setup")
nonparametric = pytest.importorskip("sksurv.nonparametric", reason="scikit-survival is of the dev lock")
sksurv = pytest.importorskip("sksurv.metrics", reason="scikit-survival is of the dev lock")

HORIZON, STEPS = 3.0, 12


@pytest.fixture(scope="module", params=[0, 1])
def cohort(request):
    """(event, time, score) of 300 patients of whom a third are censored, no two times being equal.

    At tied times the two differ: scikit-survival weighs an event by the share that is uncensored just after
    it, fedsim just before it.
    """
    rng = np.random.default_rng(request.param)
    score = rng.normal(size=300).round(1)  # many are tied
    failed = rng.exponential(size=300) * 3 * np.exp(-0.7 * score)
    censored = rng.uniform(0.2, 9, 300)
    time = np.minimum(failed, censored)
    assert len(np.unique(time)) == 300
    return failed <= censored, time, score


def test_probabilities_by_a_horizon_are_judged_as_by_scikit_survival(cohort):
    event, time, score = cohort
    grid = np.linspace(0, HORIZON, STEPS + 1)
    with np.errstate(divide="ignore"):
        absolute = Absolute(grid, np.log(grid / 3)[None], np.zeros(300, np.int64))
    found = metrics.evaluate("survival", event.astype(int), score, time=time, absolute=absolute)
    outcome = np.array(list(zip(event, time, strict=True)), dtype=[("event", bool), ("time", float)])
    # Weights come from the sample that is judged, for both.
    uno, *_ = sksurv.concordance_index_ipcw(outcome, outcome, score, tau=HORIZON)
    assert found["uno_c"] == pytest.approx(uno, abs=1e-12)
    areas, _ = sksurv.cumulative_dynamic_auc(outcome, outcome, absolute.risk(score), [HORIZON])
    assert found["auc_t"] == pytest.approx(areas[0], abs=1e-12)
    survived = np.column_stack([1 - absolute.risk(score, k) for k in range(1, STEPS + 1)])
    _, briers = sksurv.brier_score(outcome, outcome, survived, grid[1:])
    assert found["brier_t"] == pytest.approx(briers[-1], abs=1e-12)
    # Who has had the event, regressed with inverse weights on the logits.
    times, shares = nonparametric.kaplan_meier_estimator(~event, time)
    seen = np.append(1.0, shares)[np.searchsorted(times, np.minimum(time, HORIZON), side="left")]
    known = (event & (time <= HORIZON)) | (time >= HORIZON)
    p = absolute.risk(score)[known]
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    model.fit(np.log(p / (1 - p))[:, None], (time <= HORIZON)[known], 1 / seen[known])
    assert found["calibration_slope"] == pytest.approx(model.coef_[0, 0], rel=1e-5)
    # Theirs begins where somebody is gone; at 0 nobody is, and the score is 0.
    rest = sksurv.integrated_brier_score(outcome, outcome, survived, grid[1:])
    whole = (rest * (HORIZON - grid[1]) + briers[0] * grid[1] / 2) / HORIZON
    assert found["ibs"] == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_concordance_is_theirs(cohort, tied):
    event, time, score = cohort
    time = np.ceil(time) if tied else time
    found = survival.c_index(event, time, score, np.ones(300))
    known, *_ = sksurv.concordance_index_censored(event, time, score)
    assert found == pytest.approx(known, abs=1e-12)
    assert found == pytest.approx(lifelines.concordance_index(time, -score, event), abs=1e-12)
    judged = metrics.evaluate("survival", event.astype(int), score, time=time)
    assert judged["c_index"] == found
