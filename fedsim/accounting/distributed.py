"""What whole-number noise of several clients is worth: of those who came, whoever was counted on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt

from fedsim.accounting.events import Composition, Integer
from fedsim.accounting.events import DiscreteGaussian as DiscreteGaussianEvent
from fedsim.accounting.events import Skellam as SkellamEvent
from fedsim.config.privacy_distributed import DiscreteGaussian, InRing


def integer_noise(cfg: InRing, clients: int, dimension: int) -> Integer:
    """One round in which the messages of so many clients arrive, each with its share of the noise.

    The sum's noise has `clients` times the variance of a share, in squared steps of the ring, rounded up as
    it is drawn; a client moves the sum by no more than its rounded message may be long. dimension: numbers in
    a message, with those that fill it up.
    """
    sensitivity = sqrt(cfg.squared_norm(dimension))
    noise = sqrt(clients * cfg.variance()) / sensitivity
    if isinstance(cfg, DiscreteGaussian):
        return DiscreteGaussianEvent(
            noise_multiplier=noise, sensitivity=sensitivity, dimension=dimension, clients=clients
        )
    return SkellamEvent(noise_multiplier=noise, sensitivity=sensitivity, dimension=dimension)


def rounds_of(cfg: InRing, came: Sequence[int], dimension: int) -> Composition:
    """All rounds; came: clients whose messages arrived in each. One that nobody came to releases nothing."""
    return [
        (integer_noise(cfg, clients, dimension), times)
        for clients, times in sorted(Counter(came).items())
        if clients
    ]
