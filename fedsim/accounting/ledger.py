"""The ledger of a run: everything it releases, what is accounted for per region and unit, and what is not.

It follows from the experiment, its clients and the rounds trained alone: a run that was stopped and resumed
has trained each round once, and its ledger says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

from fedsim.accounting import accountants, evaluation, statistics
from fedsim.accounting.calibration import least_noise, most_rounds
from fedsim.accounting.events import Composition
from fedsim.accounting.releases import EVERYONE, PURE, RELEASES, Clients, Released, in_the_clear
from fedsim.base import require, with_numbers
from fedsim.config import Accounted, AdaptiveClip, Experiment, RandomisedCounts, RandomisedResponse

DELTA = 1e-5  # unless the regions are so large that it would not be well below 1 / n
_NOISE = "privacy.noise_multiplier"
_SHOWN = 1000  # regions that are stored one by one


class Plan(NamedTuple):
    """What an account makes of a run before it starts: how much noise, and how many rounds at most."""

    noise_multiplier: float
    rounds: int


def accounted(experiment: Experiment) -> bool:
    """Whether there is an entry for the run's mechanism."""
    return type(experiment.privacy) in RELEASES


def plan(experiment: Experiment, folds: Sequence[Clients]) -> Plan:
    """The least noise for the budget where none is given, else the rounds that fit in it.

    Args:
      folds: the clients of every model that the run trains, all of which must keep within the budget.

    Raises RequestError where what the run releases has no valid account, or no round fits.
    """
    privacy = _config(experiment)
    noise, budget = privacy.noise_multiplier, privacy.epsilon
    rounds = max(experiment.tune.rounds or (experiment.rounds,))
    if noise == 0:
        return Plan(0.0, rounds)
    delta = _delta(experiment, folds, rounds)
    _affords(experiment, delta, rounds if noise is None else 1)

    def spent(noise: float, rounds: int) -> float:
        at = _with_noise(experiment, noise)
        every = [_released(at, clients, rounds).each for clients in folds]
        return accountants.largest(list(itertools.chain(*every)), delta, privacy.relation, privacy.accountant)

    if budget is None:
        assert noise is not None  # the config requires one of the two
        for clients in folds:  # whether there is an account at all
            for events in _released(experiment, clients, 1).each:
                accountants.chosen(events, privacy.relation, privacy.accountant)
        return Plan(noise, rounds)
    require(
        _NOISE not in experiment.tune.grid,
        f"tune.grid.{_NOISE} and privacy.epsilon both set the noise; leave one of them out",
    )
    if noise is None:
        return Plan(_allowed(privacy, least_noise(lambda z: spent(z, rounds), budget)), rounds)
    fits = most_rounds(lambda r: spent(noise, r), budget, rounds)
    require(
        fits > 0,
        f"privacy.epsilon={budget:g} does not pay for one round with privacy.noise_multiplier={noise:g}; set "
        "privacy.noise_multiplier=null to have enough noise found, or a larger epsilon",
    )
    require(
        fits == rounds or not experiment.tune.grid,
        f"tune tries models of up to {rounds} rounds, and privacy.epsilon={budget:g} pays for {fits}; lower "
        "tune.rounds, or rounds where it is empty, or set privacy.noise_multiplier=null",
    )
    return Plan(noise, fits)


def _allowed(privacy: Accounted, noise: float) -> float:
    """The noise multiplier that a budget takes, which a mechanism may have no room for."""
    # Updates and bits share it: z_delta = (z^-2 - (2 s_b)^-2)^-1/2 (Andrew et al. 2021, Theorem 1).
    require(
        not isinstance(privacy, AdaptiveClip) or noise < 2 * privacy.bit_noise,
        f"privacy.epsilon={privacy.epsilon:g} takes privacy.noise_multiplier={noise:.4g}, and the noise on "
        f"the bits allows less than twice privacy.bit_noise={getattr(privacy, 'bit_noise', 0):g}: raise "
        f"privacy.bit_noise above {noise / 2:.4g}, or privacy.epsilon",
    )
    return noise


def statement(
    models: Sequence[Experiment], folds: Sequence[Clients], rounds: Sequence[int]
) -> dict[str, Any]:
    """What a run says of its privacy, in words that claim nothing that was not accounted for.

    Args:
      models: of every model trained, one per fold, what it was trained with: tuning chooses for each; folds:
        its clients; rounds: its.
    """
    experiment = models[0]
    name = experiment.privacy.name
    clear = list(in_the_clear(experiment))
    if name == "none":
        return {
            "mechanism": None,
            "protected": False,
            "epsilon": None,
            "reason": "no mechanism: privacy=none",
        }
    said: dict[str, Any] = {"mechanism": name, "protected": True, "uncovered": clear}
    if type(experiment.privacy) in PURE:
        return said | _pure(experiment, rounds)
    if not accounted(experiment):
        return said | _unknown(f"privacy={name} has no entry in fedsim.accounting.releases")
    privacy, noise = _config(experiment), min(_config(model).noise() for model in models)
    if not noise:
        return said | {"protected": False} | _unknown("the noise multiplier is 0")
    delta = _delta(experiment, folds, max(rounds))
    parts = [_released(*of_fold) for of_fold in zip(models, folds, rounds, strict=True)]
    together: dict[str, Composition] = {}
    regions: dict[str, dict[str, Any]] = {}
    kept = accountants.chosen(_all(parts), privacy.relation, privacy.accountant)
    for released in parts:
        for region, events in (*released.events.items(), *released.judged.items()):
            # Who judges one fold's model may train another's.
            together[region] = [*together.get(region, ()), *events]
            one = accountants.epsilon(events, delta, privacy.relation, kept).epsilon
            if region not in regions or one > regions[region]["epsilon"]:
                regions[region] = {"epsilon": one, "delta": delta, "units": released.units[region]}
    worst = max(regions.values(), key=lambda r: r["epsilon"])
    first, many = parts[0], len(parts) > 1
    said |= {
        "epsilon": worst["epsilon"],
        "delta": delta,
        "unit": first.unit,
        "relation": privacy.relation,
        "sampling": first.sampler,
        "accountant": kept,
        "conversion": accountants.CONVERSION[kept],
        "noise_multiplier": noise,
        "rounds": max(rounds),
        "budget": privacy.epsilon,
        "regions": [{"region": name} | of for name, of in list(regions.items())[:_SHOWN]],
        "covered": list(first.covers),
        "notes": [*first.notes, "the uncovered releases are not in epsilon, and have no bound"],
        "warnings": _warnings(delta, first.units),
    }
    if experiment.tune.grid and privacy.count_tuning:
        said["covered"] = [*said["covered"], "the models that hyper-parameters were chosen by"]
    elif experiment.tune.grid:
        said["uncovered"] = [*clear, "the models that hyper-parameters were chosen by"]
    if many:
        total = accountants.largest(list(together.values()), delta, privacy.relation, kept)
        said["notes"] = [
            *said["notes"],
            f"epsilon is of one model; the run trained {len(parts)}, one per fold",
        ]
        said |= {"models": len(parts), "epsilon_of_all_models": total}
    return said


