# mypy: disable-error-code="arg-type, misc, operator, union-attr"
"""Updates of a frozen discrete-time model: intervals, fits against scikit-learn, level of the closed test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from fedsim import config
from fedsim.base import RequestError
from fedsim.config.validation import ORDER
from fedsim.model import Spec
from fedsim.run.absolute import ends
from fedsim.tasks import build
from fedsim.validation.discrete import Discrete, intervals_to
from fedsim.validation.periods import after, fit_update, log_cumulative, shared
from fedsim.validation.scoring import periods_of
from fedsim.validation.updates import choose
from tests.validation import made


def all_of(rows):
    return [fit_update(name, rows.x, rows.periods, made.BASELINE) for name in ORDER]


@pytest.mark.parametrize(("hidden", "surviving"), [((), 0.5), ((4,), 1.0)])
def test_the_likelihood_of_the_frozen_model_is_the_tasks_own_loss(hidden, surviving):
    """Times on ends and middles of intervals, and past the horizon, with an event and without."""
    cfg = config.SurvivalDiscrete(
        bins=4, horizon=40.0, hidden=hidden, surviving=surviving, proportional=hidden == ()
    )
    task = build(cfg, Spec((3,), "survival", 0), "float32")
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    model = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)
    cuts = np.append(0.0, ends(cfg)).astype(np.float32)
    time = np.concatenate([cuts, (cuts[1:] + cuts[:-1]) / 2, rng.uniform(0, 60, 30)]).repeat(2)
    y = np.arange(len(time)) % 2
    batch = {"x": jnp.asarray(rng.normal(size=(len(time), 3)), jnp.float32), "mask": jnp.ones(len(y), bool)}
    batch |= {"time": jnp.asarray(time, jnp.float32), "y": jnp.asarray(y)}
    losses, hazards, score, curve = jax.jit(
        lambda m, b: (task.loss(m, b, None)[0], task.hazards(m, b), task.predict(m, b), task.curve(m, b))
    )(model, batch)
    logits = np.asarray(hazards, np.float64)
    rows = periods_of(cfg, time.astype(np.float64), y.astype(np.float64), logits)
    for one in range(len(y)):
        mine = type(rows)(*(part[one : one + 1] for part in rows))
        found = fit_update("keep", None, mine).log_likelihood
        assert -found == pytest.approx(float(losses[one]), rel=1e-5, abs=1e-6), (time[one], y[one])
    np.testing.assert_allclose(log_cumulative(logits)[:, -1], score, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_cumulative(logits), curve, rtol=1e-5, atol=1e-6)
    fewer = periods_of(cfg, time.astype(np.float64), y.astype(np.float64), logits[:, :2])
    np.testing.assert_array_equal(fewer.failed, rows.failed[:, :2])
    np.testing.assert_array_equal(fewer.survived, rows.survived[:, :2])


def test_intervals_are_counted_as_by_hand():
    """Hazards differ by interval, so that one counted in another's place would be seen."""
    time, event = [0.2, 1.0, 2.5, 3.9, 4.0, 0.4, 0.5, 1.6, 9.0], [1, 1, 1, 1, 1, 0, 0, 0, 0]
    survived, failed = [0, 1, 2, 3, 4, 0, 1, 2, 4], [0, 1, 2, 3, None, None, None, None, None]
    x = np.random.default_rng(0).normal(size=(9, 3))
    h = special.expit(made.hazards(x))
    cfg = config.SurvivalDiscrete(bins=4, horizon=4.0)
    rows = periods_of(cfg, np.array(time), np.array(event, np.float64), made.hazards(x))
    for one in (rows, made.of_intervals("S", x, np.array(event) == 1, time, made.hazards(x)).periods):
        for i in range(9):
            mine = type(one)(*(part[i : i + 1] for part in one))
            wanted = np.log(1 - h[i, : survived[i]]).sum()
            wanted += 0 if failed[i] is None else np.log(h[i, failed[i]])
            assert fit_update("keep", None, mine).log_likelihood == pytest.approx(wanted), i


def test_probabilities_are_one_less_the_product_of_what_survives():
    z = np.random.default_rng(1).normal(-1, 2, (20, 5))
    wanted = 1 - np.cumprod(1 - special.expit(z), axis=1)
    np.testing.assert_allclose(-np.expm1(-np.exp(log_cumulative(z))), wanted)
    far = log_cumulative(np.array([[-2000.0, -800.0], [900.0, 0.0]]))
    np.testing.assert_allclose(far, [[-2000.0, -800.0], [np.log(900.0)] * 2], rtol=1e-3)


