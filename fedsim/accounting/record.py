"""What privacy=record releases: at each region, one Poisson-sampled Gaussian mechanism per answered gradient.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, Alg. 1; the sampling rate of a
region is batch_size over its units, so that small regions pay more.
"""

from __future__ import annotations

from fedsim.accounting.events import Composition, Gaussian, PoissonGaussian
from fedsim.accounting.releases import Clients, Released
from fedsim.base import Refusal
from fedsim.config import Experiment, RecordPrivacy


def rate(units: int, batch_size: int) -> float:
    """Probability with which an answer draws a unit: 1 where a step takes all (batch_size 0), or a region has
    no more units than a lot."""
    return min(1.0, batch_size / units) if batch_size else 1.0


def record(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """privacy=record, of regions that take part in every one of the rounds: an upper bound for others, who
    came less often or stopped short, as a region's coming and going is no secret that its records gain from.

    Raises Refusal where nobody has counted what the algorithm asks.
    """
    privacy = experiment.privacy
    assert isinstance(privacy, RecordPrivacy)
    if clients.answers is None:
        raise Refusal(
            "how many gradients the clients answer is not known, so no epsilon would be true",
            "count them (fedsim.simulate.answers) and name them in Clients.answers",
        )
    noise, ((step, besides), (full_step, full)) = privacy.noise(), clients.answers
    events: dict[str, Composition] = {}
    for name, units, steps in zip(clients.names, clients.units, clients.steps, strict=True):
        q = rate(units, experiment.optimizer.batch_size)
        lots, all_ = rounds * (step * steps + besides), rounds * (full_step * steps + full)
        whole = Gaussian(noise_multiplier=noise)
        sampled = PoissonGaussian(noise_multiplier=noise, rate=q) if q < 1 else whole
        events[name] = [(event, times) for event, times in ((sampled, lots), (whole, all_)) if times]
    return Released(
        unit=privacy.unit,
        sampler=f"Poisson sample of a region's {privacy.unit}s for every gradient",
        events=events,
        units=dict(zip(clients.names, clients.units, strict=True)),
        covers=("clients' messages, their own models and all that was made from their gradients",),
        notes=(
            "how many rows and units each region has is public",
            "a person in two regions is two units, and pays in both",
            "a lot that is larger than its places, less often than once in 2^40, is cut: not in delta",
        ),
    )
