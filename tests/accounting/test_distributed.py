"""What distributed and local mechanisms release: of those who came, and towards a server that sees who."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from fedsim import config
from fedsim.accounting import accountants, library
from fedsim.accounting.distributed import integer_noise, rounds_of
from fedsim.accounting.events import Gaussian
from fedsim.accounting.releases import EVERYONE, RELEASES, Clients
from fedsim.base import Refusal, build_choice
from tests.simulate import small

NAMES = ("discrete_gaussian", "skellam")


def privacy(name, **options):
    values = {"name": name, "contributors": 16.0, "noise_multiplier": 4.0, "scale": 64} | options
    return build_choice("privacy", values, "privacy")


def epsilon(cfg, clients, rounds=20, dimension=1024):
    events = rounds_of(cfg, [clients] * rounds, dimension)
    return accountants.epsilon(events, 1e-5, cfg.relation, "rdp").epsilon


@pytest.mark.parametrize("name", NAMES)
def test_a_fine_ring_costs_what_gaussian_noise_does(name):
    """And a coarse one more: rounding makes messages longer, and whole noise is no Gaussian."""
    events = [(Gaussian(noise_multiplier=4.0), 20)]
    gaussian = accountants.epsilon(events, 1e-5, "replace_special", "rdp").epsilon
    # Of 512 steps a share, which is a power of two, is not rounded up.
    fine, coarse = (epsilon(privacy(name, scale=s), 16) for s in (512, 16))
    assert gaussian < fine < 1.02 * gaussian < 1.2 * gaussian < coarse


@pytest.mark.parametrize("name", NAMES)
def test_whoever_stays_away_takes_noise_away(name):
    """12 of 16 bring 12 / 16 of the variance; counting on 12 from the start asks more of each."""
    cfg = privacy(name)
    event = integer_noise(cfg, 12, 1024)
    assert event.noise_multiplier * event.sensitivity == pytest.approx(sqrt(12 * cfg.variance()))
    assert event.sensitivity == sqrt(cfg.squared_norm(1024)) > 64
    assert epsilon(cfg, 12) > epsilon(cfg, 16)
    careful = replace(cfg, contributors=12.0)
    assert epsilon(careful, 12) == pytest.approx(epsilon(cfg, 16), rel=0.02)


def test_rounds_are_those_that_were():
    cfg = privacy("skellam")
    events = rounds_of(cfg, [16, 12, 0, 16], 64)
    assert [(e, n) for e, n in events] == [(integer_noise(cfg, 12, 64), 1), (integer_noise(cfg, 16, 64), 2)]


def test_the_gap_of_a_sum_of_discrete_gaussians_is_the_papers():
    """tau = 10 sum_k exp(-2 pi^2 s^2 k / (k + 1)): of no account but for a step or less of noise."""
    one, two = (privacy("discrete_gaussian", noise_multiplier=z, scale=4) for z in (1.0, 2.0))
    assert (one.variance(), two.variance()) == (1, 4)
    gap = 10 * sum(np.exp(-2 * np.pi**2 * k / (k + 1)) for k in range(1, 16))
    event = integer_noise(one, 16, 64)
    order = np.array([2.0])
    norm = 1 / event.noise_multiplier
    assert event.one_norm == event.sensitivity**2  # of whole numbers, no more than their squares
    found = accountants.rdp(event, "replace_special")[library.orders() == order]
    assert found / order * 2 == pytest.approx(
        norm**2 + 2 * norm * event.sensitivity * gap + gap**2 * 64, rel=1e-9
    )
    assert gap > 1e-4


def experiment(**changes):
    return small.experiment(algorithm={"name": "fedavg", "weighting": "uniform"}, **changes)


def test_entries_say_whom_they_protect_from_whom():
    clients = Clients(("a", "b", "c"), (5, 5, 5), numbers=64, came=(3, 2, 3, 1))
    ring = experiment(privacy={"name": "skellam", "contributors": 3.0}, secure="bonawitz")
    released = RELEASES[config.Skellam](ring, clients, 3)
    assert released.unit == "client" and dict(released.units) == {EVERYONE: 3}
    assert released.events[EVERYONE] == rounds_of(ring.privacy, [3, 2, 3], 64)
    local = experiment(privacy={"name": "local_gaussian", "noise_multiplier": 7.0})
    released = RELEASES[config.LocalGaussian](local, clients, 3)
    ((event, times),) = released.events[EVERYONE]
    assert times == 3 and event.noise_multiplier == 7 and local.privacy.relation == "replace_one"
    # Another's data move a message by twice the clip norm.
    pair = [
        accountants.epsilon(released.events[EVERYONE], 1e-5, r, "gdp")
        for r in ("replace_one", "replace_special")
    ]
    assert pair[0].epsilon > 1.9 * pair[1].epsilon


def test_what_has_no_account_is_refused():
    ring = experiment(privacy={"name": "skellam", "contributors": 3.0}, secure="bonawitz")
    with pytest.raises(Refusal, match="depends on how many clients come to each round"):
        RELEASES[config.Skellam](ring, Clients(("a",), (5,)), 3)
    telling = experiment(privacy="local_gaussian", world={"name": "by_size", "cohort": 3})
    with pytest.raises(Refusal, match="who takes part tells of the data"):
        RELEASES[config.LocalGaussian](telling, Clients(("a",), (5,)), 3)
