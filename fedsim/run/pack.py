"""One pack of runs, from lanes to results: choose on validation rows, train, judge."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

from fedsim import metrics
from fedsim.base import checked, nearest, numbers, require, to_dict, with_numbers
from fedsim.config import Experiment
from fedsim.config.attack import Backdoor
from fedsim.model import Model
from fedsim.run import absolute, amounts, audits, budget, regression, released, spending, subgroups
from fedsim.run.rows import Rows, columns
from fedsim.run.sources import Sources, with_choices
from fedsim.run.train import Memo, train
from fedsim.simulate import secured
from fedsim.simulate.engine import Engine, Handles
from fedsim.simulate.judged import labels_of
from fedsim.simulate.lanes import Lane
from fedsim.simulate.structure import CLIPPED, LOST
from fedsim.simulate.worker import named
from fedsim.store import RunResult

_PREDICTIONS_BELOW = 1_000_000
_PERSONAL_MODELS = 100  # clients whose own models are stored


@dataclass(frozen=True)
class Job:
    """One run: its id, experiment, and the sweep's labels."""

    run: str
    experiment: Experiment
    cell: dict[str, Any]


@dataclass
class Bench:
    """What a pack needs from outside.

    engine: (lanes of one structure) -> Engine; memo: phase -> where its checkpoints lie; advance:
    told the lane-rounds done.
    """

    sources: Sources
    engine: Callable[[Sequence[Lane]], Engine]
    memo: Callable[[str], Memo]
    advance: Callable[[float], object]
    device_kind: str


def candidates(experiment: Experiment) -> list[dict[str, float]]:
    """All combinations of the tuning grid; RequestError where it names something that is no number, or one
    that is out of range."""
    known = numbers(experiment)
    for path in experiment.tune.grid:
        require(path in known, f"tune.grid.{path} is not a number that can be tuned; {nearest(path, known)}")
    axes = [[(path, float(v)) for v in values] for path, values in experiment.tune.grid.items()]
    found = [dict(c) for c in itertools.product(*axes)]
    for numbers_tried in found:
        checked(with_numbers(experiment, numbers_tried))
    return found


def stops(experiment: Experiment) -> list[int]:
    """Numbers of rounds after which a run is judged."""
    every = experiment.evaluate.every
    inner = range(every, experiment.rounds, every) if every else []
    return [*inner, experiment.rounds]


@dataclass(frozen=True)
class Choice:
    """What tuning chose for one fold."""

    numbers: dict[str, float]
    rounds: int


def choose(jobs: Sequence[Job], bench: Bench) -> tuple[list[list[Choice]], list[dict[str, Any]]]:
    """Choose numbers and rounds of every fold of every job by the loss on its validation rows.

    Validation rows are taken from the fold's training rows, so no tested row has a say.

    Returns:
      (choices [job][fold], the losses of all candidates as columns per job).
    """
    tune = jobs[0].experiment.tune
    grid = [candidates(job.experiment) for job in jobs]
    at = list(tune.rounds) or [jobs[0].experiment.rounds]
    folds = [bench.sources.lanes(job.experiment, holding_out=tune.valid) for job in jobs]
    lanes = [
        lane
        for mine, options in zip(folds, grid, strict=True)
        for lane in with_choices(mine, options, at[-1])
    ]
    engine = bench.engine(lanes)
    federation = engine.federation
    labels = []
    for lane in lanes:
        require(lane.judged.valid.sum() > 0, "tuning needs validation rows, got none; raise tune.valid")
        rows, _ = labels_of(lane.judged, "valid")
        labels.append((federation.labels_of(rows), federation.times_of(rows)))
        require(
            federation.kind != "survival" or bool(labels[-1][0].any()),
            "tuning needs an event among the validation rows, got none; raise tune.valid",
        )
    losses: list[list[float]] = []  # [stop][lane]

    def restore(held: list[list[float]]) -> None:
        losses[:] = held

    seen = train(
        engine, at, bench.memo("tune"), lambda: losses, restore, lambda n: bench.advance(n * len(lanes))
    )
    for states, result in seen:
        scores = engine.predict(states, "valid")
        now = [
            metrics.loss(federation.kind, y, s, time) if ok and np.isfinite(s).all() else np.inf
            for (y, time), s, ok in zip(labels, scores, result.finite, strict=True)
        ]
        losses.append(now)
    table = np.array(losses)  # [stop, lane]
    choices, tables, position = [], [], 0
    for job, mine, options in zip(jobs, folds, grid, strict=True):
        chosen, tried = [], []
        for fold in range(len(mine)):
            part = table[:, position : position + len(options)]
            position += len(options)
            # The first of equals: fewest rounds, then the first candidate.
            best = [int(i) for i in np.unravel_index(int(np.argmin(part)), part.shape)]
            chosen.append(Choice(options[best[1]], at[best[0]]))
            tried += [
                {
                    "replica": fold,
                    "round": r,
                    **options[c],
                    "loss": float(part[i, c]),
                    "chosen": [i, c] == [int(b) for b in best],
                }
                for i, r in enumerate(at)
                for c in range(len(options))
            ]
        choices.append(chosen)
        tables.append(columns(tried))
        del job
    return choices, tables


