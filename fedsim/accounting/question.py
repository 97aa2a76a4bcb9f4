"""What may be asked of the accountants directly: plain options, or a file of several events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from fedsim.accounting import accountants
from fedsim.accounting.calibration import least_noise, most_rounds
from fedsim.accounting.events import (
    RELATIONS,
    Composition,
    DiscreteGaussian,
    Event,
    FixedGaussian,
    Gaussian,
    Laplace,
    Matrix,
    PoissonGaussian,
    RowsGaussian,
    Skellam,
    Tree,
    TruncatedGaussian,
    blt_coefficients,
    toeplitz_sensitivity,
)
from fedsim.base import Refusal, build, require

Sampling = Literal["all", "poisson", "fixed", "truncated_poisson"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One event and how often it happens.

    sampling: null: poisson where q is given, fixed where b is, else all. q: the rate; n: units; b: cohort of
      fixed size; cap: largest batch of a truncated Poisson sample.
    steps: releases; for tree, banded and blt the steps of one run.
    rows_per_patient: the most rows of one patient, each clipped on its own (unit=patient).
    participations: steps that a unit takes part in, one of each tree where mechanism=tree; separation: steps
      between two of them, at least; bands, or decay and scale: of the strategy; sensitivity: of the strategy,
      and for integer noise the clip norm in steps of the grid.
    clients: those who add noise; dimension: of the vectors (discrete_gaussian, skellam).
    """

    mechanism: Literal["gaussian", "laplace", "discrete_gaussian", "skellam", "tree", "banded", "blt"] = (
        "gaussian"
    )
    sampling: Sampling | None = None
    q: float | None = None
    n: int | None = None
    b: int | None = None
    cap: int | None = None
    noise_multiplier: float | None = None
    steps: int | None = None
    unit: Literal["record", "patient", "client"] = "record"
    rows_per_patient: int | None = None
    participations: int = 1
    separation: int | None = None
    bands: int | None = None
    decay: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    sensitivity: float | None = None
    clients: int = 1
    dimension: int = 1

    def __post_init__(self) -> None:
        require(self.steps is None or self.steps >= 1, f"steps must be >= 1, got {self.steps}; set steps=1")
        require(
            self.participations >= 1,
            f"participations must be >= 1, got {self.participations}; set participations=1",
        )
        for name in ("rows_per_patient", "separation", "bands", "clients", "dimension", "n", "b", "cap"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"{name} must be >= 1, got {value}; set {name}=1")
        require(
            self.sensitivity is None or self.sensitivity > 0,
            f"sensitivity must be > 0, got {self.sensitivity}; give what a unit moves, or leave it out",
        )
        if self.unit == "patient" and self.rows_per_patient is None:
            raise Refusal(
                "unit=patient needs to know how many rows one patient may have",
                "set rows_per_patient, 1 where every patient has one row",
            )
        require(
            self.unit == "patient" or self.rows_per_patient is None,
            f"rows_per_patient says nothing where unit={self.unit}; set unit=patient",
        )

    @property
    def sampled(self) -> str:
        if self.sampling is not None:
            return self.sampling
        return "poisson" if self.q is not None else "fixed" if self.b is not None else "all"


@dataclass(frozen=True, kw_only=True)
class Question(Step):
    """Steps and what is asked about them.

    relation: null: add_or_remove_one where that has an account, else the relation that has one; events: a
      YAML file with a list `events` of steps, and what else is here.
    """

    delta: float | None = None
    epsilon: float | None = None
    relation: Literal["add_or_remove_one", "replace_one", "replace_special"] | None = None
    accountant: Literal["gdp", "pld", "rdp"] | None = None
    events: str | None = None


def read(values: Mapping[str, Any]) -> tuple[Question, tuple[Step, ...]]:
    """(the question, its steps). Raises RequestError for what does not exist."""
    asked = build(Question, values)
    if asked.events is None:
        return asked, (Step(**{f.name: getattr(asked, f.name) for f in fields(Step)}),)
    given = sorted(values.keys() - {"events", "delta", "epsilon", "relation", "accountant"})
    require(not given, f"{', '.join(given)} cannot be set beside events={asked.events}; set them in the file")
    path = Path(asked.events)
    require(path.is_file(), f"events={path}: no such file; give a YAML file")
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise Refusal(
            f"{path} is no YAML ({' '.join(str(error).split())})", "write a list `events`"
        ) from None
    require(
        isinstance(held, dict) and isinstance(held.get("events"), list) and held["events"],
        f"{path} must hold a mapping with a list `events` of at least one step; write `events:`",
    )
    steps = tuple(build(Step, step, f"events[{i}]") for i, step in enumerate(held.pop("events")))
    return build(Question, {**held, **values}), steps


