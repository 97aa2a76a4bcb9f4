"""A config of two groups that vary, made without Hydra, and a count of how often it is asked for."""

import pytest

from fedsim.base import GROUPS, to_dict
from fedsim.cli.compose import parse as hydra_parse

DEFAULTS = {
    "data": "heart_disease",
    "split": "natural",
    "task": "logistic",
    "algorithm": "fedavg",
    "channel": "direct",
    "privacy": "none",
    "world": "all",
    "executor": "inline",
}


class Compose:
    """Counts its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, picks, more):
        self.calls.append((picks, more))
        chosen = DEFAULTS | dict(pick.split("=") for pick in picks)
        groups = {g: to_dict(GROUPS[g][name]()) for g, name in chosen.items()}
        beside = {pick: to_dict(GROUPS[g][name]()) for pick in more for g, name in [pick.split("=")]}
        rest = {"optimizer": {}, "numerics": {}, "rounds": 20, "seed": 0, "results": "results/store"}
        return groups | beside | rest


@pytest.fixture
def compose():
    return Compose()


@pytest.fixture
def parse():
    return hydra_parse