def run_pack(jobs: Sequence[Job], bench: Bench) -> list[RunResult]:
    """Run jobs of one structure side by side; results in their order."""
    begin = time.perf_counter()
    tuned = bool(jobs[0].experiment.tune.grid)
    choices, tried = choose(jobs, bench) if tuned else (None, [None] * len(jobs))
    lanes: list[Lane] = []
    of_job: list[slice] = []
    for j, job in enumerate(jobs):
        mine = bench.sources.lanes(job.experiment)
        if choices is not None:
            mine = [
                lane
                for x, c in zip(mine, choices[j], strict=True)
                for lane in with_choices([x], [c.numbers], c.rounds)
            ]
        of_job.append(slice(len(lanes), len(lanes) + len(mine)))
        lanes += mine
    engine = bench.engine(lanes)
    federation = engine.federation
    for job in jobs:
        spending.check(job.experiment.evaluate.target, federation.kind)
        released.check(job.experiment, federation, engine.traits.adapts)
        absolute.check(job.experiment, federation)
        amounts.check(job.experiment, federation)
        subgroups.check(job.experiment.evaluate.groups, federation)
        regression.check(job.experiment, federation, engine.lanes)
    rows = [Rows(job.experiment, federation, lanes[part]) for job, part in zip(jobs, of_job, strict=True)]
    sets = [r.sets() for r in rows]
    # A run ends where its privacy budget does; the rounds of tuned ones are its folds' own.
    last = stops(jobs[0].experiment)[-1]
    ends = [last if tuned else max(lane.rounds for lane in lanes[part]) for part in of_job]
    wanted = sorted({min(stop, max(ends)) for stop in stops(jobs[0].experiment)})
    diverged_at: list[int | None] = [None] * len(jobs)

    def plain() -> Any:
        return [[r.rounds, r.clients, r.finite, d] for r, d in zip(rows, diverged_at, strict=True)]

    def restore(held: Any) -> None:
        for i, (r, (rounds, clients, finite, diverged)) in enumerate(zip(rows, held, strict=True)):
            r.rounds, r.clients, r.finite, diverged_at[i] = rounds, clients, finite, diverged

    heterogeneity = _heterogeneity(jobs, [part.start for part in of_job], engine, bench)
    predictions: list[dict[str, Any]] = [{} for _ in jobs]
    states: list[Handles] = []
    seen = train(engine, wanted, bench.memo("final"), plain, restore, lambda n: bench.advance(n * len(lanes)))
    for states, result in seen:
        before = max((stop for stop in wanted if stop < result.done), default=0)
        spent = engine.spent(result.done)
        scores = {which: engine.predict(states, which) for which in {s for have in sets for s in have}}
        obeyed: dict[str, Any] = {}
        if isinstance(jobs[0].experiment.attack, Backdoor):
            obeyed = {which: engine.predict(states, which, triggered=True) for which in scores}
        together = scores
        if engine.traits.consensus:
            together = {which: engine.predict(states, which, personal=False) for which in scores}
        training, curves = _training(engine, states), absolute.curves(engine, states)
        measures = engine.measures(states)
        for i, (row, part, have) in enumerate(zip(rows, of_job, sets, strict=True)):
            if ends[i] <= before:
                continue
            done, final = min(result.done, ends[i]), result.done >= ends[i]
            cohort = int(result.cohort[part].sum())
            extra = {"cohort": cohort} | spending.total(spent[part], engine.traits)
            extra |= {
                name: float(
                    (np.sum if name in (CLIPPED, LOST) else np.mean)([m[name] for m in measures[part]])
                )
                for name in engine.traits.measures
            }
            own = engine.traits.personal or engine.traits.adapts
            hazards = _baselines(row, training, part, own) if final else None
            over = partial(absolute.over_time, row.experiment, curves, part, final)
            held = {
                which: row.judged(
                    which, scores[which][part], obeyed[which][part] if obeyed else None, hazards, over(which)
                )
                for which in have
            }
            for which, judged in held.items():
                pooled = judged
                if engine.traits.consensus:
                    hazards = _baselines(row, training, part, False) if final else None
                    pooled = row.judged(which, together[which][part], None, hazards, over(which, False))
                row.add(done, which, judged, final, extra, pooled)
            if diverged_at[i] is None and not (result.finite[part].all() and row.finite):
                diverged_at[i] = done
            keep = row.experiment.evaluate.predictions
            many = sum(len(h.row) for h in held.values()) >= _PREDICTIONS_BELOW
            if final and held and (keep or (keep is None and not many)):
                predictions[i] = row.predictions(done, held)
    models = engine.models(states)
    few = all((lane.clients.federated > 0).sum() <= _PERSONAL_MODELS for lane in lanes)
    personal = engine.own(states) if engine.traits.personal and few else None
    fits = regression.fits(jobs[0].experiment, engine, states)
    seconds = time.perf_counter() - begin
    shared = {
        "device_kind": bench.device_kind,
        "pack": {"runs": len(jobs), "lanes": len(lanes), "seconds": seconds},
        "seconds": seconds / len(jobs),
        "compile_seconds": engine.workers.compile_seconds / len(jobs),
        "parameters": engine.traits.parameters,
        "waste": engine.computed / engine.needed - 1 if engine.needed else 0.0,
        "widths": to_dict(engine.widths),
        "bytes_per_client_round": {"up": engine.traits.up_bytes, "down": engine.traits.down_bytes},
    }
    tried_on = [
        bench.sources.lanes(job.experiment, holding_out=job.experiment.tune.valid) if tuned else ()
        for job in jobs
    ]
    everything = engine.spent(max(lane.rounds for lane in lanes))
    out = []
    for j, (job, part, row) in enumerate(zip(jobs, of_job, rows, strict=True)):
        mine = lanes[part]
        rounds = [lane.rounds for lane in mine]
        spent = everything[part]
        privacy = budget.statement(job.experiment, mine, federation, tried_on[j])
        privacy |= budget.lost(row.rounds)
        privacy |= secured.said(mine, row.rounds)
        fit = None if fits is None else fits[part]
        subject = audits.Subject(job.experiment, engine, states, part, bench.sources, bench.engine)
        manifest = shared | {
            "rounds": max(rounds),
            "seconds_per_round": shared["seconds"] / max(sum(rounds), 1),
            "metrics": row.summary(engine.traits.measures),
            "to_target": spending.to_target(job.experiment.evaluate.target, row.rounds),
            "spent": spending.total(spent, engine.traits) | {"wasted": sum(s.wasted for s in spent)},
            "coefficients": _coefficients(federation.features, mine, models[part]),
            "regression": regression.table(job.experiment, federation, mine, fit[0]) if fit else None,
            "privacy": privacy,
            "audit": audits.audited(subject, privacy),
            "heterogeneity": heterogeneity[j],
            "chosen": None if choices is None else [to_dict(c) for c in choices[j]],
        }
        bad = diverged_at[j]
        error = None if bad is None else _why(job.experiment, bad)
        without = (regression.failed(f, federation.features) for f in fit or ())
        error = next(filter(None, without), error)
        out.append(
            RunResult(
                experiment=job.experiment,
                cell=job.cell,
                status="done" if error is None else "diverged",
                error=error,
                rounds=columns(row.rounds) if row.rounds else None,
                clients=columns(row.clients) if row.clients else None,
                predictions=predictions[j] or None,
                tuning=tried[j],
                timeline=spending.timeline(mine, engine.schedules[part]),
                model=_model(mine, models[part], personal[part] if personal else None)
                | (regression.baseline(engine, fit[0]) if fit and len(fit) == 1 else {}),
                manifest=manifest,
            )
        )
    return out


