"""DP-SGD at each region: what leaves it was made from noised gradients, so nothing is left to do on its way.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, Alg. 1, at each client; the work is
done by the oracle that answers the algorithm's questions (fedsim/local/private.py).
"""

from __future__ import annotations

from dataclasses import replace

from fedsim.config.privacy_record import RecordPrivacy
from fedsim.stage import Mechanism, Stage, identity


def record(cfg: RecordPrivacy) -> Stage:
    """Build the stage, which changes nothing, and says what protects its messages.

    One answer to an algorithm is one Gaussian mechanism on a Poisson sample of the region's units, where a
    unit's presence moves the sum by at most `clip_norm`; sizes of regions count as known.
    """
    return replace(
        identity,
        mechanism=Mechanism(
            sensitivity=cfg.clip_norm,
            cost={"event": "poisson_gaussian", "noise_multiplier": cfg.noise()},
            unit=cfg.unit,
        ),
    )