def _pure(experiment: Experiment, rounds: Sequence[int]) -> dict[str, Any]:
    """Randomised answers: of one model, and of all that are trained, as each has answers of its own."""
    privacy, answered = experiment.privacy, PURE[type(experiment.privacy)]
    assert isinstance(privacy, RandomisedResponse | RandomisedCounts)
    tried = len(list(itertools.product(*experiment.tune.grid.values()))) if experiment.tune.grid else 0
    total = len(rounds) * (1 + tried)
    of_all = {"models": total, "epsilon_of_all_models": total * privacy.epsilon} if total > 1 else {}
    return of_all | {
        "epsilon": privacy.epsilon,
        "delta": 0.0,
        "unit": answered.unit,
        "relation": answered.relation,
        "sampling": answered.sampler,
        "accountant": None,
        "conversion": "none: the guarantee is pure",
        "noise_multiplier": None,
        "rounds": max(rounds),
        "budget": None,
        "regions": [{"region": EVERYONE, "epsilon": privacy.epsilon, "delta": 0.0}],
        "warnings": [],
        "covered": list(answered.covers),
        "notes": list(answered.notes),
    }


def _unknown(reason: str) -> dict[str, Any]:
    return {"epsilon": None, "reason": f"no epsilon is stated: {reason}"}


def _config(experiment: Experiment) -> Accounted:
    assert isinstance(experiment.privacy, Accounted)
    return experiment.privacy


def _with_noise(experiment: Experiment, noise: float) -> Experiment:
    privacy = replace(_config(experiment), noise_multiplier=noise)
    return replace(experiment, privacy=privacy)


def _released(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """Of constants, training and evaluation, and where it is asked for of all the models that tuning tried,
    which share constants of their own."""
    entry = RELEASES[type(experiment.privacy)]
    grid = experiment.tune.grid
    counted = bool(grid) and _config(experiment).count_tuning
    released = statistics.added(entry(experiment, clients, rounds), experiment, 2 if counted else 1)
    released = evaluation.added(released, experiment, clients, rounds)
    if not counted:
        return released
    events: dict[str, list[Any]] = {region: list(of) for region, of in released.events.items()}
    longest = max(experiment.tune.rounds or (experiment.rounds,))
    for values in itertools.product(*grid.values()):
        tried = with_numbers(experiment, dict(zip(grid, map(float, values), strict=True)))
        for region, of in entry(tried, clients.tried or clients, longest).events.items():
            events.setdefault(region, []).extend(of)
    return replace(released, events=events)


def _affords(experiment: Experiment, delta: float, rounds: int) -> None:
    """Raises RequestError where the budget, or none, does not pay for what has a noise of its own."""
    privacy = _config(experiment)
    budget = "" if privacy.epsilon is None else f", and privacy.epsilon={privacy.epsilon:g}"
    own = {
        "data.preprocess.noise_multiplier": statistics.composition(experiment),
        "evaluate.noise_multiplier": evaluation.composition(experiment, rounds),
    }
    for option, events in own.items():
        if not events:
            continue
        alone = accountants.largest([events], delta, privacy.relation, privacy.accountant)
        require(
            alone < (privacy.epsilon or inf),
            f"{option}={events[0][0].noise_multiplier:g} alone costs epsilon {alone:.4g}{budget}; "
            f"raise {option}",
        )


def _all(parts: Sequence[Released]) -> list[Any]:
    return list({event: (event, times) for p in parts for of in p.each for event, times in of}.values())


def _delta(experiment: Experiment, folds: Sequence[Clients], rounds: int) -> float:
    privacy = _config(experiment)
    if privacy.delta is not None:
        return privacy.delta
    known = experiment if privacy.noise_multiplier else _with_noise(experiment, 1.0)
    units = [n for clients in folds for n in _released(known, clients, rounds).units.values()]
    return min(DELTA, 0.1 / max(units))


def _warnings(delta: float, units: Mapping[str, int]) -> list[str]:
    few = [n for n in units.values() if delta * n >= 1]
    if not few:
        return []
    return [
        f"delta={delta:g} is not below 1 / n (n = {max(few)}): publishing one unit's data would keep to it"
    ]
