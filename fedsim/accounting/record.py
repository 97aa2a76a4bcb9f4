"""What DP-SGD at a region costs: each answered gradient is one Gaussian mechanism on a Poisson sample.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, Alg. 1; the sampling rate of a
region is batch_size over its units, so that small regions pay more.
"""

from __future__ import annotations

from fedsim.accounting.events import Composition, Event, Gaussian, PoissonGaussian

Answers = tuple[tuple[int, int], tuple[int, int]]


def rate(units: int, batch_size: int) -> float:
    """Probability with which an answer draws a unit: 1 where a step takes all (batch_size 0), or a region has
    no more units than a lot."""
    return min(1.0, batch_size / units) if batch_size else 1.0


def composition(noise: float, q: float, steps: int, answers: Answers, rounds: int) -> Composition:
    """Releases of a region that takes part in every one of the rounds: of others they are an upper bound.

    Args:
      steps: local steps in a round; answers: of a lot, (for every step, besides), and the same of all units.
    """
    (step, besides), (full_step, full) = answers
    whole: Event = Gaussian(noise_multiplier=noise)
    lot = PoissonGaussian(noise_multiplier=noise, rate=q) if q < 1 else whole
    counts = {lot: rounds * (step * steps + besides)}
    counts[whole] = counts.get(whole, 0) + rounds * (full_step * steps + full)
    return [(event, times) for event, times in counts.items() if times]