def _training(engine: Engine, states: list[Handles]) -> Callable[[bool], list[np.ndarray]]:
    """Scores of every lane's training rows, worked out where they are asked for: by clients' own models where
    they have any, or by the server's."""
    return cache(lambda own: engine.predict(states, "train", personal=None if own else False))


def _baselines(
    row: Rows, training: Callable[[bool], list[np.ndarray]], part: slice, own: bool
) -> list[absolute.Baseline] | None:
    return absolute.baselines(row.experiment, row.federation, row.lanes, lambda: training(own)[part], own)


def _heterogeneity(jobs: Sequence[Job], lanes: Sequence[int], engine: Engine, bench: Bench) -> list[Any]:
    """What each run's clients differ by, the first lane of each being given."""
    models = cache(lambda: engine.models(engine.init()))

    def first(lane: int) -> Model:
        model: Model = models()[lane][0]
        return model

    out = []
    for job, lane in zip(jobs, lanes, strict=True):
        diversity = bench.sources.diversity(job.experiment, engine, partial(first, lane))
        out.append(bench.sources.heterogeneity(job.experiment) | {"gradient_diversity": diversity})
    return out


def _why(experiment: Experiment, rnd: int) -> str:
    step = experiment.optimizer.step_size
    return f"numbers are not finite by round {rnd}; lower optimizer.step_size={step:g} or other step sizes"


