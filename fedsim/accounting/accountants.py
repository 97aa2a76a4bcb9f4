"""Accountants: from what was released to (epsilon, delta), each time with how it was computed.

`gdp` is exact where all noise is Gaussian and nobody is sampled; `pld` composes privacy loss distributions,
rounded so that what they give is an upper bound; `rdp` composes Rényi divergences. Which of them takes
which event, under which relation, is one table; what is not in it is refused with what is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import inf, isfinite, sqrt
from typing import Literal, NamedTuple, get_args

import numpy as np

from fedsim.accounting import curves, library, pld
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
    halves,
)
from fedsim.base import Refusal, nearest, require

Accountant = Literal["gdp", "pld", "rdp"]
CONVERSION = {
    "gdp": "exact for Gaussian noise (Balle and Wang 2018, Theorem 8)",
    "pld": "hockey-stick divergence of privacy loss distributions, rounded up (connect the dots, interval "
    f"{pld.INTERVAL:g})",
    "rdp": "from Rényi divergence by Canonne, Kamath and Steinke 2020, Proposition 12, least over "
    "dp-accounting's default orders",
}
_ANY = tuple(RELATIONS)
_PRESENT = ("add_or_remove_one", "replace_special")  # a unit's contribution is there, or it is not
# event -> accountant -> relations under which it has an account, the first being the usual one
TAKES: dict[type[Event], dict[str, tuple[str, ...]]] = {
    Gaussian: {"gdp": _ANY, "pld": _ANY, "rdp": _ANY},
    PoissonGaussian: {"pld": _ANY, "rdp": _PRESENT},
    TruncatedGaussian: {"pld": _ANY},
    RowsGaussian: {"pld": _PRESENT},
    FixedGaussian: {"rdp": ("replace_one",)},
    Laplace: {"pld": _ANY, "rdp": _ANY},
    DiscreteGaussian: {"rdp": _ANY},
    Skellam: {"rdp": _ANY},
    Tree: {"gdp": ("replace_special",), "rdp": ("replace_special",)},
    Matrix: {"gdp": ("replace_special", "replace_one"), "rdp": ("replace_special", "replace_one")},
}
WORDS: dict[type[Event], str] = {
    Gaussian: "Gaussian noise without sampling",
    PoissonGaussian: "Gaussian noise on Poisson samples",
    TruncatedGaussian: "Gaussian noise on truncated Poisson samples",
    RowsGaussian: "patients with several rows (a mixture of Gaussians)",
    FixedGaussian: "a cohort of fixed size, which is no Poisson sample,",
    Laplace: "Laplace noise",
    DiscreteGaussian: "discrete Gaussian noise",
    Skellam: "Skellam noise",
    Tree: "tree aggregation",
    Matrix: "matrix noise",
}


class Spent(NamedTuple):
    """What a composition costs, and how that is known."""

    epsilon: float
    delta: float
    relation: str
    accountant: str
    conversion: str


def epsilon(events: Composition, delta: float, relation: str, accountant: str | None = None) -> Spent:
    """An upper bound on epsilon at `delta`, by the first accountant that takes all events, unless told.

    Raises Refusal where there is no valid account, or delta is no probability.
    """
    check_delta(delta)
    kept = chosen(events, relation, accountant)
    found = bound(events, delta, relation, kept)
    if not isfinite(found):
        raise Refusal(
            f"accountant={kept} gives no finite epsilon at delta={delta:g}",
            "set a larger delta, or more noise",
        )
    return Spent(found, delta, relation, kept, CONVERSION[kept])


def bound(events: Composition, delta: float, relation: str, accountant: str) -> float:
    """The epsilon of an accountant that takes all events; inf where it has no finite one."""
    return _bound(_merged(events), delta, relation, accountant)


def largest(parts: Sequence[Composition], delta: float, relation: str, accountant: str | None) -> float:
    """The largest epsilon of those that release `parts`, each by the first accountant that takes it, unless
    told. A distribution of losses is made only where the Rényi bound, which takes a thousandth of the time,
    says that it could be the largest. Raises Refusal where one has no valid account."""
    kept = {events: chosen(events, relation, accountant) for events in _undominated(map(_merged, parts))}
    quick = {
        events: bound(events, delta, relation, "rdp")
        if by == "pld" and all(relation in TAKES[type(event)].get("rdp", ()) for event, _ in events)
        else inf
        for events, by in kept.items()
    }
    most = -inf
    for events in sorted(kept, key=lambda e: -quick[e]):
        if quick[events] > most:
            most = max(most, bound(events, delta, relation, kept[events]))
    return most


def _undominated(parts: Iterable[Composition]) -> list[Composition]:
    """Without those that differ from another in a smaller rate of their Poisson samples alone: a sample of a
    sample tells no more."""
    most: dict[tuple[float, int], PoissonGaussian] = {}
    others: dict[Composition, None] = {}
    for part in parts:
        match part:
            case ((PoissonGaussian() as event, times),):
                key = event.noise_multiplier, times
                most[key] = max(event, most.get(key, event), key=lambda e: e.rate)
            case _:
                others[part] = None
    return [*others, *(((event, times),) for (_, times), event in most.items())]


def _merged(events: Composition) -> tuple[tuple[Event, int], ...]:
    """Each event once, in one order: what is composed does not follow from when it was released."""
    counts: Counter[Event] = Counter()
    for event, times in events:
        counts[event] += times
    return tuple(sorted(((e, t) for e, t in counts.items() if t), key=lambda pair: repr(pair[0])))


@lru_cache(maxsize=4096)
def _bound(events: Composition, delta: float, relation: str, accountant: str) -> float:
    return _EPSILON[accountant](events, delta, relation) if events else 0.0


def delta(events: Composition, epsilon: float, relation: str, accountant: str | None = None) -> float:
    """An upper bound on delta at `epsilon`. Raises as the function above."""
    require(0 <= epsilon < inf, f"epsilon must be in [0, inf), got {epsilon}; set epsilon=1")
    return float(min(1.0, _DELTA[chosen(events, relation, accountant)](_merged(events), epsilon, relation)))


def check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise Refusal(
            f"delta must be in (0, 1), got {delta:g}: it is the probability with which epsilon may not hold",
            "set delta well below 1 / n, such as delta=1e-5",
        )


def chosen(events: Composition, relation: str, accountant: str | None) -> str:
    """The accountant that keeps the account of all `events`. Raises Refusal naming one that could."""
    known = get_args(Accountant)
    require(relation in RELATIONS, f"unknown relation {relation!r}; {nearest(relation, RELATIONS)}")
    require(
        accountant is None or accountant in known,
        f"unknown accountant {accountant!r}; {nearest(str(accountant), known)}",
    )
    require(len(events) > 0, "nothing was released, so there is nothing to account for; give an event")
    kinds = list(dict.fromkeys(type(event) for event, times in events if times))
    if any(isinstance(event, Laplace) and event.rate < 1 for event, _ in events):
        _sampled_laplace(relation, accountant)
        known = ("pld",)
    wanted = known if accountant is None else (accountant,)
    for name in wanted:
        if all(relation in TAKES[kind].get(name, ()) for kind in kinds):
            return name
    raise _refusal(kinds, relation, accountant)


def _sampled_laplace(relation: str, accountant: str | None) -> None:
    if accountant not in (None, "pld") or relation not in _PRESENT:
        raise Refusal(
            f"sampled Laplace noise has no account by accountant={accountant} under relation={relation}",
            f"set accountant=pld and relation={_PRESENT[0]}",
        )


def _refusal(kinds: list[type[Event]], relation: str, accountant: str | None) -> Refusal:
    """Why these events have no account, and the nearest that they have."""
    bad = next(
        (
            kind
            for kind in kinds
            if not any(relation in of for by, of in TAKES[kind].items() if accountant in (None, by))
        ),
        None,
    )
    if bad is None:
        by = ", ".join(f"{WORDS[kind].rstrip(',')}: {' or '.join(TAKES[kind])}" for kind in kinds)
        return Refusal(
            f"no accountant takes all of these events under relation={relation} ({by})",
            "account for them apart, and add their epsilons and their deltas",
        )
    takes = TAKES[bad]
    whom = f"by accountant={accountant} " if accountant else ""
    if accountant in takes:
        advice = f"set relation={takes[accountant][0]}"
    elif any(relation in relations for relations in takes.values()):
        advice = f"set accountant={next(by for by, of in takes.items() if relation in of)}"
    else:
        by, relations = next(iter(takes.items()))
        advice = f"set relation={relations[0]} and accountant={by}"
    if bad is FixedGaussian:
        advice += ", or draw a Poisson sample: sampling=poisson, in runs world=poisson"
    return Refusal(f"{WORDS[bad]} has no valid account {whom}under relation={relation}", advice)


# --- Rényi -----------------------------------------------------------------------------------


def rdp(event: Event, relation: str) -> np.ndarray:
    """Rényi divergence of one event at `library.orders()`."""
    noise = halves(event, relation)
    match event:
        case PoissonGaussian():
            return sampled_rdp(noise, event.rate)
        case FixedGaussian():
            return library.fixed_rdp(noise, event.population, event.cohort)
        case Laplace():
            return library.laplace_rdp(noise)
        case Tree():
            return library.tree_rdp(noise, event.steps)
        case Matrix():
            return plain_rdp(noise / event.sensitivity)
        case DiscreteGaussian():
            return curves.discrete_gaussian(event, relation, library.orders())
        case Skellam():
            return curves.skellam(event, relation, library.orders())
    return plain_rdp(noise)


@lru_cache(maxsize=4096)
def sampled_rdp(noise: float, rate: float) -> np.ndarray:
    """Of Gaussian noise on Poisson samples, where a unit comes or goes."""
    return plain_rdp(noise) if rate == 1 else curves.sampled_gaussian(noise, rate, library.orders())


def plain_rdp(noise: float) -> np.ndarray:
    return library.orders() / (2 * noise**2)


def _rdp_total(events: Composition, relation: str) -> np.ndarray:
    return np.sum([times * rdp(event, relation) for event, times in events], axis=0)


# --- privacy loss distributions --------------------------------------------------------------


def released(event: Event, times: int, relation: str) -> tuple[pld.Either, int]:
    """(a release, how often), which together are `times` events."""
    noise, replaced = event.noise_multiplier, relation == "replace_one"
    match event:
        case Gaussian():
            return pld.repeated_gaussian(noise, times, replaced), 1
        case PoissonGaussian():
            return pld.gaussian(noise, event.rate, replaced), times
        case TruncatedGaussian():
            return pld.truncated(noise, event.rate, event.population, event.cap, replaced), times
        case RowsGaussian():
            return pld.gaussian(noise, event.rate, False, event.rows), times
        case Laplace():
            return pld.laplace(halves(event, relation), event.rate), times
    raise TypeError(f"{type(event).__name__} has no privacy loss distribution here")


@lru_cache(maxsize=8)
def _pld_total(events: Composition, relation: str) -> pld.Either:
    return pld.composed([released(event, times, relation) for event, times in events])


# --- exact -----------------------------------------------------------------------------------


def moved(event: Event, relation: str) -> float:
    """Deviations that a neighbour moves the mean of Gaussian noise by."""
    size = 1.0
    if isinstance(event, Tree):
        size = sqrt(event.height)
    elif isinstance(event, Matrix):
        size = event.sensitivity
    return size / halves(event, relation)


def _moved_total(events: Composition, relation: str) -> float:
    return sqrt(sum(times * moved(event, relation) ** 2 for event, times in events))


_EPSILON: dict[str, Callable[[Composition, float, str], float]] = {
    "gdp": lambda events, d, r: curves.gaussian_epsilon(_moved_total(events, r), d),
    "pld": lambda events, d, r: pld.epsilon(_pld_total(events, r), d),
    "rdp": lambda events, d, r: library.epsilon_of_rdp(_rdp_total(events, r), d),
}
_DELTA: dict[str, Callable[[Composition, float, str], float]] = {
    "gdp": lambda events, e, r: curves.gaussian_delta(_moved_total(events, r), e),
    "pld": lambda events, e, r: pld.delta(_pld_total(events, r), e),
    "rdp": lambda events, e, r: library.delta_of_rdp(_rdp_total(events, r), e),
}
