"""Accounts of correlated noise: how far a client moves what is released, against the matrices themselves."""

import itertools

import numpy as np
import pytest

from fedsim import config
from fedsim.accounting import accountants
from fedsim.accounting.correlated import composition, period, tree_sensitivity
from fedsim.accounting.events import Gaussian, Matrix, PoissonGaussian, blt_coefficients
from fedsim.accounting.releases import EVERYONE, RELEASES, Clients, in_the_clear
from fedsim.base import Refusal, RequestError
from fedsim.config.world import Blocks, Cyclic, Fixed
from fedsim.run import budget
from fedsim.simulate.build import with_strategy
from tests.simulate import small


def nodes(rounds: int, restart: int = 0) -> np.ndarray:
    """C of tree aggregation: a row for every left child, or root, that is over by then, 1 over its rounds."""
    rows = []
    for begin in range(0, rounds, restart or rounds):
        end = min(begin + (restart or rounds), rounds)
        for level in range(10):
            for first in range(begin, end, 2 << level):
                if first + (1 << level) <= end:
                    rows.append([float(first <= t < first + (1 << level)) for t in range(rounds)])
    return np.array(rows)


def turns(rounds: int, apart: int) -> list[np.ndarray]:
    return [np.array([float(t % apart == first) for t in range(rounds)]) for first in range(apart)]


def toeplitz(column: np.ndarray, rounds: int) -> np.ndarray:
    padded = np.concatenate([column, np.zeros(rounds)])[:rounds]
    return np.array([[padded[i - j] if i >= j else 0.0 for j in range(rounds)] for i in range(rounds)])


@pytest.mark.parametrize(
    ("rounds", "apart", "restart"), list(itertools.product((1, 7, 16, 21), (1, 3, 30), (0, 5)))
)
def test_a_trees_sensitivity_is_that_of_its_matrix(rounds, apart, restart):
    c = nodes(rounds, restart)
    found = tree_sensitivity(rounds, apart, restart)
    assert found == pytest.approx(max(np.linalg.norm(c @ u) for u in turns(rounds, apart)))
    if apart >= rounds and not restart:  # a client that comes once is under one node of every level
        assert found**2 == pytest.approx(np.floor(np.log2(rounds)) + 1)


def test_missing_turns_and_opposite_messages_take_nobody_further():
    c, signs = nodes(6), np.array(list(itertools.product((-1, 0, 1), repeat=6)))
    assert np.linalg.norm(c @ signs.T, axis=0).max() == pytest.approx(tree_sensitivity(6, 1))


def test_worlds_have_turns():
    assert [period(w, 9) for w in (config.All(), Fixed(), Blocks(blocks=4), Cyclic())] == [1, 1, 4, 9]
    for world in (config.Uniform(cohort=2), config.Poisson(rate=0.5), Cyclic(order="shuffled")):
        with pytest.raises(Refusal, match=f"world={world.name} may ask a client in any round.*world=blocks"):
            period(world, 9)


BANDED = config.BandedPrivacy(bands=3, coefficients=(4.0, 2.0, 1.5), noise_multiplier=2.0)
BLT = config.BltPrivacy(buffers=2, decay=(0.9, 0.3), scale=(0.2, 0.4), rounds=20, noise_multiplier=2.0)


def test_turns_that_no_band_spans_are_as_good_as_independent():
    assert composition(BANDED, Blocks(blocks=4), 9, 10) == [(Gaussian(noise_multiplier=2.0), 3)]
    sampled = [(PoissonGaussian(noise_multiplier=2.0, rate=0.5), 3)]
    assert composition(BANDED, Blocks(blocks=4, rate=0.5), 9, 10) == sampled
    c = toeplitz(np.array(BANDED.coefficients) / np.linalg.norm(BANDED.coefficients), 12)
    most = max(np.linalg.norm(c @ u) for u in turns(12, 4))
    assert most == pytest.approx(3**0.5)  # what three Gaussian releases of sensitivity 1 come to