# --- answers ------------------------------------------------------------------------------------


def answer_epsilon(asked: Question, steps: tuple[Step, ...]) -> dict[str, Any]:
    """epsilon at the delta that is asked for, with all that the number depends on."""
    for step in steps:
        _need(
            step.noise_multiplier,
            "noise_multiplier",
            "set it, or ask for it: fedsim privacy calibrate epsilon=",
        )
        _need(step.steps, "steps", "set it, or ask for it: fedsim privacy calibrate epsilon=")
    require(
        asked.epsilon is None,
        f"epsilon={asked.epsilon} is what is asked for; leave it out, or use fedsim privacy calibrate",
    )
    return _answer(asked, steps)


def answer_calibration(asked: Question, steps: tuple[Step, ...]) -> dict[str, Any]:
    """What is missing, for a budget epsilon: the least noise multiplier, or the most steps."""
    budget = _need(asked.epsilon, "epsilon", "set the budget, as in epsilon=2")
    missing = {
        name: [i for i, step in enumerate(steps) if getattr(step, name) is None]
        for name in ("noise_multiplier", "steps")
    }
    if (len(missing["noise_multiplier"]) > 0) == (len(missing["steps"]) > 0):
        raise Refusal(
            "either the noise multiplier or the number of steps is found, from the other one",
            "leave out noise_multiplier, or steps, and set the other",
        )
    name = next(name for name, at in missing.items() if at)

    def filled(value: float) -> tuple[Step, ...]:
        more: dict[str, Any] = {name: value}
        return tuple(replace(s, **more) if i in missing[name] else s for i, s in enumerate(steps))

    delta = _need(asked.delta, "delta", "set it well below 1 / n, as in delta=1e-5")
    accountants.check_delta(delta)

    def spent(value: float) -> float:
        events, relation, accountant = _settle(asked, filled(value))
        return accountants.bound(events, delta, relation, accountant)

    found: float
    if name == "noise_multiplier":
        found = least_noise(spent, budget)
    else:
        found = most_rounds(spent, budget)
        if found == 0:
            raise Refusal(
                f"epsilon={budget:g} does not pay for one step with this noise",
                "set a larger noise_multiplier, epsilon or delta",
            )
    return {name: found, "budget": budget} | _answer(asked, filled(found))


def _answer(asked: Question, steps: tuple[Step, ...]) -> dict[str, Any]:
    delta = _need(asked.delta, "delta", "set it well below 1 / n, as in delta=1e-5")
    accountants.check_delta(delta)
    events, relation, accountant = _settle(asked, steps)
    spent = accountants.epsilon(events, delta, relation, accountant)
    units = {step.unit for step in steps}
    require(
        len(units) == 1, f"events are about several units ({', '.join(sorted(units))}); ask for each apart"
    )
    found = {
        "epsilon": spent.epsilon,
        "delta": delta,
        "unit": units.pop(),
        "relation": relation,
        "sampling": ", ".join(dict.fromkeys(event.sampling for event, _ in events)),
        "accountant": spent.accountant,
        "conversion": spent.conversion,
    }
    n = min((step.n for step in steps if step.n is not None), default=None)
    if n is not None and delta * n >= 1:
        found["warning"] = (
            f"delta={delta:g} is not below 1 / n (n = {n}): publishing one unit's data would keep to it"
        )
    return found


def _settle(asked: Question, steps: tuple[Step, ...]) -> tuple[Composition, str, str]:
    """(events, relation, accountant). Raises Refusal where there is no valid account."""
    events = [compiled(step) for step in steps]
    for relation in RELATIONS if asked.relation is None else ():
        try:
            return events, relation, accountants.chosen(events, relation, asked.accountant)
        except Refusal:
            continue
    relation = asked.relation or "add_or_remove_one"
    return events, relation, accountants.chosen(events, relation, asked.accountant)


# --- from steps to events -----------------------------------------------------------------------


