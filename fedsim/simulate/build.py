"""From lanes of one structure to an engine: what is compiled, teams laid out, workers started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from fedsim import privacy, world
from fedsim.accounting.correlated import period
from fedsim.base import RequestError, digest, numbers, require, structure
from fedsim.config import (
    Correlated,
    Digits,
    Evaluate,
    Experiment,
    Inline,
    InRing,
    Natural,
    Newton,
    NoSystem,
    Preprocess,
    RecordPrivacy,
    Table,
    TimedSystem,
    Tune,
)
from fedsim.data.federation import Federation
from fedsim.data.units import units
from fedsim.model import Spec
from fedsim.quantise import padded
from fedsim.simulate import secured
from fedsim.simulate.answers import answers
from fedsim.simulate.cost import Work, work
from fedsim.simulate.engine import Engine
from fedsim.simulate.lanes import Lane, layout
from fedsim.simulate.structure import Structure
from fedsim.simulate.team import TeamPlan
from fedsim.simulate.traits import Traits, traits
from fedsim.simulate.widths import widths
from fedsim.simulate.worker import Setup, Team, room
from fedsim.system import Load


def with_strategy(lane: Lane) -> Lane:
    """The lane with a strategy for its run, where its mechanism's noise is correlated between rounds.

    Raises RequestError where clients' turns are not known well enough for an account.
    """
    e = lane.experiment
    if not isinstance(e.privacy, Correlated):
        return lane
    rounds, apart = max(e.tune.rounds or (e.rounds,)), period(e.world, _clients(lane))
    return replace(lane, experiment=replace(e, privacy=privacy.prepared(e.privacy, rounds, apart)))


def _clients(lane: Lane) -> int:
    """All of the split count, so that leaving some out changes no width, but for those that join late."""
    return max(1, len(lane.clients.ids) - len(lane.clients.external) - len(lane.clients.late))


def program_structure(lane: Lane, federation: Federation, platform: str) -> tuple[Structure, Traits]:
    """What decides the compiled program of a lane; equal for runs that differ in numbers only."""
    lane = with_strategy(lane)
    first = lane.experiment
    check_classes(first, federation)
    clients = _clients(lane)
    plain = structure(
        replace(
            first, rounds=1, seed=0, tune=Tune(), evaluate=Evaluate(),
            results="", executor=Inline(), split=Natural(), system=NoSystem(),
            secure=secured.compiled(first.secure), audit=first.audit.compiled,
            data=replace(Digits(), mode=first.data.mode, preprocess=Preprocess()),
        )
    )  # fmt: skip
    spec = Spec(tuple(federation.shape), federation.kind, federation.classes, event_times(first, federation))
    sizes = federation.sizes[sorted(federation.external)]
    rows, outside = federation.rows - int(sizes.sum()), int(sizes.max(initial=0))
    # Of these rows no more than their clients' mean share: who joins late follows from the seed.
    inside, late = len(lane.judged.ids) - len(lane.judged.external), len(lane.judged.late)
    rows = rows * (inside - late) // max(1, inside)
    generated = federation.generate if first.data.mode == "generated" else None
    # Who cannot finish by a deadline may not take part.
    everyone = world.everyone(first.world) and getattr(first.system, "deadline", None) is None
    asked = [
        plain,
        first.rounds,
        first.tune.rounds,
        str(spec),
        clients,
        rows,
        outside,
        platform,
        jax.config.read("jax_enable_x64"),
    ]
    key = digest([*asked, repr(generated), everyone])
    if key not in _KNOWN:
        made = Structure(
            experiment=plain,
            paths=tuple(numbers(first)),
            spec=spec,
            widths=widths(first, spec, clients, rows, outside, platform),
            generate=generated.rows if generated is not None else None,
        )
        rounds = max(first.tune.rounds or (first.rounds,))
        participations = rounds * world.mean_size(first.world, clients) / clients
        _KNOWN[key] = made, _traced(made, participations, everyone)
    return _KNOWN[key]


def _traced(s: Structure, participations: float, everyone: bool) -> Traits:
    """Its traits. Federations of other sizes that have a structure in common have them in common."""
    about = [str(s.spec), str(s.widths), repr(s.generate), jax.config.read("jax_enable_x64")]
    key = digest([s.experiment, *about, participations, everyone])
    if key not in _TRAITS:
        found = traits(s, participations, everyone)
        if isinstance(s.experiment.privacy, RecordPrivacy):
            found = found._replace(answers=answers(s))
        _TRAITS[key] = found
    return _TRAITS[key]


def check_classes(e: Experiment, federation: Federation) -> None:
    """Raises RequestError for a label of more than two classes where two are what can be fitted."""
    if federation.kind != "multiclass" or not isinstance(e.algorithm, Newton):
        return
    label = "the label"
    if isinstance(e.data, Table):
        label = f"column {e.data.target!r} (data.label)"
    some = ", ".join(federation.labels[:_NAMED]) + ", ..." * (len(federation.labels) > _NAMED)
    raise RequestError(
        f"algorithm={e.algorithm.name} fits two classes, and {label} has {federation.classes} values "
        f"({some}); make a label of two of it, such as one value against the others, leave out the rows "
        "with the rest, or take algorithm=fedavg with task=logistic, which has a probability for each"
    )


def event_times(e: Experiment, federation: Federation) -> tuple[float, ...]:
    """The distinct times of events, rising, where all clients must know them; else ().

    Of all rows that may train, so that all runs on these data share a program; a time at which no row of a
    run has an event does nothing.

    Raises RequestError for more of them than a survey of risk sets can hold.
    """
    if not isinstance(e.algorithm, Newton) or federation.kind != "survival" or federation.columns is None:
        return ()
    known = id(federation.columns["time"]), id(federation.columns["y"])
    if known not in _TIMES:
        _TIMES.clear()
        inside = ~np.isin(federation.client_of_row(), sorted(federation.external))
        happened = (federation.columns["y"] > 0) & inside
        found = np.unique(federation.columns["time"][happened])
        _TIMES[known] = tuple(found.tolist()), (federation.columns["time"], federation.columns["y"])
    times, _ = _TIMES[known]
    require(
        len(times) <= MOST_TIMES,
        f"algorithm={e.algorithm.name} sums over the risk set of every distinct event time, of which there "
        f"are {len(times)}, and {MOST_TIMES} is the most; round the times, for instance to whole days",
    )
    return times


_NAMED = 5  # values of a label, in an error
MOST_TIMES = 20_000
# By the arrays they come from, which are held so that no others take their place.
_TIMES: dict[tuple[int, int], tuple[tuple[float, ...], Any]] = {}

# Found by tracing, so each is found once.
_KNOWN: dict[str, tuple[Structure, Traits]] = {}
_TRAITS: dict[str, Traits] = {}


def build(federation: Federation, lanes: Sequence[Lane], platform: str, start: Any) -> Engine:
    """Lay lanes of one structure out in teams and start their workers.

    Args:
      platform: of the devices that will do the work, `cpu` or `gpu`.
      start: Setup -> Workers.
    """
    s, traits = program_structure(lanes[0], federation, platform)
    most = max(int(lane.clients.train.max()) for lane in lanes)
    require(
        not traits.together or most <= traits.together,
        f"task.rows={traits.together} is less than the {most} rows of the largest client, and here a "
        "client's rows are needed all at once; raise task.rows, or set optimizer.batch_size with a method "
        "that needs no more than batches",
    )
    for lane in lanes:
        check_protected(lane, federation)
        if isinstance(lane.experiment.privacy, InRing):
            clients = int((lane.clients.federated > 0).sum())
            cohort = world.mean_size(lane.experiment.world, clients)
            lane.experiment.privacy.check_ring(padded(traits.sent), cohort)
    w = s.widths
    teams, setups = [], []
    timed = any(isinstance(lane.experiment.system, TimedSystem) for lane in lanes)
    of_lane = work(s) if timed else None

    def load(lane: Lane) -> Load:
        """What a round asks of a client; without machines nobody asks what is computed."""
        done = of_lane(numbers(lane.experiment)) if of_lane else Work(0.0, 0.0)
        step, once, survey = (passes * traits.flops for passes in done)
        batch, (down, up) = s.experiment.optimizer.batch_size, traits.survey_bytes or (0, 0)
        first = Load(down, up, 0.0, batch, survey) if traits.survey_bytes else None
        more = secured.beside(lane, traits.masked)
        sent, received = traits.up_bytes - up + more.up, traits.down_bytes - down + more.down
        return Load(received, sent, step, batch, once, first)

    for at in range(0, len(lanes), w.lanes):
        mine = list(lanes[at : at + w.lanes])
        lay = layout(mine, s.paths, w.clients, w.degree)
        team = TeamPlan(mine, lay, w, s.versions, list(map(load, mine)), traits.masked)
        teams.append(team)
        setups.append(_fixed(team, federation))
    stored = lanes[0].experiment.data.mode == "resident"
    setup = Setup(s, federation.columns if stored else None, setups)
    return Engine(federation, lanes, s, traits, teams, start(setup))


def check_protected(lane: Lane, federation: Federation) -> None:
    """Refuse what would go around a region's own protection, or needs patients that are not known."""
    e = lane.experiment
    if not isinstance(e.privacy, RecordPrivacy):
        return
    units(federation, lane.clients, e.privacy.unit)
    require(
        e.aggregator.root == 0,
        f"aggregator={e.aggregator.name} takes rows of the clients to the server as they are, so "
        "privacy=record would promise nothing; choose another aggregator, or privacy=none",
    )


def _fixed(team: TeamPlan, federation: Federation) -> Team:
    """A team's arrays in shapes that do not depend on how many lanes it has or what they share."""
    w, lay, lane = team.widths, team.layout, team.lanes[0]
    table = None
    if lay.row_table is not None and lane.experiment.data.mode == "resident":
        pooled = lane.clients is not lane.judged  # pooled rows, and the judged ones beside them
        most = room(federation.rows) * (2 if pooled else 1) + lane.experiment.aggregator.root
        table = _pad(lay.row_table, w.lanes * most)
    per_lane = len(lane.judged.ids) + len(lane.clients.ids) + 1
    by_client = lane.experiment.data.preprocess.scope == "client"
    constants = tuple(_pad(c, w.lanes * (2 * per_lane if by_client else 2)) for c in lay.constants)
    return Team(jax.tree.map(lambda x: _pad(x, w.lanes), lay.inputs), table, constants)


def _pad(x: np.ndarray, length: int) -> np.ndarray:
    """Repeat the first row until there are `length`."""
    assert len(x) <= length, (len(x), length)
    return np.concatenate([x, np.repeat(x[:1], length - len(x), axis=0)])
