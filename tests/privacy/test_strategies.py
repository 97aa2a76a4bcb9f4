"""Strategies: optimised once, kept on disk, good, and of the kind that accounts assume."""

import json
import sys
from typing import Any

import numpy as np
import pytest

from fedsim import config
from fedsim.accounting.events import blt_coefficients
from fedsim.base import FedsimError, RequestError
from fedsim.privacy import prepared, strategies


def square_root(n: int) -> np.ndarray:
    """First column of the square root of the prefix sums: 1, 1/2, 3/8, ... (Fichtenberger et al. 2023)."""
    k = np.arange(1, n)
    return np.concatenate([[1.0], np.cumprod((2 * k - 1) / (2 * k))])


def error(column: np.ndarray, n: int, reduce: Any) -> float:
    """Squared error of prefix sums by C, over rounds, for columns of norm 1."""
    padded = np.concatenate([column, np.zeros(n)])[:n]
    c = np.array([[padded[i - j] if i >= j else 0.0 for j in range(n)] for i in range(n)])
    b = np.tril(np.ones((n, n))) @ np.linalg.inv(c)
    return float(reduce((b**2).sum(axis=1)) * (padded**2).sum())


@pytest.mark.parametrize(("n", "most"), [(10, 1.79134394), (100, 2.53135211), (1000, 3.26500308)])
def test_the_square_roots_largest_error_is_as_published(n, most):
    """Both factors are the square root C, so that the error is the squared norm of its first column."""
    assert (square_root(n) ** 2).sum() == pytest.approx(most, abs=5e-9)
    if n <= 100:
        assert error(square_root(n), n, np.max) ** 0.5 == pytest.approx(most, abs=1e-8)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    strategies.kept.cache_clear()
    yield tmp_path / "fedsim" / "strategies"
    strategies.kept.cache_clear()


def test_what_is_kept_is_not_optimised_again(place, monkeypatch):
    calls: list[dict[str, int]] = []

    def optimised(kind, **asked):
        calls.append(asked)
        return [[0.75, 0.5], [1 / 3]]

    def again(**asked):
        strategies.kept.cache_clear()  # as another process would
        return strategies.kept("banded", **asked)

    monkeypatch.setattr(strategies, "optimised", optimised)
    found = ((0.75, 0.5), (0.33333333,))
    assert again(rounds=5) == again(rounds=5) == found and calls == [{"rounds": 5}]
    (first,) = place.iterdir()  # nothing is left aside
    assert again(rounds=6) == found and len(calls) == 2 and len(list(place.iterdir())) == 2
    first.write_text(first.read_text()[:20])  # a process that died, or a disk that was full
    assert again(rounds=5) == found and calls[2:] == [{"rounds": 5}]
    assert json.loads(first.read_text())["strategy"] == [[0.75, 0.5], [0.33333333]]


def test_without_jax_privacy_a_strategy_of_ones_own_is_asked_for(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax_privacy", None)
    with pytest.raises(RequestError, match=r"privacy=banded .* install fedsim-regions\[privacy\], or give"):
        prepared(config.BandedPrivacy(bands=3), 10, 1)
    own = config.BandedPrivacy(bands=2, coefficients=(1.0, 0.5))
    assert prepared(own, 10, 1) == config.BandedPrivacy(bands=2, coefficients=(1.0, 0.5), rounds=10)
    one = prepared(config.BandedPrivacy(bands=1), 10, 1)
    assert isinstance(one, config.BandedPrivacy) and one.coefficients == (1.0,)
    assert prepared(config.GaussianPrivacy(), 10, 1) == config.GaussianPrivacy()


@pytest.mark.long
def test_what_cannot_be_optimised_says_why(place):
    with pytest.raises(FedsimError, match=r"found no strategy for privacy=banded with .*: \w+Error"):
        strategies.kept("banded", rounds=5, bands=-1)


@pytest.mark.long
def test_a_banded_strategy_is_better_than_a_truncated_square_root(place):
    found = prepared(config.BandedPrivacy(bands=4), 20, 4)
    assert isinstance(found, config.BandedPrivacy) and found.rounds == 20
    c = np.array(found.coefficients)
    assert np.linalg.norm(c) == pytest.approx(1, abs=1e-6) and (np.diff(c) <= 0).all()
    best = error(c, 20, np.mean)
    assert best < 0.995 * error(square_root(4), 20, np.mean)
    assert best < 0.7 * error(np.ones(1), 20, np.mean)
    # At an optimum, small changes make it no better.
    for change in 0.01 * np.eye(4):
        assert (
            error(c + change, 20, np.mean) > best * (1 - 1e-6) < error(c - change, 20, np.mean) * (1 + 1e-6)
        )


@pytest.mark.long
def test_a_blt_strategy_is_near_the_best_there_is(place):
    """For one participation that is the square root, from which two buffers are within a few per cent."""
    found = prepared(config.BltPrivacy(buffers=2), 20, 20)
    assert isinstance(found, config.BltPrivacy) and found.rounds == 20
    c = blt_coefficients(found.decay, found.scale, 20)
    assert (c >= 0).all() and (np.diff(c) <= 0).all()
    assert 1 - 1e-9 < error(c, 20, np.max) / error(square_root(20), 20, np.max) < 1.02
