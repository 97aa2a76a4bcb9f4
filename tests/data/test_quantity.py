# mypy: disable-error-code="union-attr"
"""Numbers of one quantity in two units, without a unit in the text."""

import numpy as np
import pytest

from fedsim.data.quantity import two_sizes


def made(n, median, spread, seed=0):
    return np.exp(np.log(median) + spread * np.random.default_rng(seed).normal(size=n))


@pytest.mark.parametrize(
    ("median", "spread", "factor"),
    [(95.0, 0.35, 1 / 88.4), (132.0, 0.12, 0.1), (5.5, 0.2, 18.0), (172.0, 0.05, 0.01)],
    ids=["creatinine", "haemoglobin", "glucose", "height"],
)
@pytest.mark.parametrize("share", [0.06, 0.5, 0.94])
def test_a_unit_that_some_values_are_in_is_found(median, spread, factor, share):
    values = made(600, median, spread)
    other = np.arange(600) < 600 * share
    values[other] *= factor
    found = two_sizes(np.append(values, np.nan))
    moved = int(other.sum())
    assert (found.below, found.above) == ((moved, 600 - moved) if factor < 1 else (600 - moved, moved))
    assert found.high / found.low == pytest.approx(max(factor, 1 / factor), rel=0.2)
    assert found.low < found.gap[0] < found.gap[1] < found.high
    # An impossible value is further off than a unit, and hides none.
    assert two_sizes(np.append(values, 1e9)).below == found.below


@pytest.mark.parametrize(
    "values",
    [
        made(5000, 1500, 1.2),  # NT-proBNP: a wide distribution is one heap
        made(5000, 95, 0.35),
        np.append(made(500, 95, 0.35), made(9, 1, 0.35)),  # few of another size
        np.append(made(500, 95, 0.35), [9999.0] * 200),  # a code for what is not known
        np.repeat([1.0, 2.0, 50.0, 100.0], 100),  # codes
        np.append(made(500, 95, 0.35), np.zeros(100)),  # many have none
        np.append(made(500, 95, 0.35), -made(100, 95, 0.35)),
        np.append(made(300, 3, 0.9), made(300, 30, 0.9)),  # two groups of patients that overlap
        np.append(made(300, 36, 0.01), made(300, 100, 0.01)),  # too near for a unit
        made(19, 95, 0.35),
        np.full(100, np.nan),
    ],
)
def test_one_unit_is_one(values):
    assert two_sizes(values) is None
