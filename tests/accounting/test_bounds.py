"""What accountants say against divergences computed here, by sums over a grid and by brute force."""

import itertools

import numpy as np
import pytest
from scipy import stats

from fedsim.accounting import accountants, curves, library, pld
from fedsim.accounting.accountants import delta, epsilon, rdp
from fedsim.accounting.events import (
    DiscreteGaussian,
    FixedGaussian,
    Gaussian,
    Laplace,
    Matrix,
    PoissonGaussian,
    RowsGaussian,
    Skellam,
    Tree,
    TruncatedGaussian,
    blt_coefficients,
    toeplitz_sensitivity,
)

ADD, ZERO, SWAP = "add_or_remove_one", "replace_special", "replace_one"
X = np.linspace(-40, 40, 160_001)  # of deviations' length or less in what follows
STEP = X[1] - X[0]


def mixture(probs, means, noise):
    return np.sum([p * stats.norm.pdf(X, m, noise) for p, m in zip(probs, means, strict=True)], axis=0)


def divergence(p, q, e):
    """Hockey-stick, both ways, of two densities on the grid."""
    return max(np.maximum(a - np.exp(e) * b, 0).sum() * STEP for a, b in ((p, q), (q, p)))


def check(found, true, error=1e-9):
    """An upper bound, but for the error of the sum over the grid, and no idle one."""
    assert true - error <= found <= true * 1.001 + 1e-8


@pytest.mark.parametrize("e", [0.0, 0.3, 2.0])
@pytest.mark.parametrize(
    ("event", "relation", "pair"),
    [
        (Gaussian(noise_multiplier=1.5), ADD, (([1], [0]), ([1], [1]))),
        (Gaussian(noise_multiplier=1.5), SWAP, (([1], [-1]), ([1], [1]))),
        (PoissonGaussian(noise_multiplier=1.2, rate=0.2), ADD, (([1], [0]), ([0.8, 0.2], [0, 1]))),
        (PoissonGaussian(noise_multiplier=1.2, rate=0.2), ZERO, (([1], [0]), ([0.8, 0.2], [0, 1]))),
        (
            PoissonGaussian(noise_multiplier=1.2, rate=0.2),
            SWAP,
            (([0.8, 0.2], [0, -1]), ([0.8, 0.2], [0, 1])),
        ),
        (
            RowsGaussian(noise_multiplier=2.0, rate=0.3, rows=2),
            ADD,
            (([1], [0]), ([0.49, 0.42, 0.09], [0, 1, 2])),
        ),
    ],
)
def test_one_release_is_the_divergence_of_its_pair(event, relation, pair, e):
    p, q = (mixture(probs, means, event.noise_multiplier) for probs, means in pair)
    check(delta([(event, 1)], e, relation, "pld"), divergence(p, q, e))


@pytest.mark.parametrize("e", [0.1, 1.0])
def test_two_releases_are_the_divergence_of_the_product(e):
    x, noise, rate = np.linspace(-9, 10, 2501), 1.1, 0.3
    q = stats.norm.pdf(x, 0, noise)
    p = (1 - rate) * q + rate * stats.norm.pdf(x, 1, noise)
    both, cell = [(np.outer(p, p), np.outer(q, q)), (np.outer(q, q), np.outer(p, p))], (x[1] - x[0]) ** 2
    true = max(np.maximum(a - np.exp(e) * b, 0).sum() * cell for a, b in both)
    check(delta([(PoissonGaussian(noise_multiplier=noise, rate=rate), 2)], e, ADD, "pld"), true, error=1e-8)


def test_opposite_units_tell_the_most_where_data_are_replaced():
    """In the plane, where a sampled unit may be replaced by one that points anywhere."""
    x, noise, rate, e = np.linspace(-6, 6, 401), 0.8, 0.3, 0.4
    y, z = np.meshgrid(x, x, indexing="ij")
    nobody = np.exp(-(y**2 + z**2) / (2 * noise**2))

    def out(unit):
        return (1 - rate) * nobody + rate * np.exp(
            -((y - unit[0]) ** 2 + (z - unit[1]) ** 2) / (2 * noise**2)
        )

    true = [
        np.maximum(out((1, 0)) - np.exp(e) * out((length * np.cos(turn), length * np.sin(turn))), 0).sum()
        / nobody.sum()
        for turn in np.linspace(0, np.pi, 7)
        for length in (0, 0.5, 1)
    ]
    found = delta([(PoissonGaussian(noise_multiplier=noise, rate=rate), 1)], e, SWAP, "pld")
    assert max(true) == true[-1]
    check(found, true[-1], error=2e-5)


