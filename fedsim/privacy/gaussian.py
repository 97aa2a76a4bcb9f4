"""Client-level Gaussian mechanism: clip each client's message, add noise to the sum.

Source: McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018, Alg. 1
with the estimator of a fixed denominator.

For the accountant: a round is one Gaussian release of noise multiplier `noise_multiplier`, by clients,
under adding or removing one; subsampled where the world is `poisson`.
"""

from __future__ import annotations

from fedsim.config import GaussianPrivacy
from fedsim.privacy.central import central, independent
from fedsim.stage import Stage


def gaussian(cfg: GaussianPrivacy) -> Stage:
    """Build the mechanism; noise has deviation noise_multiplier * clip_norm on the sum."""
    cost = {"event": "gaussian", "noise_multiplier": cfg.noise()}
    return central(cfg.clip_norm, cfg.noise(), independent, cost)
