"""Values that two libraries and the exact formula agree on: delta 1e-5, add or remove one."""

import pytest

from fedsim.accounting.accountants import epsilon
from fedsim.accounting.events import Gaussian, PoissonGaussian

DELTA = 1e-5
CASES = [  # rate, noise multiplier, steps, by RDP, by PLD
    (0.01, 1.3, 1500, 1.54864, 1.40595),
    (0.02, 1.0, 500, 3.14428, 2.77345),
    (0.05, 1.0, 100, 4.03891, 3.50215),
    (1.0, 10.0, 100, 4.72851, 4.37718),
    (1 / 3, 2.0, 50, 6.63888, 6.07027),
]


@pytest.mark.parametrize(("rate", "noise", "steps", "rdp", "pld"), CASES)
def test_epsilon(rate, noise, steps, rdp, pld):
    event = PoissonGaussian(noise_multiplier=noise, rate=rate)
    for accountant, expected in (("rdp", rdp), ("pld", pld)):
        spent = epsilon([(event, steps)], DELTA, "add_or_remove_one", accountant)
        assert spent.epsilon == pytest.approx(expected, abs=1.1e-5)
        assert spent.accountant == accountant


def test_the_exact_value_of_gaussian_noise():
    """A hundred releases of noise 10 are one of noise 1."""
    spent = epsilon([(Gaussian(noise_multiplier=10.0), 100)], DELTA, "add_or_remove_one")
    assert spent.accountant == "gdp"
    assert spent.epsilon == pytest.approx(4.377178, abs=1e-6)