def test_accountants_agree_on_gaussian_noise_and_only_exact_is_exact():
    for relation, times in itertools.product((ADD, SWAP), (1, 20)):
        events = [(Gaussian(noise_multiplier=4.0), times)]
        exact, pld, renyi = (epsilon(events, 1e-6, relation, by).epsilon for by in ("gdp", "pld", "rdp"))
        assert exact <= pld <= exact * 1.0001 and exact < renyi < 1.25 * exact
    # Replacing moves the sum twice as far: the same as half the noise.
    one, half = ([(Gaussian(noise_multiplier=z), 20)] for z in (4.0, 2.0))
    for by in ("gdp", "pld", "rdp"):
        assert epsilon(one, 1e-6, SWAP, by).epsilon == pytest.approx(epsilon(half, 1e-6, ADD, by).epsilon)


def test_a_cohort_of_fixed_size_costs_more_than_a_poisson_sample():
    """Where all others are alike, the pair is that of a Poisson sample that moves twice as far: a lower bound
    on what replacing one of them tells."""
    noise, n, b = 3.0, 100, 10
    for steps in (1, 50):
        found = epsilon([(FixedGaussian(noise_multiplier=noise, population=n, cohort=b), steps)], 1e-5, SWAP)
        least = epsilon([(PoissonGaussian(noise_multiplier=noise / 2, rate=b / n), steps)], 1e-5, ADD, "pld")
        naive = epsilon([(PoissonGaussian(noise_multiplier=noise, rate=b / n), steps)], 1e-5, ADD, "rdp")
        assert naive.epsilon < least.epsilon <= found.epsilon
        assert found.accountant == "rdp"


def test_a_truncated_poisson_sample_is_no_better_than_it_can_be():
    """Others are all at -1, and the one that comes or goes is at +1."""
    noise, n, rate, cap = 1.5, 8, 0.3, 3
    gone, there = np.zeros_like(X), np.zeros_like(X)
    for k, chance in enumerate(stats.binom.pmf(np.arange(n), n - 1, rate)):
        gone += chance * stats.norm.pdf(X, -min(k, cap), noise)
        inside = min(k + 1, cap) / (k + 1)  # of a sample that it is in, that it survives the cut
        without = stats.norm.pdf(X, -min(k + 1, cap), noise)
        with_it = stats.norm.pdf(X, 2 - min(k + 1, cap), noise)
        drawn = inside * with_it + (1 - inside) * without
        there += chance * (rate * drawn + (1 - rate) * stats.norm.pdf(X, -min(k, cap), noise))
    event = TruncatedGaussian(noise_multiplier=noise, rate=rate, population=n, cap=cap)
    plain = PoissonGaussian(noise_multiplier=noise, rate=rate)
    for e in (0.1, 0.5, 1.0):
        true, found = divergence(gone, there, e), delta([(event, 1)], e, ADD)
        assert true <= found and delta([(plain, 1)], e, ADD) < found
    from dp_accounting.pld import privacy_loss_distribution as theirs

    known = theirs.from_truncated_subsampled_gaussian_mechanism(n, rate, cap, noise, 1e-2)
    assert delta([(event, 3)], 0.5, ADD) == pytest.approx(
        known.self_compose(3).get_delta_for_epsilon(0.5), rel=1e-3
    )
    roomy = TruncatedGaussian(noise_multiplier=noise, rate=rate, population=n, cap=n)
    assert delta([(roomy, 1)], 0.5, ADD) == pytest.approx(delta([(plain, 1)], 0.5, ADD), rel=1e-6)


