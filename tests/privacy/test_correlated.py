"""Noise that is correlated between rounds: its covariance is that of the matrix, as accounts assume."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim import config
from fedsim.accounting.events import blt_coefficients
from fedsim.base import RequestError
from fedsim.privacy.banded import by_bands
from fedsim.privacy.blt import by_buffers
from fedsim.privacy.central import independent
from fedsim.privacy.tree import by_tree
from tests.contract.stages import stage
from tests.simulate import small
from tests.simulate.quick import jit

ROUNDS, DRAWS = 13, 40_000
BANDS = np.array([4.0, 2.0, 1.5]) / np.linalg.norm([4.0, 2.0, 1.5])
DECAY, SCALE = (0.9, 0.3), (0.2, 0.4)


def toeplitz(column: np.ndarray) -> np.ndarray:
    """The lower-triangular matrix of ROUNDS rows with this first column."""
    padded = np.concatenate([column, np.zeros(ROUNDS)])[:ROUNDS]
    return np.array([[padded[i - j] if i >= j else 0.0 for j in range(ROUNDS)] for i in range(ROUNDS)])


def nodes(restart: int = ROUNDS) -> np.ndarray:
    """B of tree aggregation: which nodes (columns, one per round that completes one) make up which sum."""
    made = np.zeros((ROUNDS, ROUNDS))
    for t in range(ROUNDS):
        begin, left = t // restart * restart, t % restart + 1
        for earlier in range(restart - 1, begin, restart):  # trees that are over stay in the sum
            _over(made[t], earlier - restart + 1, restart)
        _over(made[t], begin, left)
    return made


def _over(row: np.ndarray, begin: int, rounds: int) -> None:
    """The nodes over `rounds` rounds from `begin`: by their last round, which is another one for each."""
    while rounds:
        size = 1 << rounds.bit_length() - 1
        begin, rounds = begin + size, rounds - size
        row[begin - 1] = 1


A = np.tril(np.ones((ROUNDS, ROUNDS)))
BLT = blt_coefficients(DECAY, SCALE, ROUNDS)
# Noise, and B = A C^-1: the noise of the sums of all rounds so far is B Z.
KINDS: dict[str, tuple[Any, np.ndarray]] = {
    "independent": (independent, A),
    "banded": (by_bands(BANDS), A @ np.linalg.inv(toeplitz(BANDS))),
    "blt": (by_buffers(DECAY, SCALE, ROUNDS), A @ np.linalg.inv(toeplitz(BLT / np.linalg.norm(BLT)))),
    "tree": (by_tree(0), nodes()),
    "restarted": (by_tree(5), nodes(5)),
}


@cache
def drawn(kind: str, seed: int = 0) -> np.ndarray:
    """f64[ROUNDS, DRAWS]: the noise of every round, of as many numbers, which share nothing."""
    noise, like = KINDS[kind][0], {"a": jnp.zeros((DRAWS // 4, 3)), "b": jnp.zeros(DRAWS // 4)}

    def rounds(key):
        keys = jax.vmap(lambda r: jax.random.fold_in(key, r))(jnp.arange(ROUNDS))
        return jax.lax.scan(lambda s, k: noise.draw(like, s, k)[::-1], noise.init(like), keys)[1]

    found = jit(rounds)(jax.random.key(seed))
    return np.concatenate([np.asarray(x, np.float64).reshape(ROUNDS, -1) for x in found.values()], axis=1)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_covariance_of_the_sums_is_that_of_the_matrix(kind):
    """Cov = B B^T; entry (i, j) of the estimate has variance (v_ii v_jj + v_ij^2) / DRAWS."""
    sums, b = np.cumsum(drawn(kind), axis=0), KINDS[kind][1]
    right = b @ b.T
    deviation = np.sqrt((np.outer(np.diag(right), np.diag(right)) + right**2) / DRAWS)
    assert np.abs((sums @ sums.T / DRAWS - right) / deviation).max() < 5
    assert np.abs(sums.mean(axis=1) / np.sqrt(np.diag(right) / DRAWS)).max() < 4.5
    # Another kind's matrix is told apart.
    for other in KINDS.keys() - {kind}:
        wrong = KINDS[other][1] @ KINDS[other][1].T
        assert np.abs((sums @ sums.T / DRAWS - wrong) / deviation).max() > 20


def test_a_trees_sum_has_a_node_for_every_one_of_its_rounds_number():
    found = np.cumsum(drawn("tree"), axis=0).var(axis=1)
    ones = np.array([int(t).bit_count() for t in range(1, ROUNDS + 1)])
    assert np.abs(found / ones - 1).max() < 5 * (2 / DRAWS) ** 0.5


def test_runs_share_no_noise():
    for kind in KINDS:
        apart = np.mean(drawn(kind, 0) * drawn(kind, 1), axis=1) / drawn(kind).std(axis=1) ** 2
        assert np.abs(apart).max() < 5 / DRAWS**0.5


def test_a_tree_takes_away_what_it_added():
    """The first rounds' noise is gone from the sum of eight, but for rounding."""
    sums = np.cumsum(drawn("tree"), axis=0)
    assert np.abs(np.corrcoef(sums[6], sums[7])[0, 1]) < 5 / DRAWS**0.5
    # The eighth round's node covers all before it.
    np.testing.assert_allclose(sums[8] - sums[7], drawn("tree")[8], atol=1e-5)