def person_periods(rows):
    """A row for each interval at risk, from times: (dummies of intervals, features, frozen logits, event)."""
    found = []
    for i, (t, event) in enumerate(zip(rows.time, rows.y, strict=True)):
        for k in range(4):
            if (event and t >= k) or (not event and t >= k + 0.5):
                found.append((np.eye(4)[k], rows.x[i], rows.periods.logits[i, k], event and k <= t < k + 1))
    d, x, z, y = (np.array(part) for part in zip(*found, strict=True))
    return d, x, z, y.astype(np.float64)


def fitted_by_sklearn(columns, y, intercept=False):
    found = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000, fit_intercept=intercept).fit(columns, y)
    p = found.predict_proba(columns)[:, 1]
    return found, float(np.sum(np.log(np.where(y == 1, p, 1 - p))))


def test_fits_are_scikit_learns_on_rows_of_persons_and_periods():
    rows = made.in_intervals("S", 800, 3, truth=lambda x: 0.3 + 0.7 * made.hazards(x[:, ::-1]))
    d, x, z, y = person_periods(rows)
    keep, intercept, slope, refit = all_of(rows)
    assert [u.parameters for u in (keep, intercept, slope, refit)] == [0, 1, 2, 7]
    assert keep.log_likelihood == pytest.approx(np.sum(np.log(special.expit(np.where(y == 1, z, -z)))))
    (a,) = intercept.fit.coefficients
    assert special.expit(z + a).sum() == pytest.approx(y.sum())
    line, likelihood = fitted_by_sklearn(z[:, None], y, intercept=True)
    np.testing.assert_allclose(slope.fit.coefficients, [*line.intercept_, line.coef_[0, 0] - 1], atol=1e-4)
    assert slope.log_likelihood == pytest.approx(likelihood, abs=1e-5)
    whole, likelihood = fitted_by_sklearn(np.column_stack([d, x]), y)
    frozen = np.concatenate([made.BASELINE, made.WEIGHTS])
    np.testing.assert_allclose(frozen + refit.fit.coefficients, whole.coef_[0], atol=1e-4)
    assert refit.log_likelihood == pytest.approx(likelihood, abs=1e-5)
    p = whole.predict_proba(np.column_stack([d, x]))[:, 1]
    columns = np.column_stack([d, x])
    information = columns.T @ (columns * (p * (1 - p))[:, None])
    np.testing.assert_allclose(refit.fit.covariance, np.linalg.inv(information), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        after(refit, rows.x, rows.periods.logits),
        whole.coef_[0, :4] + (rows.x @ whole.coef_[0, 4:])[:, None],
        atol=1e-3,
    )
    tests = choose([keep, intercept, slope, refit], 0.05).tests
    assert [t.df for t in tests] == [7, 6, 5][: len(tests)]
    assert tests[0].statistic == pytest.approx(2 * (likelihood - keep.log_likelihood), abs=1e-4)


def test_intervals_with_few_events_share_a_change_and_slope_stays_inside_refit():
    rows = made.in_intervals("S", 300, 4)
    kept = rows.periods
    assert shared(kept).tolist() == [0, 1, 2, 3]
    failed = kept.failed.copy()
    failed[:, 1] = False
    failed[np.flatnonzero(failed[:, 3])[9:], 3] = False
    few = kept._replace(failed=failed)
    assert shared(few).tolist() == [0, 1, 1, 1]
    assert shared(few._replace(failed=np.zeros_like(failed))).tolist() == [0, 0, 0, 0]
    refit = fit_update("refit", rows.x, few, made.BASELINE)
    assert refit.parameters == 2 + 1 + 3 and not refit.separated
    steep = made.in_intervals("S", 80, 4, logits=lambda x: 2.5 * made.hazards(x))
    assert shared(steep.periods).tolist() == [0, 1, 1, 1]
    fitted = [fit_update(name, steep.x, steep.periods, 2.5 * made.BASELINE) for name in ORDER]
    likelihoods = [update.log_likelihood for update in fitted]
    assert likelihoods == sorted(likelihoods) and fitted[-1].parameters == 6


CASES = {
    "keep": made.hazards,
    "intercept": lambda x: 0.5 + made.hazards(x),
    "slope": lambda x: -0.8 + 0.4 * made.hazards(x),
    "refit": lambda x: made.BASELINE[::-1] + (x @ made.WEIGHTS)[:, None],  # at other times
}


