"""What a run releases, mechanism by mechanism: `RELEASES` is the one place where they are named.

An entry is a pure function of the experiment, its clients and the rounds trained, so that the account of a
run follows from its config and its progress alone, however often it was stopped and resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fedsim.accounting import correlated, record
from fedsim.accounting.distributed import rounds_of
from fedsim.accounting.events import Composition, Event, FixedGaussian, Gaussian, PoissonGaussian
from fedsim.base import Refusal
from fedsim.config import (
    AdaptiveClip,
    All,
    BandedPrivacy,
    BltPrivacy,
    Correlated,
    DiscreteGaussian,
    Experiment,
    GaussianPrivacy,
    InRing,
    LocalGaussian,
    Poisson,
    RandomisedCounts,
    RandomisedResponse,
    RecordPrivacy,
    Skellam,
    TreePrivacy,
    Uniform,
)
from fedsim.config.world import (
    Asynchronous,
    Blocks,
    BySize,
    Cyclic,
    Diurnal,
    Fixed,
    Markov,
    PowerOfChoice,
    Trace,
    WorldConfig,
)

EVERYONE = "all clients"  # whose account is the same at every region
MESSAGES = "clients' messages, of which the model is made"
BITS = "whether messages were within the clip norm, by which it moves"
PUBLIC = "the expected number of clients in a round is public"


class Clients(NamedTuple):
    """Those that train. rows: training rows of each.

    For what protects records: units: records or patients of each; steps: its local steps in a round; answers:
      gradients that a client answers, (of every local step, besides) of a lot, and the same of all units.
    For what is whole numbers: numbers: in a message, filled up as it is sent; came: how many clients'
      messages arrive in each round; None where that was not asked.
    judged: (name, rows, sets that these are in) of those whose rows judge a model, where that is asked.
    tried: those that tuning's candidates train on, who hold out some of their rows; None without tuning.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]
    units: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    answers: tuple[tuple[int, int], tuple[int, int]] | None = None
    numbers: int | None = None
    came: tuple[int, ...] | None = None
    judged: tuple[tuple[str, int, int], ...] = ()
    tried: Clients | None = None


@dataclass(frozen=True)
class Released:
    """What `rounds` rounds of training release under the mechanism's protection.

    unit: whose presence is hidden; sampler: how units come to take part, in words; events: region, or
    `EVERYONE` -> composition; judged: the same of units that judge a model and do not train it; units: the
    keys of both -> how many units there are; covers: what is covered, in words.
    """

    unit: str
    sampler: str
    events: Mapping[str, Composition]
    units: Mapping[str, int]
    covers: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    judged: Mapping[str, Composition] = field(default_factory=dict)

    @property
    def each(self) -> tuple[Composition, ...]:
        """Everything that some unit pays for."""
        return (*self.events.values(), *self.judged.values())


Entry = Callable[[Experiment, Clients, int], Released]


# --- samplers: which clients a round draws ------------------------------------------------------

_NEAREST = "set world=poisson with world.rate=cohort / clients, or world=all"
_WITHOUT: dict[type[WorldConfig], str] = {
    BySize: "draws clients by how many rows they have, so who takes part tells of the data",
    PowerOfChoice: "trains the clients whose losses are highest, and so tells of their data",
    Asynchronous: "takes clients as they finish, more often the ones with few rows",
    Diurnal: "draws a fixed number of those that happen to be there, which is no Poisson sample",
    Markov: "draws a fixed number of those that happen to be there, which is no Poisson sample",
    Trace: "draws a fixed number of those that happen to be there, which is no Poisson sample",
    Blocks: "takes clients in turn, which is accounted for where noise is correlated (privacy=banded)",
    Cyclic: "takes clients in turn by their places, which move when a client comes or goes",
    Fixed: "takes clients by their places, which move when a client comes or goes",
}