def test_laplace_noise():
    noise, e = 2.0, 0.2
    assert delta([(Laplace(noise_multiplier=noise), 1)], e, ADD, "pld") == pytest.approx(
        1 - np.exp((e - 1 / noise) / 2), abs=1e-4
    )
    for by in ("pld", "rdp"):  # never more than pure privacy's sum
        found = epsilon([(Laplace(noise_multiplier=noise), 3)], 1e-5, SWAP, by)
        assert 3 / noise < found.epsilon < 3 * 2 / noise + 0.02


# --- integer noise: Rényi divergences of distributions written out -------------------------------


def renyi(p, q, order):
    there = (p > 0) & (q > 0)
    return np.log(np.sum(np.exp(order * np.log(p[there]) + (1 - order) * np.log(q[there])))) / (order - 1)


def exact(noise, moved, order):
    """Of integer noise (an odd number of values around 0), and of it moved by `moved`, both ways."""
    p, q = np.pad(noise, (moved, 0)), np.pad(noise, (0, moved))
    return max(renyi(p, q, order), renyi(q, p, order))


@pytest.mark.parametrize(("sigma", "clients"), [(2.0, 1), (0.5, 4), (0.35, 6), (1.0, 3)])
@pytest.mark.parametrize(("relation", "factor"), [(ADD, 1), (SWAP, 2)])
def test_discrete_gaussian_noise_of_several_clients(sigma, clients, relation, factor):
    k = np.arange(-70, 71) if sigma >= 1 else np.arange(-15, 16)
    one = np.exp(-(k**2) / (2 * sigma**2))
    total = one = one / one.sum()
    for _ in range(clients - 1):
        total = np.convolve(total, one)
    event = DiscreteGaussian(noise_multiplier=sigma * clients**0.5, clients=clients)
    bounds = rdp(event, relation)
    for order in (2, 3, 6):
        true = exact(total, factor, order)
        found = bounds[list(library.orders()).index(order)]
        assert true <= found * (1 + 1e-9)
        if sigma >= 1:
            assert found < 1.05 * true


@pytest.mark.parametrize("noise", [1.5, 4.0])
@pytest.mark.parametrize(("relation", "factor"), [(ADD, 1), (SWAP, 2)])
def test_skellam_noise(noise, relation, factor):
    total = stats.skellam.pmf(np.arange(-80, 81), noise**2 / 2, noise**2 / 2)
    bounds = rdp(Skellam(noise_multiplier=noise), relation)
    for order in (2, 3, 6):
        true = exact(total, factor, order)
        assert true <= bounds[list(library.orders()).index(order)] < 3 * true
    # Orders between whole ones are bounded by the next.
    at = list(library.orders())
    assert bounds[at.index(2.5)] == bounds[at.index(3)]


# --- matrices: the most that one unit can move ---------------------------------------------------


@pytest.mark.parametrize("steps", [1, 5, 8, 13])
def test_a_leaf_is_part_of_so_many_nodes_of_a_tree(steps):
    """Nodes are finished as soon as their last leaf is there."""
    nodes = [
        range(begin, begin + size)
        for size in (2**h for h in range(10))
        for begin in range(0, steps, size)
        if begin + size <= steps
    ]
    most = max(sum(leaf in node for node in nodes) for leaf in range(steps))
    assert most == Tree(noise_multiplier=1.0, steps=steps).height
    found = epsilon([(Tree(noise_multiplier=3.0, steps=steps), 2)], 1e-5, ZERO, "gdp")
    assert found.epsilon == epsilon([(Gaussian(noise_multiplier=3.0), 2 * most)], 1e-5, ZERO, "gdp").epsilon
    assert found.epsilon < epsilon([(Tree(noise_multiplier=3.0, steps=steps), 2)], 1e-5, ZERO, "rdp").epsilon


