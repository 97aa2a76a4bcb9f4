import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.accounting import accountants
from fedsim.accounting.events import DiscreteGaussian
from fedsim.config.estimate import KaplanMeier
from fedsim.data.rng import generator
from fedsim.estimate.groups import Groups
from fedsim.estimate.kaplan_meier import send_noised
from fedsim.estimate.noise import calibrated, counted_rows, discrete_gaussian, discrete_laplace
from fedsim.estimate.sites import sites_of
from tests.estimate.made import survival


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.5])
@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
def test_draws_have_the_probabilities_of_the_paper(kind, scale):
    n, x = 200_000, np.arange(-60, 61)
    rng = generator(0, "test", kind, str(scale))
    draw = discrete_laplace if kind == "laplace" else discrete_gaussian
    weight = np.exp(-np.abs(x) / scale) if kind == "laplace" else np.exp(-(x**2) / (2 * scale**2))
    wanted = weight / weight.sum()
    found = draw(rng, scale, n)
    share = np.array([(found == v).mean() for v in x])
    # Every one of 121 shares within 5 deviations of a binomial share.
    assert (np.abs(share - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / n) + 1e-12).all()


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
def test_the_variance_that_intervals_use_is_that_of_the_draws(epsilon):
    noise = calibrated(KaplanMeier(epsilon=epsilon, horizon=1.0), 1, 41)
    drawn = noise.draw(200_000, "test")
    # The kurtosis of Laplace noise is 6, and more where it is mostly 0.
    error = math.sqrt(np.var(drawn.astype(float) ** 2) / len(drawn))
    assert np.mean(drawn.astype(float) ** 2) == pytest.approx(noise.variance, abs=5 * error)


@pytest.mark.parametrize("relation", ["add_or_remove_one", "replace_one"])
def test_laplace_noise_gives_the_epsilon_it_says(relation):
    cfg = KaplanMeier(epsilon=0.7, horizon=1.0, relation=relation, unit="patient", rows_per_patient=3)
    noise = calibrated(cfg, 1, 41)
    # The largest log ratio of probabilities, three counts being moved (and three others, when replaced).
    moved = 3 * (2 if relation == "replace_one" else 1)
    assert moved / noise.scale == pytest.approx(0.7)


def test_gaussian_noise_is_what_the_accountant_asks_for():
    cfg = KaplanMeier(epsilon=0.7, delta=1e-6, horizon=1.0, mechanism="discrete_gaussian")
    noise = calibrated(cfg, 1, 41)

    def spent(z):
        event = DiscreteGaussian(noise_multiplier=z, sensitivity=1.0, dimension=41)
        return accountants.epsilon([(event, 1)], 1e-6, "add_or_remove_one").epsilon

    assert spent(noise.multiplier) <= 0.7 < spent(noise.multiplier * 0.99)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9), st.booleans()), min_size=2, max_size=40))
def test_a_patient_moves_a_site_s_counts_by_no_more_than_the_rows_that_count(rows):
    """Without a patient they differ by at most rows_per_patient in the 1-norm, the noise being equal."""
    cfg = KaplanMeier(epsilon=1.0, horizon=8.0, bins=4, unit="patient", rows_per_patient=2)
    noise, groups = calibrated(cfg, 1, 9), Groups(("all",), None)

    def cells(kept):
        patient, time, _ = zip(*kept, strict=True)
        # One event somewhere, without which nothing may be read: at another site.
        fed = survival(
            ["a"] * len(kept) + ["b"],
            [*time, 1],
            [*(e for _, _, e in kept), 1],
            patient=np.array([*patient, 99]),
        )
        return send_noised(sites_of(fed)[0], groups, cfg, noise)["cells"]

    whole = cells(rows)
    for gone in {p for p, _, _ in rows}:
        left = [row for row in rows if row[0] != gone]
        if left:
            assert np.abs(whole - cells(left)).sum() <= 2


def test_the_first_rows_of_a_patient_count():
    cfg = KaplanMeier(epsilon=1.0, horizon=8.0, unit="patient", rows_per_patient=2)
    fed = survival("aaaaaa", [1, 2, 3, 4, 5, 6], [1] * 6, patient=np.array([7, 7, 7, 9, 4, 4]))
    (site,) = sites_of(fed)
    kept = counted_rows(site, cfg)
    assert site.time is not None and sorted(site.time[kept].tolist()) == [1, 2, 4, 5, 6]