# --- in the engine ---------------------------------------------------------------------------


def private(world="all", **privacy):
    return small.experiment(
        algorithm={"name": "fedavg", "weighting": "uniform"},
        privacy={"noise_multiplier": 0.3, "clip_norm": 0.5} | privacy,
        world=world,
        rounds=8,
    )


def test_one_band_is_independent_noise():
    one, plain = (
        small.train([small.lane(private(**options))])
        for options in ({"name": "banded", "bands": 1}, {"name": "gaussian"})
    )
    small.assert_same_bits(one.states[0], plain.states[0])


@pytest.mark.parametrize("name", ["tree", "banded", "blt"])
@pytest.mark.parametrize(
    "world",
    [
        {"name": "poisson", "rate": 0.5},
        {"name": "uniform", "cohort": 3},
        {"name": "cyclic", "order": "shuffled"},
        {"name": "markov", "cohort": 3},
    ],
)
def test_worlds_without_an_account_are_refused(name, world):
    said = rf"world={world['name']} may ask a client in any round.*set world=blocks.*privacy=gaussian"
    with pytest.raises(RequestError, match=said):
        small.engine([small.lane(private(name=name, world=world))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "tree", "restart": -1}, r"privacy\.restart must be >= 0"),
        ({"name": "banded", "bands": 0}, r"privacy\.bands must be >= 1"),
        ({"name": "banded", "bands": 2, "coefficients": [1.0, 2.0]}, r"numbers that do not rise"),
        ({"name": "banded", "bands": 3, "coefficients": [1.0, 0.5]}, r"privacy\.bands=3 numbers"),
        ({"name": "blt", "buffers": 11}, r"privacy\.buffers must be in \[1, 10\]"),
        ({"name": "blt", "decay": [0.5, 0.5]}, r"must both have privacy\.buffers=2 numbers"),
        ({"name": "blt", "decay": [1.0, 0.5], "scale": [0.1, 0.1]}, r"privacy\.decay must be in \[0, 1\)"),
        ({"name": "blt", "decay": [0.9, 0.5], "scale": [0.9, 0.2]}, r"a sum of 1 at most"),
    ],
)
def test_strategies_that_are_none_are_refused(options, said):
    with pytest.raises(RequestError, match=said):
        stage(options, "privacy")


def test_a_strategy_for_fewer_rounds_than_there_are_is_refused():
    options = {"name": "blt", "decay": [0.9, 0.3], "scale": [0.2, 0.4], "rounds": 7}
    with pytest.raises(RequestError, match=r"privacy\.rounds=7 is less than the 8 rounds of the run"):
        small.engine([small.lane(private(**options))])
    assert config.BltPrivacy(buffers=2).rounds == 0
