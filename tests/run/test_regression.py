# mypy: disable-error-code="arg-type, call-arg, index, misc, operator, union-attr"
"""Exact regressions from sums, against pooled fits: loops in NumPy, scikit-learn, published figures."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from fedsim.algorithms.newton import CONVERGED, Fit
from fedsim.base import RequestError
from fedsim.config import Table
from fedsim.data.federation import Federation, gather
from fedsim.run import regression
from fedsim.simulate import build, widths
from tests.simulate import small
from tests.tasks.test_survival import partial_likelihood

LONG = ("breslow", "breslow stratified", "efron stratified", "linear", "single", "lasso of cox")
NUMERICS: dict[str, Any] = {"dtype": "float64", "x64": True, "block": None, "group": None}
NAMES = ("age", "male", "creatinine")
REGIONS = ("Halland", "Kronoberg", "Skåne", "Örebro")


@pytest.fixture(autouse=True)
def wide() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def patients(kind: str, n: int = 240, seed: int = 0, **columns: Any) -> Federation:
    """Four uneven regions: weighted rows, tied times, missing values, one region with one sex and one without
    any event."""
    rng = np.random.default_rng(seed)
    owner = rng.choice(4, n, p=[0.55, 0.3, 0.1, 0.05])
    x = np.column_stack([rng.normal(70, 9, n).round(), rng.random(n) < 0.5, rng.lognormal(4.5, 0.4, n)])
    x[owner == 1, 1] = 1
    eta = 0.05 * (x[:, 0] - 70) + 0.4 * x[:, 1] + 0.004 * (x[:, 2] - 90)
    x[rng.random(n) < 0.1, 2] = np.nan
    found: dict[str, Any] = {"weight": rng.integers(0, 4, n).astype(np.float32)}
    if kind == "survival":
        time = np.ceil(8 * rng.exponential(size=n) / np.exp(eta))
        censored = np.ceil(rng.uniform(0.5, 20, n))
        found |= {"y": ((time <= censored) & (owner != 3)).astype(np.int32)}
        found |= {"time": np.minimum(time, censored).astype(np.float32)}
    elif kind == "binary":
        found["y"] = (eta + rng.logistic(size=n) > 0.3).astype(np.int32)
    else:
        found["y"] = (eta + rng.normal(size=n)).astype(np.float32)
    return of([REGIONS[k] for k in owner], kind, {"x": x.astype(np.float32)} | found | columns)


def of(owner: Any, kind: str, columns: dict[str, Any], names: tuple[str, ...] = NAMES) -> Federation:
    return gather(
        owner,
        columns,
        kind=kind,
        classes=0 if kind == "regression" else 2,
        features=names,
        licence="none",
        source="test",
    )


def fitted(fed: Federation, task: Any, algorithm: Any = "newton", rounds: int = 12, **changes: Any) -> Any:
    """(what is reported, the server's state, the rows as the model saw them before scaling, the training)."""
    chosen = {"name": "newton"} | (algorithm if isinstance(algorithm, dict) else {})
    e = small.experiment(
        algorithm=chosen,
        task={"l2": 0.0} | ({} if task["name"] in ("linear", "gamma") else {"init": "zeros"}) | task,
        split={"test": 0.0},
        data={"preprocess": {"scope": "federated"}},
        numerics=NUMERICS,
        rounds=rounds,
        **changes,
    )
    lane = small.lane(e, fed)
    regression.check(e, fed, [lane])
    trained = small.train([lane], fed)
    (fit,) = regression.fits(e, trained.engine, trained.handles)
    x = fed.columns["x"].astype(np.float64)
    x = np.where(np.isnan(x), lane.constants.impute[0].astype(np.float64), x)
    return regression.table(e, fed, [lane], fit), fit, x, trained


def maximum(loss: Any, size: int) -> tuple[float, np.ndarray, np.ndarray]:
    """(loss, place, Hessian) at the minimum of theta -> (loss, gradient, Hessian), by Newton's method."""
    theta = np.zeros(size)
    for _ in range(30):
        value, gradient, hessian = loss(theta)
        theta = theta - np.linalg.solve(hessian, gradient)
    value, _, hessian = loss(theta)
    return value, theta, hessian


def cox_loss(fed: Federation, x: np.ndarray, ties: str, stratified: bool) -> Any:
    c = fed.columns
    owner = fed.client_of_row() if stratified else np.zeros(fed.rows, int)
    # Rows that weigh nothing are nobody's, and tied events count their number.
    some = [(owner == k) & (c["weight"] > 0) for k in np.unique(owner)]

    def loss(theta: np.ndarray) -> Any:
        parts = [
            partial_likelihood(theta, x[m], c["time"][m], c["y"][m] > 0, c["weight"][m].astype(float), ties)
            for m in some
        ]
        return tuple(sum(part) for part in zip(*parts, strict=True))

    return loss


def agrees(found: dict[str, Any], names: tuple[str, ...], estimate: Any, covariance: Any) -> None:
    """Estimates and standard errors to 1e-8, and what follows from them."""
    assert list(found["coefficients"]) == list(names)
    for name, value, error in zip(names, estimate, np.sqrt(np.diagonal(covariance)), strict=True):
        of = found["coefficients"][name]
        assert of["estimate"] == pytest.approx(value, rel=1e-8, abs=1e-8)
        assert of["standard_error"] == pytest.approx(error, rel=1e-8)
        if "z" in of:
            assert of["z"] == pytest.approx(value / error, rel=1e-6)
            assert of["p"] == pytest.approx(2 * stats.norm.sf(abs(value / error)), rel=1e-6)
            assert of["low"] == pytest.approx(value - 1.959963984540054 * error, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("case", ["efron", "breslow", "efron stratified", "breslow stratified"])
def test_cox_is_the_pooled_fit(case: str) -> None:
    ties, _, stratified = case.partition(" ")
    fed = patients("survival")
    found, fit, x, _ = fitted(fed, {"name": "cox", "ties": ties}, {"stratified": bool(stratified)})
    loss = cox_loss(fed, x, ties, bool(stratified))
    value, theta, hessian = maximum(loss, 3)
    assert found["converged"] and found["events"] == int(fed.columns["y"].sum())
    agrees(found, NAMES, theta, np.linalg.inv(hessian))
    assert found["log_likelihood"] == pytest.approx(-value, rel=1e-10)
    null = loss(np.zeros(3))[0]
    assert found["likelihood_ratio"]["chi2"] == pytest.approx(2 * (null - value), rel=1e-8)
    assert found["wald"]["chi2"] == pytest.approx(theta @ hessian @ theta, rel=1e-8)
    ratio = found["coefficients"]["male"]
    assert ratio["hazard_ratio"] == pytest.approx(np.exp(theta[1]), rel=1e-8)
    assert isinstance(fit.hazard, tuple) == bool(stratified)


@pytest.mark.parametrize("case", ["efron", "breslow"])
def test_the_baseline_hazard(case: str) -> None:
    fed = patients("survival")
    found, fit, x, trained = fitted(fed, {"name": "cox", "ties": case})
    arrays = regression.baseline(trained.engine, fit)
    c = fed.columns
    theta = np.array([found["coefficients"][name]["estimate"] for name in NAMES])
    centre = small.lane(trained.engine.lanes[0].experiment, fed).constants.shift[0].astype(np.float64)
    weight = c["weight"].astype(np.float64)
    r = weight * np.exp((x - centre) @ theta)
    total, events = 0.0, (c["y"] > 0) & (weight > 0)
    for time, cumulated in zip(*arrays.values(), strict=True):
        tied = events & (c["time"] == time)
        d = int(tied.sum())
        for k in range(d):
            gone = k / d if case == "efron" else 0.0
            total += weight[tied].mean() / (r[c["time"] >= time].sum() - gone * r[tied].sum())
        assert cumulated == pytest.approx(total, rel=1e-8)


@pytest.mark.parametrize(
    ("case", "estimate", "error"), [("efron", 1.5721, 0.4124), ("breslow", 1.5092, 0.4096)]
)
def test_published_figures(case: str, estimate: float, error: float) -> None:
    """Remission of leukaemia (Freireich et al., Blood 1963; Cox 1972, Table 1), as in Therneau and Grambsch,
    "Modeling Survival Data", 2000, section 3.3: 6-MP against placebo, many tied."""
    treated = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    time = np.array(treated + censored + placebo, np.float32)
    y = np.repeat([1, 0, 1], [9, 12, 21]).astype(np.int32)
    x = np.repeat([0, 1], 21).astype(np.float32)[:, None]
    owner = [("east", "north", "west")[i % 3] for i in range(42)]
    fed = of(owner, "survival", {"x": x, "y": y, "time": time}, ("placebo",))
    found, *_ = fitted(fed, {"name": "cox", "ties": case})
    mine = found["coefficients"]["placebo"]
    assert mine["estimate"] == pytest.approx(estimate, abs=6e-5)
    assert mine["standard_error"] == pytest.approx(error, abs=6e-5)


def test_logistic_is_the_pooled_fit() -> None:
    fed = patients("binary")
    found, _, x, _ = fitted(fed, {"name": "logistic"})
    w, y = fed.columns["weight"].astype(float), fed.columns["y"]
    design = np.column_stack([np.ones(len(x)), x])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    other = LogisticRegression(C=np.inf, tol=1e-12, max_iter=500, solver="newton-cholesky")
    other.fit(scaled, y, sample_weight=w)
    slopes = other.coef_[0] / x.std(axis=0)
    theta = np.append(other.intercept_ - slopes @ x.mean(axis=0), slopes)
    p = 1 / (1 + np.exp(-design @ theta))
    covariance = np.linalg.inv((design.T * (w * p * (1 - p))) @ design)
    agrees(found, ("intercept", *NAMES), theta, covariance)
    likelihood = float(np.sum(w * np.where(y > 0, np.log(p), np.log1p(-p))))
    assert found["log_likelihood"] == pytest.approx(likelihood, rel=1e-10)
    assert found["coefficients"]["male"]["odds_ratio"] == pytest.approx(np.exp(theta[2]), rel=1e-8)
    assert found["coefficients"]["intercept"]["odds_ratio_high"] is not None


@pytest.mark.parametrize("case", ["linear"])
def test_linear_is_the_pooled_fit(case: str) -> None:
    fed = patients("regression", weight=np.ones(240, np.float32))
    found, _, x, _ = fitted(fed, {"name": case})
    design, y = np.column_stack([np.ones(len(x)), x]), fed.columns["y"].astype(float)
    theta, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - 4
    covariance = np.linalg.inv(design.T @ design) * squares[0] / df
    agrees(found, ("intercept", *NAMES), theta, covariance)
    age = found["coefficients"]["age"]
    t = theta[1] / np.sqrt(covariance[1, 1])
    assert age["p"] == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-6)
    assert age["high"] == pytest.approx(theta[1] + stats.t.ppf(0.975, df) * t**-1 * theta[1], rel=1e-7)
    assert found["steps"] == 1


# --- penalties -------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "kind"), [("lasso of logistic", "binary"), ("lasso of cox", "survival")])
def test_elastic_net_is_at_its_minimum(case: str, kind: str) -> None:
    """The conditions of first order, which a convex sum's only minimum has."""
    fed = patients(kind)
    task = {"name": "cox" if kind == "survival" else "logistic", "l2": 0.02}
    found, fit, x, trained = fitted(fed, task, {"l1": 0.05})
    constants = trained.engine.lanes[0].constants
    z = (x - constants.shift[0].astype(float)) * constants.scale[0].astype(float)
    w, theta = fed.columns["weight"].astype(float), fit.kept
    if kind == "survival":
        gradient = cox_loss(fed, z, "efron", False)(theta)[1]
    else:
        design = np.column_stack([np.ones(len(z)), z])
        gradient = design.T @ (w * (1 / (1 + np.exp(-design @ theta)) - fed.columns["y"]))
        assert abs(gradient[0]) < 1e-7  # the intercept is free
        gradient, theta = gradient[1:], theta[1:]
    slope = gradient / w.sum() + 0.02 * theta
    np.testing.assert_allclose(slope[theta != 0], -0.05 * np.sign(theta[theta != 0]), atol=1e-9)
    assert (np.abs(slope[theta == 0]) <= 0.05).all()
    assert 0 < (theta != 0).sum() < 3  # something is left out, and not everything
    assert found["penalised"] and found["coefficients"]["age"]["standard_error"] is None
    assert found["wald"] is None and int(fit.status) == CONVERGED


# --- what is hard, or has no answer ----------------------------------------------------------


@pytest.mark.long
def test_separated_rows_have_no_fit_but_by_a_ridge() -> None:
    x = np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32)
    fed = of(["a", "b"] * 40, "binary", {"x": x, "y": (x[:, 1] > 0.2).astype(np.int32)})
    found, fit, *_ = fitted(fed, {"name": "logistic"}, rounds=40)
    why = regression.failed(fit, NAMES)
    assert (
        found is None and why is not None and "male" in why and "grow without end" in why and "task.l2" in why
    )
    found, fit, *_ = fitted(fed, {"name": "logistic", "l2": 0.001}, rounds=40)
    assert regression.failed(fit, NAMES) is None and found["converged"]
    assert found["coefficients"]["male"]["estimate"] > 1


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.zeros(240), "creatinine does not vary"),
        (None, "age, creatinine follow from one another"),
    ],
)
def test_columns_without_information_are_named(column: Any, message: str) -> None:
    fed = patients("survival")
    x = fed.columns["x"].copy()
    x[:, 2] = 2 * x[:, 0] + 1 if column is None else column
    changed = replace(fed, columns=fed.columns | {"x": x})
    _, fit, *_ = fitted(changed, {"name": "cox", "ties": "efron"})
    why = regression.failed(fit, NAMES)
    assert why is not None and message in why and "data.drop" in why


