"""Metrics against scikit-learn, against counts by hand, and where they do not exist."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from fedsim import metrics

PARTS = settings(max_examples=60, deadline=None)


@st.composite
def binary(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    n = draw(st.integers(2, 80))
    rng = np.random.Generator(np.random.Philox(key=draw(st.integers(0, 2**32))))
    y = rng.integers(0, 2, n)
    y[:2] = 0, 1
    p = rng.random(n)
    grid = draw(st.sampled_from([None, 2, 5, 15, 30]))  # coarse grids make ties, and scores on bin edges
    if grid:
        p = np.round(p * grid) / grid
    w = rng.integers(0, 4, n).astype(np.float64) if draw(st.booleans()) else None
    if w is not None:
        w[:2] = 1.0
    return y, p, w


def ece_by_loop(right: np.ndarray, confidence: np.ndarray, w: np.ndarray | None) -> float:
    w = np.ones(len(right)) if w is None else w
    total = 0.0
    for b in range(15):
        low, high = np.linspace(0, 1, 16)[b : b + 2]
        inside = (confidence > low) & (confidence <= high)
        if b == 0:
            inside |= confidence == 0
        if w[inside].sum() > 0:
            accuracy = np.average(right[inside], weights=w[inside])
            total += w[inside].sum() * abs(accuracy - np.average(confidence[inside], weights=w[inside]))
    return float(total / w.sum())


@PARTS
@given(binary())
def test_binary_equals_scikit_learn(case: Any) -> None:
    y, p, w = case
    got = metrics.evaluate("binary", y, p, w)
    expected = {
        "auroc": sk.roc_auc_score(y, p, sample_weight=w),
        "auprc": sk.average_precision_score(y, p, sample_weight=w),
        "accuracy": sk.accuracy_score(y, p > 0.5, sample_weight=w),
        "log_loss": sk.log_loss(y, p, sample_weight=w),
        "brier": sk.brier_score_loss(y, p, sample_weight=w),
        "ece": ece_by_loop(y, p, w),
    }
    assert tuple(got) == metrics.names("binary")
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


@PARTS
@given(binary())
def test_calibration_solves_its_likelihood_equations(case: Any) -> None:
    y, p, w = case
    w = np.ones(len(y)) if w is None else w
    got = metrics.evaluate("binary", y, p, w)
    eps = np.finfo(np.float64).eps
    c = np.clip(p, eps, 1 - eps)
    logit = np.log(c / (1 - c))
    a = got["calibration_intercept"]
    assert a is not None
    assert w @ (y - 1 / (1 + np.exp(-(a + logit)))) == pytest.approx(0, abs=1e-6)

    real = w > 0
    x0, x1 = logit[real & (y == 0)], logit[real & (y == 1)]
    overlap = x1.max() > x0.min() and x0.max() > x1.min()
    assert (got["calibration_slope"] is not None) == overlap


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [-0.7, 0.3, 1.0, 4.0])
def test_calibration_slope_equals_unpenalised_logistic_regression(seed: int, slope: float) -> None:
    rng = np.random.Generator(np.random.Philox(key=seed))
    logit = rng.normal(size=150) * 2 - 0.5
    y = (rng.random(150) < 1 / (1 + np.exp(-(0.4 + slope * logit)))).astype(int)
    w = rng.random(150) + 0.1
    p = 1 / (1 + np.exp(-logit))
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000, solver="newton-cholesky")
    model.fit(logit[:, None], y, sample_weight=w)
    assert metrics.evaluate("binary", y, p, w)["calibration_slope"] == pytest.approx(
        model.coef_[0, 0], abs=1e-6
    )


def test_calibration_slope_by_hand() -> None:
    # Scores .2 and .8, of which 1/4 and 3/4 are positive: the fit passes through both, so the slope
    # is logit(3/4) / logit(.8) = log 3 / log 4, and symmetry leaves nothing for the intercept.
    y = [1, 0, 0, 0, 1, 1, 1, 0]
    p = [0.2] * 4 + [0.8] * 4
    got = metrics.evaluate("binary", y, p)
    assert got["calibration_slope"] == pytest.approx(math.log(3) / math.log(4), abs=1e-12)
    assert got["calibration_intercept"] == pytest.approx(0, abs=1e-12)
    # Equal probabilities p among a share s of positives: the intercept is logit(s) - logit(p).
    got = metrics.evaluate("binary", [1, 0, 0, 0], [0.5] * 4)
    assert got["calibration_intercept"] == pytest.approx(-math.log(3), abs=1e-9)


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9]),  # separated
        ([1, 1, 0, 0], [0.1, 0.2, 0.7, 0.9]),  # separated the wrong way round
        ([0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9]),  # separated but for a tie
        ([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3]),  # constant
    ],
)
def test_slope_without_a_maximum_is_none(y: list[int], p: list[float]) -> None:
    got = metrics.evaluate("binary", y, p)
    assert got["calibration_slope"] is None
    assert got["calibration_intercept"] is not None


def test_slope_survives_saturated_scores() -> None:
    rng = np.random.Generator(np.random.Philox(key=5))
    p = np.concatenate([[0.0, 1.0, 0.0, 1.0], rng.random(50)])
    y = np.concatenate([[0, 1, 1, 0], rng.integers(0, 2, 50)])
    got = metrics.evaluate("binary", y, p)
    assert got["calibration_slope"] is not None and math.isfinite(got["calibration_slope"])
    # A confident, wrong score costs -log(eps), as in scikit-learn.
    assert got["log_loss"] == pytest.approx(sk.log_loss(y, p), abs=1e-12)


@PARTS
@given(binary())
def test_near_separable_slopes_are_maxima(case: Any) -> None:
    y, p, _ = case
    p = np.clip(0.98 * y + 0.02 * p, 0.001, 0.999)
    y, p = np.append(y, [0, 1]), np.append(p, [0.97, 0.5])
    slope = metrics.evaluate("binary", y, p)["calibration_slope"]
    assert slope is not None
    logit = np.log(p / (1 - p))

    def profile(b: float) -> float:  # the best likelihood at slope b, over intercepts
        q = 1 / (1 + np.exp(-b * logit))
        shift = metrics.evaluate("binary", y, q)["calibration_intercept"]
        assert shift is not None
        eta = shift + b * logit
        return float(y @ eta - np.logaddexp(0, eta).sum())

    assert profile(slope) >= profile(slope * 1.01) - 1e-12
    assert profile(slope) >= profile(slope * 0.99) - 1e-12


def test_auroc_counts_ties_half() -> None:
    assert metrics.evaluate("binary", [0, 1], [0.5, 0.5])["auroc"] == 0.5
    assert metrics.evaluate("binary", [0, 1, 1], [0.2, 0.2, 0.7])["auroc"] == 0.75


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_has_no_ranking(label: int) -> None:
    got = metrics.evaluate("binary", [label] * 3, [0.2, 0.6, 0.9])
    undefined = {name for name, value in got.items() if value is None}
    both = {"auroc", "auprc", "calibration_intercept", "calibration_slope", "ici"}
    found = {f"{name}_top{k}" for name in ("sensitivity", "nne") for k in (1, 5, 10)}
    assert undefined == (both if label else both | found)
    assert got["accuracy"] == pytest.approx(2 / 3 if label else 1 / 3)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("full", [True, False])
def test_nothing_is_defined_on_no_rows_or_on_nan(kind: str, full: bool) -> None:
    classes = (3,) if kind == "multiclass" else ()
    none = dict.fromkeys(metrics.names(kind, full))
    assert metrics.evaluate(kind, np.zeros(0), np.zeros((0, *classes)), full=full) == none
    assert metrics.evaluate(kind, [0, 1], np.full((2, *classes), np.nan), full=full) == none
    assert metrics.evaluate(kind, [0, 1], np.full((2, *classes), 0.3), [0, 0], full=full) == none


@PARTS
@given(binary())
def test_rows_of_weight_zero_do_not_exist(case: Any) -> None:
    y, p, w = case
    if w is None:
        return
    repeated = metrics.evaluate("binary", np.repeat(y, w.astype(int)), np.repeat(p, w.astype(int)))
    weighted = metrics.evaluate("binary", y, p, w)
    for name, value in weighted.items():
        assert (value is None) == (repeated[name] is None)
        if value is not None:
            assert value == pytest.approx(repeated[name], rel=1e-6, abs=1e-6), name


@PARTS
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(6, 60), st.booleans(), st.booleans())
def test_multiclass_equals_scikit_learn(key: int, classes: int, n: int, coarse: bool, weigh: bool) -> None:
    rng = np.random.Generator(np.random.Philox(key=key))
    y = rng.integers(0, classes, n)
    y[:classes] = np.arange(classes)
    p = rng.dirichlet(np.ones(classes), n)
    if coarse:
        p = np.round(p * 4) + 1
        p /= p.sum(axis=1, keepdims=True)
    w = rng.integers(1, 4, n).astype(np.float64) if weigh else None
    one_hot = np.eye(classes)[y]
    got = metrics.evaluate("multiclass", y, p, w)
    areas = [sk.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in range(classes)]
    expected = {
        "auroc": np.mean(areas),
        "accuracy": sk.accuracy_score(y, p.argmax(1), sample_weight=w),
        "log_loss": sk.log_loss(y, p, labels=range(classes), sample_weight=w),
        "brier": np.average(np.square(p - one_hot).sum(1), weights=w),
        "ece": ece_by_loop(p.argmax(1) == y, p.max(1), w),
    }
    assert tuple(got) == metrics.names("multiclass")
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-9), name


def test_multiclass_auroc_needs_every_class() -> None:
    p = np.asarray([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    assert metrics.evaluate("multiclass", [0, 1, 1], p)["auroc"] is None
    assert metrics.evaluate("multiclass", [0, 1, 2], p)["auroc"] is not None


@PARTS
@given(st.integers(0, 2**32), st.integers(2, 60), st.booleans())
def test_regression_equals_scikit_learn(key: int, n: int, weigh: bool) -> None:
    rng = np.random.Generator(np.random.Philox(key=key))
    y, s = rng.normal(size=(2, n)) * 3 + 100
    w = rng.random(n) + 0.1 if weigh else None
    got = metrics.evaluate("regression", y, s, w)
    assert got["r2"] == pytest.approx(sk.r2_score(y, s, sample_weight=w), rel=1e-8)
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(y, s, sample_weight=w))
    assert got["mse"] == pytest.approx(sk.mean_squared_error(y, s, sample_weight=w))


@PARTS
@given(st.integers(0, 2**32), st.integers(1, 60), st.booleans(), st.booleans())
def test_deviances_equal_scikit_learn(key: int, n: int, weigh: bool, zeros: bool) -> None:
    rng = np.random.Generator(np.random.Philox(key=key))
    y, s = rng.gamma(0.7, 9.0, (2, n)) + 1e-3
    y[: int(zeros)] = 0
    w = rng.random(n) + 0.1 if weigh else None
    got = metrics.evaluate("regression", y, s, w)
    tweedie = sk.mean_tweedie_deviance(y, s, sample_weight=w, power=1.5)
    assert got["tweedie_deviance"] == pytest.approx(tweedie, rel=1e-8, abs=1e-12)
    if zeros:
        assert got["gamma_deviance"] is None
    else:
        assert got["gamma_deviance"] == pytest.approx(sk.mean_gamma_deviance(y, s, sample_weight=w), rel=1e-8)


@pytest.mark.parametrize(("y", "s"), [([1.0, -1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0, 0.0])])
def test_deviances_of_what_is_no_amount_are_none(y: list[float], s: list[float]) -> None:
    got = metrics.evaluate("regression", y, s)
    assert got["gamma_deviance"] is got["tweedie_deviance"] is None
    assert metrics.evaluate("regression", [1e100], [1e-300])["gamma_deviance"] is None


def test_r2_of_constant_labels_is_none() -> None:
    assert metrics.evaluate("regression", [0.1, 0.1, 0.1], [0.0, 0.1, 0.2])["r2"] is None


def test_quick_metrics_are_the_full_ones() -> None:
    rng = np.random.Generator(np.random.Philox(key=1))
    y, p = rng.integers(0, 2, 50), rng.random(50)
    full, quick = (metrics.evaluate("binary", y, p, full=f) for f in (True, False))
    assert quick == {name: full[name] for name in metrics.names("binary", full=False)}
    assert set(quick) == {"auroc", "accuracy", "log_loss", "brier"}


def test_log_loss_rows_over_lanes() -> None:
    rng = np.random.Generator(np.random.Philox(key=2))
    y, p = rng.integers(0, 2, 20), rng.random((3, 20))
    rows = metrics.log_loss_rows("binary", y, p)
    assert rows.shape == (3, 20)
    for lane in range(3):
        assert rows[lane].mean() == pytest.approx(sk.log_loss(y, p[lane]))
    labels, q = rng.integers(0, 4, 20), rng.dirichlet(np.ones(4), (3, 2, 20))
    rows = metrics.log_loss_rows("multiclass", labels, q)
    assert rows.shape == (3, 2, 20)
    assert rows[1, 1].mean() == pytest.approx(sk.log_loss(labels, q[1, 1], labels=range(4)))
    values = metrics.log_loss_rows("regression", [1.0, 2.0], [[1.5, 2.0], [0.0, 4.0]])
    np.testing.assert_array_equal(values, [[0.25, 0.0], [1.0, 4.0]])
    assert math.isnan(metrics.log_loss_rows("binary", [1], [math.nan])[0])


def test_aggregates_by_hand() -> None:
    clients: list[dict[str, float | None]] = [
        {"auroc": 0.8, "brier": 0.2, "calibration_slope": 0.7, "calibration_intercept": -0.3},
        {"auroc": None, "brier": 0.1, "calibration_slope": 1.4, "calibration_intercept": 0.2},
        {"auroc": 0.6, "brier": 0.3, "calibration_slope": None, "calibration_intercept": 0.1},
    ]
    got = metrics.aggregates(clients, [10, 20, 30])
    assert got["auroc"] == {
        "mean": pytest.approx(0.7),
        "weighted_mean": pytest.approx((8 + 18) / 40),
        "worst": 0.6,
        "undefined": 1,
    }
    assert got["brier"]["worst"] == 0.3 and got["brier"]["undefined"] == 0
    assert got["brier"]["weighted_mean"] == pytest.approx((2 + 2 + 9) / 60)
    assert got["calibration_slope"]["worst"] == 1.4  # 0.4 from 1, against 0.3
    assert got["calibration_intercept"]["worst"] == -0.3
    nothing = metrics.aggregates([{"auroc": None}], [5])["auroc"]
    assert nothing == {"mean": None, "weighted_mean": None, "worst": None, "undefined": 1}


def test_every_metric_has_a_direction() -> None:
    for kind in ("binary", "multiclass", "regression"):
        for name in metrics.names(kind):
            assert (name in metrics.HIGHER_IS_BETTER) != (name in metrics.TARGET)
            assert metrics.direction(name) is metrics.HIGHER_IS_BETTER.get(name)
    assert metrics.direction("net_benefit_0.1") is metrics.direction("net_benefit_all_0.25") is True
    assert metrics.direction("n") is None


@pytest.mark.parametrize(
    ("kind", "y", "scores", "words"),
    [
        ("binary", [0, 1], [0.5, 2.0], "apply the sigmoid"),
        ("binary", [0, 2], [0.5, 0.6], "labels must be 0 or 1"),
        ("binary", [0, 1, 1], [0.5, 0.6], "do not fit"),
        ("multiclass", [0, 3], [[0.5, 0.5], [0.5, 0.5]], "labels must be in"),
        ("ranking", [0], [0.5], "kind must be one of"),
    ],
)
def test_wrong_input_is_refused(kind: str, y: Any, scores: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        metrics.evaluate(kind, y, scores)
