"""Every mechanism by name: a builder `cfg -> Stage`."""

from __future__ import annotations

from collections.abc import Callable

from fedsim.privacy.adaptive_clip import adaptive_clip
from fedsim.privacy.banded import banded
from fedsim.privacy.blt import blt
from fedsim.privacy.discrete_gaussian import discrete_gaussian
from fedsim.privacy.gaussian import gaussian
from fedsim.privacy.local_gaussian import local_gaussian
from fedsim.privacy.none import none
from fedsim.privacy.randomised_counts import randomised_counts
from fedsim.privacy.randomised_response import randomised_response
from fedsim.privacy.record import record
from fedsim.privacy.skellam import skellam
from fedsim.privacy.strategies import prepared
from fedsim.privacy.tree import tree
from fedsim.stage import Stage

MECHANISMS: dict[str, Callable[..., Stage]] = {
    "none": none,
    "gaussian": gaussian,
    "adaptive_clip": adaptive_clip,
    "tree": tree,
    "banded": banded,
    "blt": blt,
    "record": record,
    "discrete_gaussian": discrete_gaussian,
    "skellam": skellam,
    "local_gaussian": local_gaussian,
    "randomised_response": randomised_response,
    "randomised_counts": randomised_counts,
}

__all__ = ["MECHANISMS", "prepared"]
