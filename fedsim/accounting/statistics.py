"""What imputation and standardisation constants cost: one Gaussian release of sums, before training.

Whom the noise hides is whom the mechanism of the training hides, so that both are one composition.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from fedsim.accounting.events import Composition, Gaussian
from fedsim.accounting.releases import Released
from fedsim.base import Refusal
from fedsim.config import (
    AdaptiveClip,
    Correlated,
    Experiment,
    GaussianPrivacy,
    LocalGaussian,
    PrivacyConfig,
    RecordPrivacy,
)

Unit = Literal["record", "patient", "client"]
Where = Literal["region", "server"]
COVERED = "imputation and standardisation constants, made of sums with noise"


def protects(privacy: PrivacyConfig) -> tuple[Unit, Where]:
    """(whom noise on the sums has to hide, who adds it) beside a training mechanism.

    Raises Refusal beside one that such noise does not fit.
    """
    if isinstance(privacy, RecordPrivacy):
        return privacy.unit, "region"
    if isinstance(privacy, LocalGaussian):
        return "client", "region"
    if isinstance(privacy, GaussianPrivacy | AdaptiveClip | Correlated):
        return "client", "server"
    raise Refusal(
        "data.preprocess.noise_multiplier hides whom the training hides, and "
        f"privacy={privacy.name} hides no record, patient or client by Gaussian noise at the region or the "
        "server",
        "set privacy=record, or data.preprocess.noise_multiplier=null",
    )


def composition(experiment: Experiment) -> Composition:
    """What one fit of the constants releases; [] where it releases nothing with noise."""
    cfg = experiment.data.preprocess
    if not cfg.noised:
        return []
    assert cfg.noise_multiplier is not None
    return [(Gaussian(noise_multiplier=cfg.noise_multiplier), 1)]


def added(released: Released, experiment: Experiment, fits: int) -> Released:
    """`released` with the constants, fitted `fits` times, in the same compositions."""
    cfg = experiment.data.preprocess
    if not cfg.noised:
        return released
    unit, where = protects(experiment.privacy)
    by = "each region" if where == "region" else "the server"
    note = (
        f"constants: {by} adds Gaussian noise of {cfg.noise_multiplier:g} x the most that one {unit} adds to "
        "the sums; the ranges that values are clipped to are public"
    )
    return replace(
        released,
        events={
            region: [*((event, times * fits) for event, times in composition(experiment)), *events]
            for region, events in released.events.items()
        },
        covers=(*released.covers, COVERED),
        notes=(*released.notes, note),
    )