@pytest.mark.parametrize("case", ["single"])
def test_one_time_for_all(case: str) -> None:
    """Everybody's risk set is everybody, and most are tied."""
    fed = patients("survival", time=np.full(240, 5, np.float32))
    found, _, x, _ = fitted(fed, {"name": "cox"})
    _, theta, hessian = maximum(cox_loss(fed, x, "efron", False), 3)
    agrees(found, NAMES, theta, np.linalg.inv(hessian))


@pytest.mark.long
def test_what_lasts_after_the_end() -> None:
    fed, task = patients("survival"), {"name": "cox"}
    first, last = (fitted(fed, task, rounds=rounds) for rounds in (8, 14))
    assert first[0]["converged"] and first[0]["steps"] < 8
    small.assert_same_bits(first[1], last[1])
    assert fitted(fed, task, rounds=2)[0]["converged"] is False


@pytest.mark.long
@pytest.mark.parametrize("kind", ["survival", "binary"])
def test_workers_share_clients_bit_for_bit(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = widths._TUNING["cpu"]._replace(round_flops=0.0, ticket_flops=1.0)
    monkeypatch.setitem(widths._TUNING, "cpu", tuning)
    monkeypatch.setattr(build, "_KNOWN", {})
    *_, trained = fitted(patients(kind), {"name": "cox" if kind == "survival" else "logistic"})
    assert trained.engine.widths.shared and trained.engine.widths.tickets > 1
    lane = trained.engine.lanes[0]
    two = small.train([lane], patients(kind), devices=2)
    small.assert_same_bits(two.states, trained.states)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel": "qsgd"}, "channel=qsgd sends messages that are no longer exact; set channel=direct"),
        ({"privacy": "gaussian"}, "privacy=gaussian bounds or noises"),
        ({"privacy": {"name": "record", "noise_multiplier": 1.0}}, "asks for sums of second derivatives"),
        ({"secure": "bonawitz"}, "secure=bonawitz sums numbers in fixed point"),
        (
            {"aggregator": "median"},
            "aggregator=median takes the place of a mean.*algorithm=newton takes none",
        ),
        ({"attack": {"name": "sign_flip", "share": 0.3}}, "attack=sign_flip sends others"),
        ({"world": {"name": "uniform", "cohort": 2}}, "some may be missing.*world=all"),
        ({"task": {"name": "mlp"}}, "linear models of one output"),
    ],
)
def test_what_would_change_the_sums_is_refused(changes: dict[str, Any], message: str) -> None:
    e = small.experiment(algorithm="newton", **changes)
    with pytest.raises(RequestError, match=message):
        small.engine([small.lane(e)])


