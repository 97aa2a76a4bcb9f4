"""The releases of DP-SGD at each region."""

import pytest

from fedsim.accounting.accountants import epsilon
from fedsim.accounting.events import Gaussian, PoissonGaussian
from fedsim.accounting.record import rate
from fedsim.accounting.releases import Clients, at_regions
from tests.simulate import small

PRIVACY = {"name": "record", "noise_multiplier": 1.3}


def clients(answers) -> Clients:
    return Clients(("A", "B"), (400, 3), units=(400, 3), steps=(100, 1), answers=answers)


def test_every_answer_is_a_release_at_the_rate_of_its_region():
    e = small.experiment(privacy=PRIVACY)  # lots of 4
    found = at_regions(e, clients(((2, 0), (0, 1))), 3)
    noise = {"noise_multiplier": 1.3}
    assert found.events == {
        "A": [(PoissonGaussian(rate=0.01, **noise), 600), (Gaussian(**noise), 3)],
        "B": [(Gaussian(**noise), 9)],  # always drawn: nothing is gained by sampling
    }
    assert (found.unit, found.units) == ("record", {"A": 400, "B": 3})
    assert (rate(10, 4), rate(4, 4), rate(10, 0)) == (0.4, 1.0, 1.0)


def test_epsilon_is_the_reference_value():
    """q .01, noise 1.3, 1500 steps."""
    e = small.experiment(privacy=PRIVACY)
    events = at_regions(e, clients(((1, 0), (0, 0))), 15).events["A"]
    assert epsilon(events, 1e-5, "add_or_remove_one", "pld").epsilon == pytest.approx(1.40595, abs=1.1e-5)
