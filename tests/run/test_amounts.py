# mypy: disable-error-code="arg-type, index, operator, union-attr"
"""Regressions of amounts over clients against scikit-learn on all rows, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import GammaRegressor, LogisticRegression, TweedieRegressor

from fedsim.algorithms.newton import CONVERGED
from fedsim.base import RequestError
from fedsim.data.federation import Federation
from fedsim.run import amounts, regression
from tests.run.test_regression import NAMES, NUMERICS, REGIONS, fitted, of
from tests.simulate import small

LONG = ("weighted",)
ZERO, SHAPE = 0.4, 1.7


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def stays(n: int = 400, zeros: bool = False, unit: float = 1.0, weighted: bool = False) -> Federation:
    """Four uneven regions, of which one has one sex; amounts of about 8 units, gamma distributed, or 0."""
    rng = np.random.default_rng(5)
    owner = rng.choice(4, n, p=[0.55, 0.3, 0.1, 0.05])
    x = np.column_stack([rng.normal(70, 9, n).round(), rng.random(n) < 0.5, rng.lognormal(4.5, 0.4, n)])
    x[owner == 1, 1] = 1
    mean = np.exp(2 + 0.03 * (x[:, 0] - 70) + 0.4 * x[:, 1] - 0.003 * (x[:, 2] - 90))
    y = rng.gamma(SHAPE, mean / SHAPE)
    if zeros:
        y[rng.random(n) < 1 / (1 + np.exp(0.05 * (x[:, 0] - 70) + 0.3))] = 0
    columns = {"x": x.astype(np.float32), "y": (unit * y).astype(np.float32)}
    if weighted:
        columns["weight"] = rng.integers(0, 4, n).astype(np.float32)
    return of([REGIONS[k] for k in owner], "regression", columns)


def arrays(fed: Federation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, labels, weights) in float64."""
    x, y = (fed.columns[name].astype(np.float64) for name in "xy")
    w = fed.columns.get("weight", np.ones(len(y), np.float32)).astype(np.float64)
    return x, y, w


@pytest.mark.parametrize("case", ["plain", "weighted"])
def test_gamma_from_sums_is_the_pooled_fit(case: str) -> None:
    fed = stays(weighted=case == "weighted")
    found, fit, *_ = fitted(fed, {"name": "gamma", "typical": 5.0}, rounds=14)
    x, y, w = arrays(fed)
    assert found["converged"] and found["events"] is None and found["log_likelihood"] is None
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    for known in (
        GammaRegressor(alpha=0, solver="newton-cholesky", tol=1e-12, max_iter=200),
        TweedieRegressor(power=2, link="log", alpha=0, solver="newton-cholesky", tol=1e-12, max_iter=200),
    ):
        known.fit(scaled, y, sample_weight=w)
        slopes = known.coef_ / x.std(axis=0)
        theta = np.append(known.intercept_ - slopes @ x.mean(axis=0), slopes)
        mine = [found["coefficients"][name]["estimate"] for name in ("intercept", *NAMES)]
        np.testing.assert_allclose(mine, theta, rtol=1e-6, atol=1e-9)

    # Errors are those of greatest likelihood over coefficients and shape together.
    design = np.column_stack([np.ones(len(x)), scaled])

    def minus_log_likelihood(at: np.ndarray) -> float:
        mean, shape = np.exp(design @ at[:-1]), np.exp(at[-1])
        return -float(w @ stats.gamma.logpdf(y, shape, scale=mean / shape))

    shape = 1 / found["dispersion"]
    assert shape == pytest.approx(SHAPE, rel=0.15)
    best = np.concatenate([[known.intercept_], known.coef_, [np.log(shape)]])
    hessian = second_differences(minus_log_likelihood, best)
    errors = np.sqrt(np.diagonal(np.linalg.inv(hessian)))[1:4] / x.std(axis=0)
    mine = [found["coefficients"][name]["standard_error"] for name in NAMES]
    np.testing.assert_allclose(mine, errors, rtol=1e-4)
    step = 1e-3 * np.eye(5)[4]
    around = [minus_log_likelihood(best + k * step) for k in (-1, 0, 1)]
    assert around[1] < min(around[0], around[2])
    male = found["coefficients"]["male"]
    assert male["z"] == pytest.approx(male["estimate"] / male["standard_error"])
    assert male["p"] == pytest.approx(2 * stats.norm.sf(abs(male["z"])))
    assert male["mean_ratio_high"] == pytest.approx(np.exp(male["high"]))
    assert int(fit.status) == CONVERGED


def second_differences(of: Any, at: np.ndarray, h: float = 1e-3) -> np.ndarray:
    e = h * np.eye(len(at))
    return np.array(
        [
            [(of(at + a + b) - of(at + a - b) - of(at - a + b) + of(at - a - b)) / (4 * h * h) for b in e]
            for a in e
        ]
    )


