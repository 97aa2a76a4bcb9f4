# mypy: disable-error-code="arg-type, index, operator, union-attr"
"""Cox regression from sums against lifelines and scikit-survival, on data of Rossi, Berk, Lenihan 1980."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from fedsim import data, survival
from fedsim.config.data import Table
from tests.run.test_regression import fitted

lifelines = pytest.importorskip("lifelines", reason="lifelines is of the dev lock; run make setup")
sksurv_linear = pytest.importorskip("sksurv.linear_model", reason="scikit-survival is of the dev lock")

LONG = ("stratified", "breslow")
NAMES = ("fin", "age", "race", "wexp", "mar", "paro", "prio")
# As published with lifelines, Efron's ties.
ROSSI = (-0.379422, -0.057438, 0.313900, -0.149796, -0.433704, -0.084871, 0.091497)


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def rossi() -> Any:
    """432 men, dealt to four sites of uneven size by their number."""
    frame = lifelines.datasets.load_rossi()
    frame["site"] = [f"site {int(i % 10 > 4) + int(i % 10 > 7) + int(i % 10 > 8)}" for i in range(len(frame))]
    return frame


@pytest.fixture
def federation(rossi: Any, tmp_path: Any) -> Any:
    rossi.to_csv(tmp_path / "rossi.csv", index=False)
    table = Table(path=str(tmp_path / "rossi.csv"), client="site", time="week", event="arrest")
    found = data.load(table)
    assert found.clients == 4 and set(found.features) == set(NAMES)
    return found


def outcomes(rossi: Any) -> np.ndarray:
    """As scikit-survival takes them."""
    pairs = zip(rossi["arrest"].astype(bool), rossi["week"].astype(float), strict=True)
    return np.array(list(pairs), dtype=[("event", bool), ("time", float)])


@pytest.mark.parametrize("case", ["pooled", "stratified"])
def test_cox_is_lifelines(case: str, rossi: Any, federation: Any) -> None:
    found, *_ = fitted(federation, {"name": "cox"}, {"stratified": case == "stratified"})
    fitter = lifelines.CoxPHFitter()
    options = {"precision": 1e-12}
    known = (
        fitter.fit(rossi.drop(columns="site"), "week", "arrest", fit_options=options)
        if case == "pooled"
        else fitter.fit(rossi, "week", "arrest", strata="site", fit_options=options)
    )
    for name in NAMES:
        mine = found["coefficients"][name]
        assert mine["estimate"] == pytest.approx(known.params_[name], rel=1e-6)
        assert mine["standard_error"] == pytest.approx(known.standard_errors_[name], rel=1e-6)
        assert mine["p"] == pytest.approx(known.summary.loc[name, "p"], rel=1e-5)
        low, high = known.confidence_intervals_.loc[name]
        assert (mine["low"], mine["high"]) == pytest.approx((low, high), rel=1e-5, abs=1e-6)
    assert found["log_likelihood"] == pytest.approx(known.log_likelihood_, rel=1e-9)
    ratio = known.log_likelihood_ratio_test()
    assert found["likelihood_ratio"]["chi2"] == pytest.approx(ratio.test_statistic, rel=1e-7)
    assert found["likelihood_ratio"]["p"] == pytest.approx(ratio.p_value, rel=1e-5)
    if case == "stratified":
        return
    estimate = [found["coefficients"][name]["estimate"] for name in NAMES]
    np.testing.assert_allclose(estimate, ROSSI, atol=5.1e-7)
    assert found["log_likelihood"] == pytest.approx(-658.747659, abs=5.1e-7)
    event, time = rossi["arrest"].to_numpy(bool), rossi["week"].to_numpy(float)
    risk = rossi[list(NAMES)].to_numpy(float) @ estimate
    index = survival.c_index(event, time, risk, np.ones(len(rossi)))
    assert index == pytest.approx(known.concordance_index_, abs=1e-12) == pytest.approx(0.640329, abs=5.1e-7)


@pytest.mark.parametrize("case", ["efron", "breslow"])
def test_cox_is_scikit_survival(case: str, rossi: Any, federation: Any) -> None:
    found, *_ = fitted(federation, {"name": "cox", "ties": case})
    outcome = outcomes(rossi)
    known = sksurv_linear.CoxPHSurvivalAnalysis(ties=case, tol=1e-14, n_iter=200)
    known.fit(rossi[list(NAMES)].astype(float), outcome)
    estimate = [found["coefficients"][name]["estimate"] for name in NAMES]
    np.testing.assert_allclose(estimate, known.coef_, rtol=1e-6)


@pytest.mark.parametrize("l2", [0.01, 0.0])
def test_elastic_net_is_scikit_survival_s(l2: float, rossi: Any, federation: Any) -> None:
    """Which minimises a row's loss plus alpha (ratio |w|_1 + (1 - ratio) / 2 |w|^2), with Breslow's ties;
    here features have unit variance, and coefficients come back on the scale of the input."""
    l1 = 0.02
    found, *_ = fitted(federation, {"name": "cox", "ties": "breslow", "l2": l2}, {"l1": l1})
    x = rossi[list(NAMES)].to_numpy(float)
    spread = x.std(axis=0)
    outcome = outcomes(rossi)
    known = sksurv_linear.CoxnetSurvivalAnalysis(alphas=[l1 + l2], l1_ratio=l1 / (l1 + l2), tol=1e-14)
    known.fit((x - x.mean(axis=0)) / spread, outcome)
    estimate = np.array([found["coefficients"][name]["estimate"] for name in NAMES])
    chosen = known.coef_[:, 0] != 0
    assert 0 < chosen.sum() < len(NAMES)
    np.testing.assert_array_equal(estimate != 0, chosen)
    np.testing.assert_allclose(estimate * spread, known.coef_[:, 0], rtol=1e-4, atol=1e-7)