@pytest.mark.parametrize("update", CASES)
def test_what_changed_is_what_is_chosen(update):
    """Far from the borders, so that 95 % of sites decide rightly: fewer than 16 of 20 once in 400."""
    sites = [made.in_intervals("S", 1500, seed, truth=CASES[update]) for seed in range(20)]
    chosen = [choose(all_of(rows), 0.05).update for rows in sites]
    assert chosen.count(update) >= 16, chosen


@pytest.mark.parametrize(
    ("n", "sites"), [(400, 100), *(pytest.param(n, 3000, marks=pytest.mark.long) for n in (60, 400))]
)
def test_a_right_model_is_given_up_at_the_level_of_the_test(n, sites):
    """At 400 patients all intervals have effects of their own, at 60 most share one."""
    found = [choose(all_of(made.in_intervals("S", n, seed)), 0.05).update for seed in range(sites)]
    low, high = stats.binom.ppf([0.001, 0.999], sites, 0.05)
    assert low <= sites - found.count("keep") <= high


@pytest.mark.long
@pytest.mark.parametrize("truth", ["intercept", "slope"])
def test_nothing_smaller_than_the_truth_is_given_up_too_often(truth):
    sites = [made.in_intervals("S", 1000, seed, truth=CASES[truth]) for seed in range(1000)]
    found = [choose(all_of(rows), 0.05).update for rows in sites]
    larger = sum(ORDER.index(update) > ORDER.index(truth) for update in found)
    assert larger <= stats.binom.ppf(0.999, 1000, 0.05)


def test_estimates_are_baselines_and_coefficients_of_the_site():
    truth = np.array([-1.5, -1.5, -1.0, -0.5])
    rows = made.in_intervals("S", 8000, 5, truth=lambda x: truth + (x @ made.WEIGHTS[::-1])[:, None])
    model = Discrete(made.CUTS, made.BASELINE)
    frozen = made.frozen(rows, [])
    told = {row["term"]: row for row in model.estimates(model.fit("refit", rows), frozen)}
    assert list(told) == [*(f"hazard, {k} to {k + 1}" for k in range(4)), *made.NAMES]
    wanted = [*truth, *made.WEIGHTS[::-1]]
    for row, value, old in zip(told.values(), wanted, [*made.BASELINE, *made.WEIGHTS], strict=True):
        assert made.near(row, value) and row["frozen"] == old and row["high"] - row["low"] < 0.3
    calibrated = made.in_intervals("S", 8000, 6, truth=lambda x: 0.3 + 0.6 * made.hazards(x))
    a, b = model.estimates(model.fit("slope", calibrated), frozen)
    assert made.near(a, 0.3) and made.near(b, 0.6) and b["frozen"] == 1.0


def test_a_feature_that_does_not_vary_keeps_its_coefficient_and_separation_makes_no_choice():
    rows = made.in_intervals("S", 200, 7)
    x = rows.x.copy()
    x[:, 1] = 0.7
    refit = fit_update("refit", x, rows.periods, made.BASELINE)
    assert refit.parameters == 6 and refit.fit.coefficients[5] == 0 and not refit.fit.kept[5]
    first = rows.periods._replace(
        **{part: getattr(rows.periods, part)[:, :1] for part in rows.periods._fields}
    )
    x = np.column_stack([first.failed, rows.x])
    parted = [fit_update(name, x, first, made.BASELINE[:1]) for name in ORDER]
    assert parted[-1].separated and choose(parted, 0.05).update is None
    held = fit_update("refit", x, first, made.BASELINE[:1], ridge=1.0)
    assert not held.separated and 0 < held.fit.coefficients[1] < 12


@pytest.mark.parametrize(
    ("horizon", "said"),
    [
        (500.0, "horizon=500 lies beyond the intervals of run a1, which end at 365; set horizon=365, "),
        (100.0, "from 73 to 146, of which the hazard is known as a whole; set horizon=73 or horizon=146"),
        (20.0, "from 0 to 73, of which the hazard is known as a whole; set horizon=73"),
    ],
)
def test_a_horizon_is_the_end_of_an_interval(horizon, said):
    cuts = np.linspace(0, 365, 6)
    with pytest.raises(RequestError) as error:
        intervals_to(cuts, horizon, "a1")
    assert said in str(error.value)
    assert [intervals_to(cuts, t, "a1") for t in (73, 146.0, 365)] == [1, 2, 5]
    uneven = np.append(0.0, ends(config.SurvivalDiscrete(bins=7, horizon=365.0, surviving=0.3)))
    assert [intervals_to(uneven, float(f"{t:g}"), "a1") for t in uneven[1:]] == list(range(1, 8))