def _coefficients(features: tuple[str, ...], lanes: Sequence[Lane], models: Sequence[Any]) -> Any:
    """Weights of a linear model on the scale of the input; null where there are several or none."""
    linear = models[0][1]
    if len(lanes) != 1 or linear == () or not features:
        return None
    weights, intercept = np.asarray(linear[0], np.float64), linear[1]
    constants = lanes[0].judged_constants
    if constants is not None:
        if len(constants.impute) != 1:
            return None  # every client has a scale of its own
        shift, scale = constants.shift[0].astype(np.float64), constants.scale[0].astype(np.float64)
        weights = (weights.T * scale).T
        intercept = None if intercept is None else intercept - shift @ weights
    constant = {} if intercept is None else {"intercept": np.asarray(intercept, np.float64).tolist()}
    return constant | {n: w.tolist() for n, w in zip(features, weights, strict=True)}


def _model(
    lanes: Sequence[Lane], models: Sequence[Any], personal: Sequence[Any] | None
) -> dict[str, np.ndarray]:
    """All folds' models as named arrays: params/..., with fold_K/ in front where there are several; the
    clients' own where they have any and are few, with their names in front."""
    out: dict[str, np.ndarray] = {}
    for fold, (lane, (model, _)) in enumerate(zip(lanes, models, strict=True)):
        lead = f"fold_{fold}/" if len(lanes) > 1 else ""
        if personal is None:
            out |= {lead + name: value for name, value in named(model).items()}
            continue
        own, slots = personal[fold]
        arrays = named(own)
        for k, slot in zip(np.flatnonzero(lane.clients.federated > 0), slots, strict=True):
            if slot >= 0:
                out |= {f"{lead}{lane.clients.names[int(k)]}/{n}": v[slot] for n, v in arrays.items()}
    return out