def compiled(step: Step) -> tuple[Event, int]:
    """The event that a step is, and how often it happens."""
    noise = _need(step.noise_multiplier, "noise_multiplier", "set it above 0")
    times = _need(step.steps, "steps", "set it, as in steps=1000")
    if step.mechanism != "gaussian" and step.sampled not in (
        "all",
        *(("poisson",) * (step.mechanism == "laplace")),
    ):
        raise Refusal(
            f"mechanism={step.mechanism} has no account of sampling={step.sampled}",
            "set sampling=all, which takes no credit for sampling",
        )
    if (step.rows_per_patient or 1) > 1:
        return _patients(step, noise), times
    whole = {"tree": step.participations, "banded": 1, "blt": 1}  # whose event is all of the steps
    return _COMPILED[step.mechanism](step, noise), whole.get(step.mechanism, times)


def _patients(step: Step, noise: float) -> Event:
    rows = step.rows_per_patient or 1
    if step.mechanism == "gaussian" and step.sampled == "poisson":
        return RowsGaussian(
            noise_multiplier=noise, rate=_need(step.q, "q", "set the rate of rows"), rows=rows
        )
    if step.mechanism in ("gaussian", "laplace") and step.sampled == "all":
        return _COMPILED[step.mechanism](step, noise / rows)
    raise Refusal(
        f"several rows of a patient have no account with mechanism={step.mechanism}, sampling={step.sampled}",
        "set mechanism=gaussian and sampling=poisson, or clip per patient and set rows_per_patient=1",
    )


def _gaussian(step: Step, noise: float) -> Event:
    q, n = (
        (lambda: _need(step.q, "q", "set the rate")),
        (lambda: _need(step.n, "n", "set the number of units")),
    )
    match step.sampled:
        case "poisson":
            return PoissonGaussian(noise_multiplier=noise, rate=q())
        case "fixed":
            b = _need(step.b, "b", "set the size of the cohort")
            return FixedGaussian(noise_multiplier=noise, population=n(), cohort=b)
        case "truncated_poisson":
            cap = _need(step.cap, "cap", "set the largest batch")
            return TruncatedGaussian(noise_multiplier=noise, rate=q(), population=n(), cap=cap)
    return Gaussian(noise_multiplier=noise)


def _tree(step: Step, noise: float) -> Event:
    assert step.steps is not None
    return Tree(noise_multiplier=noise, steps=step.steps)


def _banded(step: Step, noise: float) -> Event:
    """Columns of the strategy have norm 1, and those of one unit's steps share no row (Choquette-Choo et al.,
    "(Amplified) Banded Matrix Factorization", NeurIPS 2023, Theorem 2)."""
    if step.sensitivity is None:
        bands = _need(step.bands, "bands", "set the bands of the strategy, or its sensitivity")
        apart = _separation(step)
        if step.participations > 1 and apart < bands:
            raise Refusal(
                f"steps of one unit that are {apart} apart overlap in a strategy of {bands} bands",
                f"set separation to at least {bands}, or give the strategy's sensitivity",
            )
    return Matrix(noise_multiplier=noise, sensitivity=step.sensitivity or step.participations**0.5)


def _blt(step: Step, noise: float) -> Event:
    sensitivity = step.sensitivity
    if sensitivity is None:
        _need(step.decay or None, "decay", "set decay and scale of the strategy, or its sensitivity")
        column = blt_coefficients(step.decay, step.scale, step.steps or 1)
        sensitivity = toeplitz_sensitivity(column, step.participations, _separation(step))
    return Matrix(noise_multiplier=noise, sensitivity=sensitivity)


def _separation(step: Step) -> int:
    return step.separation or max(1, (step.steps or 1) // step.participations)


def _integer(cls: Callable[..., Event]) -> Callable[[Step, float], Event]:
    def make(step: Step, noise: float) -> Event:
        more = {"clients": step.clients} if cls is DiscreteGaussian else {}
        return cls(
            noise_multiplier=noise, sensitivity=step.sensitivity or 1.0, dimension=step.dimension, **more
        )

    return make


_COMPILED: dict[str, Callable[[Step, float], Event]] = {
    "gaussian": _gaussian,
    "laplace": lambda step, noise: Laplace(
        noise_multiplier=noise, rate=1.0 if step.sampled == "all" else _need(step.q, "q", "set the rate")
    ),
    "discrete_gaussian": _integer(DiscreteGaussian),
    "skellam": _integer(Skellam),
    "tree": _tree,
    "banded": _banded,
    "blt": _blt,
}


def _need(value: Any, name: str, advice: str) -> Any:
    if value is None:
        raise Refusal(f"{name} is required and has no default", advice)
    return value