def sampled(world: WorldConfig, noise: float, population: int) -> tuple[Event, str]:
    """(one round of Gaussian noise on a sum of clipped messages of the clients that `world` draws; in words).

    Those that are lost or late (`world.dropout`, `world.stragglers`) send nothing, by chance alone: taking no
    credit for that, the account is an upper bound.

    Raises Refusal where what a world draws has no valid account.
    """
    match world:
        case Poisson():
            return PoissonGaussian(noise_multiplier=noise, rate=world.rate), "Poisson sample of clients"
        case All():
            return Gaussian(noise_multiplier=noise), "every client in every round"
        case Uniform():
            event = FixedGaussian(noise_multiplier=noise, population=population, cohort=world.cohort)
            return event, "cohort of fixed size without replacement"
    reason = next((why for cls, why in _WITHOUT.items() if isinstance(world, cls)), "has no known account")
    raise Refusal(f"world={world.name} {reason}: no epsilon would be true", _NEAREST)


# --- entries ------------------------------------------------------------------------------------


def client_gaussian(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """privacy=gaussian and adaptive_clip: clipped messages, Gaussian noise on their sum; the denominator is
    public. The bits that move the clip norm are in the same release."""
    privacy = experiment.privacy
    assert isinstance(privacy, GaussianPrivacy | AdaptiveClip)
    n = len(clients.names)
    event, sampler = sampled(experiment.world, privacy.noise(), n)
    return Released(
        unit="client",
        sampler=sampler,
        events={EVERYONE: [(event, rounds)]},
        units={EVERYONE: n},
        covers=(MESSAGES, BITS) if isinstance(privacy, AdaptiveClip) else (MESSAGES,),
        notes=(PUBLIC,),
    )


def client_correlated(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """privacy=tree, banded, blt: clipped messages, noise on their sum that is correlated between rounds."""
    privacy, world, n = experiment.privacy, experiment.world, len(clients.names)
    assert isinstance(privacy, Correlated)
    events, apart = correlated.composition(privacy, world, n, rounds), correlated.period(world, n)
    amplified = any(isinstance(event, PoissonGaussian) for event, _ in events)
    turn = "every client in every round" if apart == 1 else f"each client once in {apart} rounds"
    return Released(
        unit="client",
        sampler=f"{turn}, by a Poisson sample of those whose turn it is" if amplified else turn,
        events={EVERYONE: events},
        units={EVERYONE: n},
        covers=(MESSAGES,),
        notes=(PUBLIC, "which rounds are whose turn is public"),
    )


_SEEN = "who takes part in a round is seen by the server: no credit is taken for sampling"


def whole_numbers(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """privacy=discrete_gaussian and skellam: in every round the noise of those who came, and no more."""
    privacy = experiment.privacy
    assert isinstance(privacy, InRing)
    _by_chance(experiment)
    if clients.came is None or clients.numbers is None:
        raise Refusal(
            f"what privacy={privacy.name} releases depends on how many clients come to each round and on how "
            "many numbers they send",
            "ask of a run, where both are known",
        )
    n = len(clients.names)
    return Released(
        unit="client",
        sampler="every client in every round, towards a server that sees sums alone",
        events={EVERYONE: rounds_of(privacy, clients.came[:rounds], clients.numbers)},
        units={EVERYONE: n},
        covers=("sums of clients' messages, of which the model is made",),
        notes=(_SEEN, "true where the secure sum shows the server no message by itself"),
    )


def single_messages(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """privacy=local_gaussian: the server sees every message, with its own noise."""
    privacy = experiment.privacy
    assert isinstance(privacy, LocalGaussian)
    _by_chance(experiment)
    return Released(
        unit="client",
        sampler="every client in every round, towards the server",
        events={EVERYONE: [(Gaussian(noise_multiplier=privacy.noise()), rounds)]},
        units={EVERYONE: len(clients.names)},
        covers=("each client's messages, from the server too",),
        notes=(_SEEN,),
    )


def _by_chance(experiment: Experiment) -> None:
    """Refuse where who takes part, which is seen, tells of the data."""
    world = experiment.world
    if getattr(experiment.system, "deadline", None) is not None:
        raise Refusal(
            "system.deadline leaves out who takes too long, and so tells how many rows clients have: no "
            "epsilon would be true",
            "set system.deadline=null",
        )
    if isinstance(world, BySize | PowerOfChoice | Asynchronous):
        raise Refusal(f"world={world.name} {_WITHOUT[type(world)]}: no epsilon would be true", _NEAREST)


def at_regions(experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """privacy=record: gradients of records or patients, protected before they leave their region."""
    privacy, batch = experiment.privacy, experiment.optimizer.batch_size
    assert isinstance(privacy, RecordPrivacy) and clients.answers is not None
    events = {
        name: record.composition(privacy.noise(), record.rate(n, batch), steps, clients.answers, rounds)
        for name, n, steps in zip(clients.names, clients.units, clients.steps, strict=True)
    }
    return Released(
        unit=privacy.unit,
        sampler=f"Poisson sample of a region's {privacy.unit}s for every gradient",
        events=events,
        units=dict(zip(clients.names, clients.units, strict=True)),
        covers=("clients' messages and models, and all that is made of their gradients",),
        notes=(
            "how many rows and units each region has is public",
            f"a {privacy.unit} of two regions is two units, and pays in both",
            "every region is taken to take part in all rounds, with all its local steps",
            "a lot is cut where it has more units than places, less often than once in 2^40; not in delta",
        ),
    )


RELEASES: dict[type[Any], Entry] = {
    GaussianPrivacy: client_gaussian,
    AdaptiveClip: client_gaussian,
    TreePrivacy: client_correlated,
    BandedPrivacy: client_correlated,
    BltPrivacy: client_correlated,
    DiscreteGaussian: whole_numbers,
    Skellam: whole_numbers,
    LocalGaussian: single_messages,
    RecordPrivacy: at_regions,
}
"""Privacy config class -> what a run releases. A mechanism of your own adds itself here."""


class Pure(NamedTuple):
    """What is answered for once, at random, before a model is trained: its option `epsilon`, and delta 0.

    Fields as in `Released`; relation: of neighbours.
    """

    unit: str
    relation: str
    sampler: str
    covers: tuple[str, ...]
    notes: tuple[str, ...]


PURE: dict[type[Any], Pure] = {
    RandomisedResponse: Pure(
        unit="label",
        relation="replace_one",
        sampler="every label answered for once",
        covers=("labels of training rows",),
        notes=("features, numbers of rows and all that is uncovered have no bound",),
    ),
    RandomisedCounts: Pure(
        unit="record",
        relation="add_or_remove_one",
        sampler="every place for a row answered for once",
        covers=("how many training rows each client says it has, by which messages are weighted",),
        notes=(
            "epsilon is of the announced counts alone: messages, and the steps they take, are made of the "
            "rows themselves and have no bound",
            "how many places each client has is public",
            "a patient with several rows pays for each of them",
        ),
    ),
}
"""Privacy config class -> what its randomised answers protect."""

MEASURED: list[type[Any]] = [DiscreteGaussian, Skellam]
"""Privacy config classes whose entries need to know how long messages are, and how many arrive."""


# --- what no mechanism covers --------------------------------------------------------------------


def in_the_clear(experiment: Experiment) -> tuple[str, ...]:
    """What a run releases without protection, in words."""
    e, found = experiment, []
    cfg = e.data.preprocess
    shared = {cfg.scope, cfg.scope if cfg.judged == "same" else cfg.judged}
    if (cfg.impute != "none" or cfg.standardise) and not cfg.noised:
        what = {
            "federated": "sums and counts of every feature, for imputation and standardisation",
            "pooled": "imputation and standardisation constants of all rows together",
            "client": "sums and counts of features of which some client has no value, for its constants",
        }
        found += [words for scope, words in what.items() if scope in shared]
        if "client" in shared and isinstance(e.privacy, RecordPrivacy):
            found.append("each client's own constants, which stay there and by which its messages are made")
    if e.evaluate.noise_multiplier is None:
        found.append("metrics and counts of validation and test rows")
    if e.evaluate.predictions is not False:
        found.append("scores of tested rows, where the run stores them")
    if e.tune.grid:
        found.append("losses on validation rows, by which hyper-parameters and rounds were chosen")
    if isinstance(e.privacy, RandomisedCounts):
        found.append("clients' messages and the models made of them, which follow from all of their rows")
    if e.system.name != "none":
        found.append("how long clients take, which follows from how many rows they have")
    if e.algorithm.name in ("local", "pooled"):
        found.append(f"all that algorithm={e.algorithm.name} moves")
    if isinstance(e.privacy, AdaptiveClip | GaussianPrivacy | Correlated):
        found.append("how many updates were not finite")
    if isinstance(e.privacy, RecordPrivacy):
        found.append("how many gradients were not finite")
    found.append("statistics of how clients differ (heterogeneity)")
    return tuple(found)
