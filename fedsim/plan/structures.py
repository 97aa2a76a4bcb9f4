"""What experiments share: which of them one compiled program trains, and how much work each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from fedsim.base import digest, numbers, to_dict
from fedsim.config import Drift, Experiment
from fedsim.config.privacy import ACCOUNT

_all_but_seed = attrgetter(*(f.name for f in fields(Experiment) if f.name != "seed"))


def structure_key(experiment: Experiment) -> str:
    """Equal for experiments that may run in one pack: all but seed, split and traced numbers agree, and
    whether rows drift, since rounds are then planned otherwise."""
    plain = to_dict(replace(experiment, seed=0))
    for path in numbers(experiment):
        _forget(plain, path)
    for option in ACCOUNT:
        plain["privacy"].pop(option, None)
    plain["split"] = isinstance(experiment.split, Drift)
    plain.pop("results")
    grid = plain["tune"].pop("grid")
    return digest([plain, sorted(grid), [len(v) for _, v in sorted(grid.items())]])


def structure_keys(experiments: Mapping[str, Experiment]) -> dict[str, str]:
    """Run -> `structure_key`; cells of a sweep share what all but the seed is made of, which is read once."""
    known: dict[tuple[int, ...], str] = {}
    found: dict[str, str] = {}
    for run, experiment in experiments.items():
        same = tuple(map(id, _all_but_seed(experiment)))  # which live as long as `experiments`
        if same not in known:
            known[same] = structure_key(experiment)
        found[run] = known[same]
    return found


def lane_rounds(experiment: Experiment) -> float:
    """Rounds of all models that a run trains: folds, and candidates while it tunes."""
    folds = experiment.split.folds or (4 if experiment.split.leave_one_out else 1)
    candidates = 1
    for values in experiment.tune.grid.values():
        candidates *= len(values)
    tuning = candidates * (experiment.tune.rounds[-1] if experiment.tune.rounds else experiment.rounds)
    return folds * (experiment.rounds + (tuning if experiment.tune.grid else 0))


def _forget(tree: Any, path: str) -> None:
    """Blank one traced number, given by its path, in plain data."""
    head, _, rest = path.partition(".")
    name, _, index = head.partition("[")
    if index:
        tree = tree[name][int(index[:-1])]
        _forget(tree, rest) if "." in rest else tree.__setitem__(rest, 0)
    elif rest:
        _forget(tree[name], rest)
    else:
        tree[name] = 0