def test_a_ridge_is_scikit_learn_s() -> None:
    """Half the mean deviance + alpha / 2 |w|^2, for both."""
    fed = stays()
    found, fit, *_ = fitted(fed, {"name": "gamma", "typical": 5.0, "l2": 0.3}, rounds=14)
    x, y, _ = arrays(fed)
    known = GammaRegressor(alpha=0.3, solver="newton-cholesky", tol=1e-12, max_iter=200)
    known.fit((x - x.mean(axis=0)) / x.std(axis=0), y)
    np.testing.assert_allclose(fit.kept, np.append(known.intercept_, known.coef_), rtol=1e-5)
    assert found["penalised"] and found["dispersion"] is None and found["wald"] is None


@pytest.mark.parametrize("typical", [0.1, 700.0])
def test_a_start_that_is_far_ends_at_the_same_fit(typical: float) -> None:
    fed = stays()
    near, far = (fitted(fed, {"name": "gamma", "typical": t}, rounds=40)[1].kept for t in (8.0, typical))
    np.testing.assert_allclose(far, near, rtol=1e-8)


@pytest.mark.long
def test_two_parts_by_gradients_are_both_pooled_fits() -> None:
    fed = stays(zeros=True, unit=1000.0)
    e = small.experiment(
        algorithm={"name": "fedsgd", "server_step_size": 1.5},
        world="all",
        task={"name": "two_part", "typical": 5000.0},
        split={"test": 0.0},
        data={"preprocess": {"scope": "federated"}},
        numerics=NUMERICS,
        rounds=200,
    )
    trained = small.train([small.lane(e, fed)], fed)
    ((_, (weights, intercepts)),) = trained.engine.models(trained.handles)
    x, y, _ = arrays(fed)
    scaled, some = (x - x.mean(axis=0)) / x.std(axis=0), y > 0
    assert 0.3 < some.mean() < 0.8
    whether = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky").fit(scaled, some)
    much = GammaRegressor(alpha=0, tol=1e-10, solver="newton-cholesky").fit(scaled[some], y[some])
    np.testing.assert_allclose(weights.T, [whether.coef_[0], much.coef_], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(intercepts, [whether.intercept_[0], much.intercept_], rtol=1e-4, atol=1e-5)


# --- what is refused -------------------------------------------------------------------------


def changed(fed: Federation, row: int, value: float) -> Federation:
    y = fed.columns["y"].copy()
    y[row] = value
    return replace(fed, columns=fed.columns | {"y": y})


def asked(name: str, fed: Federation, **options: Any) -> None:
    amounts.check(small.experiment(task={"name": name, "typical": 8.0} | options), fed)


@pytest.mark.parametrize("name", ["gamma", "two_part"])
@pytest.mark.parametrize("value", [-2.5, -1e-6])
def test_what_is_no_amount_is_refused_with_its_row(name: str, value: float) -> None:
    fed = stays()
    asked(name, fed)
    place = int(fed.offsets[1]) + 6
    message = (
        rf"task={name} needs amounts of 0 and above, and 1 of 400 .* first {value:g} in row 7 of Kronoberg;"
    )
    with pytest.raises(RequestError, match=message):
        asked(name, changed(fed, place, value))


def test_zeros_go_to_two_parts() -> None:
    fed = changed(stays(), 0, 0.0)
    with pytest.raises(RequestError, match=r"above 0, .* first 0 in row 1 of Halland; use task=two_part"):
        asked("gamma", fed)
    asked("two_part", fed)
    nothing = replace(fed, columns=fed.columns | {"y": np.zeros(fed.rows, np.float32)})
    with pytest.raises(RequestError, match="all 400 labels are 0"):
        asked("two_part", nothing)


@pytest.mark.parametrize("unit", [1e4, 1e-4])
def test_a_start_beyond_reason_is_refused(unit: float) -> None:
    with pytest.raises(RequestError, match=r"task.typical=8 .*more than 100 times away; set task.typical=\d"):
        asked("gamma", stays(unit=unit))


@pytest.mark.parametrize("changes", [{"split": "concept"}, {"attack": {"name": "label_flip", "share": 0.3}}])
def test_what_makes_amounts_negative_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="amounts must not be negative; choose another"):
        small.experiment(task="gamma", **changes)


def test_two_parts_have_no_exact_fit() -> None:
    fed = stays(zeros=True)
    e = small.experiment(algorithm="newton", task="two_part", numerics=NUMERICS)
    with pytest.raises(RequestError, match="linear models of one output"):
        small.engine([small.lane(e, fed)], fed)


def test_amounts_that_all_equal_their_means_have_no_dispersion() -> None:
    assert np.isnan(regression.dispersion(0.0))