@pytest.mark.parametrize(("privacy", "rounds"), [(BANDED, 11), (BLT, 20), (BLT, 13)])
@pytest.mark.parametrize("world", [config.All(), Blocks(blocks=2), Blocks(blocks=2, rate=0.5)])
def test_other_turns_cost_what_the_matrix_says(privacy, rounds, world):
    column = np.array(getattr(privacy, "coefficients", ()) or blt_coefficients(BLT.decay, BLT.scale, 20))
    c = toeplitz(column / np.linalg.norm(column), rounds)
    most = max(np.linalg.norm(c @ u) for u in turns(rounds, period(world, 9)))
    (event, times), = composition(privacy, world, 9, rounds)  # fmt: skip
    assert isinstance(event, Matrix) and event.noise_multiplier == 2 and times == 1
    assert event.sensitivity == pytest.approx(most)


def test_what_has_no_account_is_refused():
    with pytest.raises(Refusal, match=r"strategy of privacy=blt is not known before .*give one"):
        composition(config.BltPrivacy(), config.All(), 9, 10)
    with pytest.raises(Refusal, match=r"world=blocks gives clients turns by their places.*replace_special"):
        composition(config.TreePrivacy(relation="add_or_remove_one"), Blocks(blocks=2), 9, 10)


def test_releases_of_runs():
    clients = Clients(tuple("abcdef"), (1,) * 6)
    for privacy in ("adaptive_clip", "tree", "banded"):
        options = {"bands": 1} if privacy == "banded" else {}
        e = small.experiment(world="all", privacy={"name": privacy} | options)
        released = RELEASES[type(e.privacy)](e, clients, 10)
        assert released.unit == "client" and released.units == {EVERYONE: 6}
        assert "how many updates were not finite" in in_the_clear(e)
        if privacy == "adaptive_clip":
            assert released.events == {EVERYONE: [(Gaussian(noise_multiplier=1.0), 10)]}
            assert any("within the clip norm" in what for what in released.covers)


def settled(**privacy):
    e = small.experiment(algorithm={"name": "fedavg", "weighting": "uniform"}, world="all", privacy=privacy)
    lanes = budget.settled([with_strategy(small.lane(e))], small.federation())
    return lanes[0].experiment.privacy, budget.statement(e, lanes, small.federation())


def test_a_run_states_what_its_strategy_costs():
    """BLT's own multiplier is of one client's one turn; here everybody comes three times."""
    options = {"name": "blt", "decay": [0.9, 0.3], "scale": [0.2, 0.4], "noise_multiplier": 2.0}
    privacy, said = settled(**options)
    assert isinstance(privacy, config.BltPrivacy) and privacy.rounds == 3
    column = blt_coefficients(privacy.decay, privacy.scale, 3)
    moved = np.linalg.norm(toeplitz(column / np.linalg.norm(column), 3).sum(axis=1))
    one = Gaussian(noise_multiplier=2.0 / float(moved))
    exact = accountants.epsilon([(one, 1)], said["delta"], "replace_special").epsilon
    assert said["epsilon"] == pytest.approx(exact, rel=1e-6) and said["relation"] == "replace_special"
    # A budget is met with the least noise there is.
    privacy, said = settled(**options | {"noise_multiplier": None, "epsilon": 3.0})
    assert said["epsilon"] == pytest.approx(3.0, rel=1e-3) and privacy.noise_multiplier > 2


def test_noise_that_is_found_leaves_room_for_that_on_the_bits():
    found, said = settled(name="adaptive_clip", noise_multiplier=None, epsilon=20.0, bit_noise=5.0)
    assert 0 < found.noise_multiplier < 10 and said["epsilon"] == pytest.approx(20.0, rel=1e-3)
    with pytest.raises(RequestError, match=r"raise privacy\.bit_noise above [0-9.]+, or privacy\.epsilon"):
        settled(name="adaptive_clip", noise_multiplier=None, epsilon=1.0, bit_noise=0.5)