@pytest.mark.parametrize(("participations", "separation"), [(1, 1), (3, 2), (2, 5), (4, 3)])
def test_the_sensitivity_of_a_toeplitz_strategy(participations, separation):
    column = blt_coefficients([0.9, 0.5], [0.3, 0.2], 10)
    strategy = np.array([[column[i - j] if i >= j else 0.0 for j in range(10)] for i in range(10)])
    true = 0.0
    for count in range(1, participations + 1):
        for steps in itertools.combinations(range(10), count):
            if all(b - a >= separation for a, b in itertools.pairwise(steps)):
                true = max(true, float(np.linalg.norm(strategy[:, list(steps)].sum(axis=1))))
    assert toeplitz_sensitivity(column, participations, separation) == pytest.approx(true, rel=1e-12)
    event = Matrix(noise_multiplier=4.0, sensitivity=true)
    same = [(Gaussian(noise_multiplier=4.0 / true), 1)]
    for by in ("gdp", "rdp"):
        assert epsilon([(event, 1)], 1e-5, ZERO, by).epsilon == epsilon(same, 1e-5, ADD, by).epsilon


def test_what_is_composed_adds_up():
    """In any order, and however it is cut into parts."""
    a, b = PoissonGaussian(noise_multiplier=2.0, rate=0.1), Gaussian(noise_multiplier=9.0)
    for by in ("pld", "rdp"):
        whole = epsilon([(a, 20), (b, 4)], 1e-5, ADD, by).epsilon
        cut = epsilon([(b, 3), (a, 5), (b, 1), (a, 15)], 1e-5, ADD, by).epsilon
        assert whole == pytest.approx(cut, abs=2e-4)
        assert whole > epsilon([(a, 20)], 1e-5, ADD, by).epsilon
    assert accountants.chosen([(a, 1), (b, 1)], ADD, None) == "pld"


def test_the_largest_of_several_accounts_is_that_of_each_asked_alone():
    parts = [
        [(PoissonGaussian(noise_multiplier=noise, rate=rate), times)]
        for noise, rate, times in [(2.0, 0.1, 20), (2.0, 0.05, 20), (2.0, 0.02, 200), (4.0, 0.3, 20)]
    ] + [[(PoissonGaussian(noise_multiplier=4.0, rate=0.1), 9), (Gaussian(noise_multiplier=8.0), 1)]]
    for by in ("pld", "rdp"):
        alone = [accountants.epsilon(events, 1e-5, ADD, by).epsilon for events in parts]
        for some in (parts, parts[:2], parts[2:], parts[::-1]):
            wanted = max(alone[parts.index(events)] for events in some)
            assert accountants.largest(some, 1e-5, ADD, by) == wanted


def test_events_of_a_kind_are_one_however_they_are_told():
    one, other = PoissonGaussian(noise_multiplier=1.0, rate=0.1), Gaussian(noise_multiplier=4.0)
    for by in ("pld", "rdp"):
        together = accountants.bound([(one, 5), (other, 2)], 1e-5, ADD, by)
        assert accountants.bound([(other, 1), (one, 2), (one, 3), (other, 1)], 1e-5, ADD, by) == together


@pytest.mark.parametrize(
    ("noise", "rate"), [(1.3, 0.01), (0.5, 0.33), (0.06, 0.3), (5.0, 0.13), (20.0, 1e-3)]
)
def test_renyi_curves_of_samples_are_those_of_dp_accounting(noise, rate):
    import dp_accounting as dp
    from dp_accounting import rdp

    theirs = rdp.RdpAccountant(library.orders())
    theirs.compose(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)))
    assert curves.sampled_gaussian(noise, rate, library.orders()) == pytest.approx(theirs.rdp, rel=1e-6)


@pytest.mark.parametrize(("noise", "rate", "times"), [(1.3, 0.01, 300), (2.0, 0.13, 80), (1.0, 0.3, 1)])
def test_composed_losses_are_those_of_dp_accounting(noise, rate, times):
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as theirs

    one = pld.gaussian(noise, rate, False)
    plain = (
        pld_pmf.DensePLDPmf(pld.INTERVAL, loss.lower, loss.probs, loss.infinite, pessimistic_estimate=True)
        for loss in one
    )
    wanted, found = theirs.PrivacyLossDistribution(*plain).self_compose(times), pld.composed([(one, times)])
    for delta_ in (1e-3, 1e-5):
        assert pld.epsilon(found, delta_) == pytest.approx(wanted.get_epsilon_for_delta(delta_), rel=1e-7)
    for e in (0.1, 1.0):
        assert pld.delta(found, e) == pytest.approx(wanted.get_delta_for_epsilon(e), rel=1e-7, abs=1e-12)