def test_a_label_of_three_values_is_named_with_them() -> None:
    fed = patients("binary")
    labels = ("alive", "dead", "lost")
    y = (np.arange(fed.rows) % 3).astype(np.int32)
    three = replace(fed, kind="multiclass", classes=3, labels=labels, columns=fed.columns | {"y": y})
    e = small.experiment(algorithm="newton", task={"name": "logistic", "init": "zeros"}, numerics=NUMERICS)
    mine = replace(e, data=Table(path="mine.csv", client="region", label="status"))
    lane = small.lane(e, three)
    words = r"has 3 values \(alive, dead, lost\); make a label of two .* algorithm=fedavg with task=logistic"
    for asked, label in ((e, "the label"), (mine, r"column 'status' \(data.label\)")):
        with pytest.raises(RequestError, match=f"algorithm=newton fits two classes, and {label} {words}"):
            small.engine([replace(lane, experiment=asked)], three)


def test_requests_that_no_fit_can_answer() -> None:
    fed = patients("survival")
    e = small.experiment(algorithm="newton", task={"name": "cox", "init": "zeros"}, numerics=NUMERICS)
    lane = small.lane(e, fed)
    with pytest.raises(RequestError, match=r"dtype=float32 rounds.*set numerics=float64"):
        regression.check(replace(e, numerics=replace(e.numerics, dtype="float32")), fed, [lane])
    censored = replace(fed, columns=fed.columns | {"y": (np.arange(fed.rows) == 0).astype(np.int32)})
    part = replace(lane.clients, train=np.where(np.arange(4) == 1, lane.clients.train, 0).astype(np.int32))
    with pytest.raises(RequestError, match=r"no training row of .* has an event"):
        regression.check(e, censored, [replace(lane, clients=part)])
    stratified = replace(e, algorithm=replace(e.algorithm, stratified=True))
    with pytest.raises(RequestError, match="task=cox alone"):
        regression.check(stratified, patients("binary"), [lane])


def test_too_many_times_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MOST_TIMES", 5)
    e = small.experiment(algorithm="newton", task={"name": "cox"}, numerics=NUMERICS)
    with pytest.raises(RequestError, match="5 is the most; round the times"):
        build.event_times(e, patients("survival"))


def test_a_fit_has_a_name_for_every_number() -> None:
    fit = Fit(*[np.zeros(3)] * 11)
    assert regression.names_of(fit, ("a", "b")) == ["intercept", "a", "b"]
    assert regression.names_of(fit, ("a", "b", "c")) == ["a", "b", "c"]
