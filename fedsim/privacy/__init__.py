"""Every mechanism by name: a builder `cfg -> Stage`."""

from __future__ import annotations

from collections.abc import Callable

from fedsim.privacy.adaptive_clip import adaptive_clip
from fedsim.privacy.gaussian import gaussian
from fedsim.privacy.none import none
from fedsim.stage import Stage

MECHANISMS: dict[str, Callable[..., Stage]] = {
    "none": none,
    "gaussian": gaussian,
    "adaptive_clip": adaptive_clip,
}

__all__ = ["MECHANISMS"]
