"""From a stored run to the frozen model, its regions' rows and those of a site outside; starts JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from fedsim.base import FedsimError, nearest, require
from fedsim.config import Cox, Experiment, SurvivalDiscrete, Table
from fedsim.data.federation import Federation
from fedsim.data.preprocess import Constants
from fedsim.environment import prepare
from fedsim.run import subgroups
from fedsim.run.absolute import ends
from fedsim.run.sources import Sources
from fedsim.simulate.lanes import Lane
from fedsim.store import ResultStore, run_id
from fedsim.validation.discrete import intervals_to
from fedsim.validation.logistic import Floats
from fedsim.validation.periods import log_cumulative
from fedsim.validation.rows import Frozen, Region, Rows
from fedsim.validation.scoring import Network, network, periods_of

CLOSE = 1e-3  # of probabilities of float32 programs and float64 arithmetic


def finished(store: ResultStore, run: str) -> dict[str, Any]:
    """The manifest of a run whose model may be validated.

    Raises:
      RequestError: it is not stored, did not finish, or has no model; FedsimError: its model is damaged.
    """
    manifest = store.manifest(run)
    require(
        manifest["status"] == "done",
        f"run {run} {manifest['status']}, so it has no model to validate; run it again",
    )
    store.model(run)  # checks its bytes against the manifest's hash
    return manifest


def read(
    store: ResultStore,
    run: str,
    site: str,
    table: str | None = None,
    groups: Mapping[str, Any] | None = None,
    horizon: float | None = None,
) -> Frozen:
    """The run's model, and the rows it is judged on.

    Args:
      table: a file with the site's rows, for a run on a table without it; None: they lie in the run's data.
      groups, horizon: a plan's.

    Raises:
      RequestError: no such run, site or column of groups, a site that trained, labels that are not two
        classes, a horizon at which no interval of a discrete-time model ends, rows with weights, clients with
        constants of their own, several models, or data that cannot be read.
    """
    manifest = finished(store, run)
    experiment, federation, lanes = _sources(store, run)
    names = list(lanes[0].judged.names)
    if table is None:
        fold = _fold(lanes, site, names, run)
        outside, own = federation, lanes[fold].judged.part("test")
        rows = own[0][own[1] == names.index(site)]
    else:
        require(len(lanes) == 1, f"run {run} holds {len(lanes)} models (split.folds); validate a run of one")
        fold = 0
        require(
            site not in names,
            f"{site} is in run {run}'s data already; leave --table out, or name the file's site another way",
        )
        outside = _beside(experiment, federation, table, site)
        k = list(outside.names).index(site)
        rows = np.arange(outside.offsets[k], outside.offsets[k + 1])
    lane = lanes[fold]
    constants = _constants(lane, federation, run)
    task = experiment.task
    whole = _model(store, run, experiment, federation, fold if len(lanes) > 1 else None)
    model, cuts = whole, None
    if isinstance(task, SurvivalDiscrete):
        assert horizon is not None
        cuts = interval_ends(task)
        m = intervals_to(cuts, horizon, run)
        model, cuts = whole.until(m), np.append(cuts[:m], horizon)

    def made(name: str, where: Federation, chosen: np.ndarray) -> Rows:
        assert where.columns is not None
        raw = where.columns["x"][chosen].astype(np.float64)
        x = (np.where(np.isnan(raw), constants.impute[0], raw) - constants.shift[0]) * constants.scale[0]
        lacking = np.isnan(x).any(axis=0)
        lacks = [f for f, bad in zip(where.features, lacking, strict=True) if bad]
        require(
            not lacks,
            f"{name} lacks values of {', '.join(lacks)}, and run {run} fills none in "
            "(data.preprocess.impute=none); train with data.preprocess.impute=mean or median",
        )
        patient = where.columns.get("patient")
        y = where.columns["y"][chosen].astype(np.float64)
        stored = where.times_of(chosen)
        time = None if stored is None else stored.astype(np.float64)
        score, periods = model.score(x), None
        if isinstance(task, SurvivalDiscrete):
            assert time is not None
            periods, score = periods_of(task, time, y, score), log_cumulative(score)[:, -1]
        return Rows(name, raw, x, y, score, None if patient is None else patient[chosen], time, periods)

    judged = made(site, outside, rows)
    if table is None:
        _same(store, run, fold, site, rows, _scored(whole.score(judged.x), judged))
    notes = outside.metadata.get(site, {}).get("unknown_categories", {})
    return Frozen(
        run=run,
        model_sha256=manifest["model_sha256"],
        features=federation.features,
        outcome=outcome(federation),
        site=judged,
        regions=tuple(_regions(lane, federation, made)),
        scale=constants.scale[0].astype(np.float64),
        coefficients=None if model.weights is None else model.weights * constants.scale[0].astype(np.float64),
        score=model.score,
        unknown={str(column): int(count) for column, count in notes.items()},
        groups={
            name: subgroups.groups(outside, name, cuts, rows, "groups")
            for name, cuts in (groups or {}).items()
        },
        represent=model.represent,
        refine=model.refine,
        refine_head=model.refine_head,
        ends=cuts,
    )


def interval_ends(task: SurvivalDiscrete) -> Floats:
    """f64[bins + 1] from 0."""
    return np.append(0.0, ends(task))


class Subject(NamedTuple):
    """What a plan must know of a run. inside: whether the site lies in the run's data, outside its training;
    judged: whether the run stored metrics there; linear: whether its model can be fitted again; timed:
    whether it is of times to an event, and horizon: by when the run judged them, or its hazards are known;
    ends: as `interval_ends` of a discrete-time model; groups: those it judged apart; federation: its rows,
    which have the columns of a plan's groups."""

    model_sha256: str
    outcome: str
    inside: bool
    judged: bool
    linear: bool
    timed: bool
    horizon: float | None
    ends: Floats | None
    groups: dict[str, Any]
    federation: Federation


def subject(store: ResultStore, run: str, site: str) -> Subject:
    """What can be said before a row of the site is judged. A site that the run's data do not have is one of a
    table of its own. Raises as `read`."""
    manifest = finished(store, run)
    experiment, federation, lanes = _sources(store, run)
    names = list(lanes[0].judged.names)
    inside = site in names
    if not inside:
        require(
            isinstance(experiment.data, Table),
            f"run {run} has no site {site!r}; {nearest(site, names)}",
        )
        require(len(lanes) == 1, f"run {run} holds {len(lanes)} models (split.folds); validate a run of one")
    fold = _fold(lanes, site, names, run) if inside else 0
    _constants(lanes[fold], federation, run)
    model = _model(store, run, experiment, federation, fold if len(lanes) > 1 else None)
    task = experiment.task
    discrete = task if isinstance(task, SurvivalDiscrete) else None
    return Subject(
        model_sha256=manifest["model_sha256"],
        outcome=outcome(federation),
        inside=inside,
        judged=inside and _stored_there(manifest, site),
        linear=model.weights is not None,
        timed=federation.kind == "survival",
        horizon=experiment.evaluate.horizon if discrete is None else discrete.horizon,
        ends=None if discrete is None else interval_ends(discrete),
        groups=experiment.evaluate.groups,
        federation=federation,
    )


def _stored_there(manifest: dict[str, Any], site: str) -> bool:
    stored = manifest["metrics"] or {}
    return any(site in (stored.get(kind) or {}) for kind in ("external", "clients"))


def outcome(federation: Federation) -> str:
    """The label by its classes."""
    if federation.kind == "survival":
        return "an event"
    return f"{federation.labels[1]} against {federation.labels[0]}" if federation.labels else "1 against 0"


def _sources(store: ResultStore, run: str) -> tuple[Experiment, Federation, list[Lane]]:
    """What the run was made from, which must be there as it was."""
    experiment = store.experiment(run)
    prepare(experiment.numerics.threads, x64=experiment.numerics.x64)
    sources = Sources()
    require(
        run_id(experiment, sources.federation(experiment).fingerprint) == run,
        f"the data of run {run} have changed since it was trained, so that its imputation and scaling cannot "
        "be repeated; bring the file back as it was, or train again",
    )
    federation, _ = sources.split(experiment)
    _check(experiment, federation, run)
    return experiment, federation, sources.lanes(experiment)


def _check(experiment: Experiment, federation: Federation, run: str) -> None:
    timed = federation.kind == "survival"
    require(
        timed or federation.kind == "binary",
        f"run {run} predicts a label of kind {federation.kind}, and validation has updates and tests for two "
        "classes and for times to an event; take a label with two, such as death within a year",
    )
    require(
        not timed or isinstance(experiment.task, Cox | SurvivalDiscrete),
        f"run {run} has task={experiment.task.name}, of whose times to an event validation knows no hazards; "
        "train with task=cox or task=survival_discrete",
    )
    require(
        federation.columns is not None and len(federation.shape) == 1 and bool(federation.features),
        f"run {run} was trained on rows without named features (pictures, or generated rows); validation "
        "needs a table",
    )
    assert federation.columns is not None
    require(
        "weight" not in federation.columns,
        f"run {run} weights its rows (data.weight), and likelihood-ratio tests take rows of equal weight; "
        "train without data.weight",
    )


def _fold(lanes: list[Lane], site: str, names: list[str], run: str) -> int:
    """The one model that the site had no part in."""
    require(site in names, f"run {run} has no site {site!r}; {nearest(site, names)}")
    k = names.index(site)
    apart = [
        i
        for i, lane in enumerate(lanes)
        if lane.judged.train[k] == lane.judged.valid[k] == 0
        and lane.judged.test[k] > 0
        and k not in lane.judged.late
    ]
    require(
        apart,
        f"{site} had a part in the training of run {run}; keep it outside (data.external={site} with "
        "data=table, or split.leave_one_out=true) and train again",
    )
    require(
        len(apart) == 1,
        f"run {run} holds {len(apart)} models that {site} had no part in (split.folds={len(lanes)}); "
        "validate a run without folds",
    )
    return apart[0]


def _beside(experiment: Experiment, federation: Federation, table: str, site: str) -> Federation:
    require(
        isinstance(experiment.data, Table),
        f"--table goes with runs on data=table, and this one is on data={experiment.data.name}",
    )
    assert isinstance(experiment.data, Table)
    from fedsim.data.table import with_site

    outside = with_site(experiment.data, table, site)
    if outside.features != federation.features:
        raise FedsimError(f"{table} changed the development's features, which is a defect of fedsim")
    require(
        (outside.kind, outside.labels) == (federation.kind, federation.labels),
        f"{table}: the label has values that the run does not know, {', '.join(outside.labels)} against "
        f"{', '.join(federation.labels)}",
    )
    return outside


def _constants(lane: Lane, federation: Federation, run: str) -> Constants:
    constants = lane.judged_constants
    if constants is None:
        zero = np.zeros((1, *federation.shape), np.float32)
        whose = np.zeros(len(lane.judged.ids), np.int32)
        return Constants(impute=np.full_like(zero, np.nan), shift=zero, scale=zero + 1, of_client=whose)
    require(
        len(constants.impute) == 1,
        f"run {run} prepares every client's rows by constants of its own (data.preprocess.scope=client), so "
        "that it has no single model of the input; train with data.preprocess.scope=federated",
    )
    return constants


def _model(
    store: ResultStore, run: str, experiment: Experiment, federation: Federation, fold: int | None
) -> Network:
    arrays = store.model(run)
    lead = "" if fold is None else f"fold_{fold}/"
    mine = {name.removeprefix(lead): value for name, value in arrays.items() if name.startswith(lead)}
    mine = {name: value for name, value in mine.items() if not name.startswith("baseline/")}
    return network(experiment, federation, mine, run)


def _scored(predictor: Floats, judged: Rows) -> Floats:
    """What a run stores of a prediction: a probability of one of two classes, or a risk."""
    if judged.time is None:
        return np.asarray(special.expit(predictor), np.float64)
    return predictor if judged.periods is None else log_cumulative(predictor)[:, -1]


def _same(store: ResultStore, run: str, fold: int, site: str, rows: np.ndarray, score: Floats) -> None:
    """That scores stored with the run are this model's, so that what is validated is what was judged."""
    if "predictions" not in store.manifest(run)["rows"]:
        return
    stored = store.read(run, "predictions", ["replica", "client", "row", "score"]).to_pydict()
    whose = zip(stored["replica"], stored["client"], strict=True)
    mine = [i for i, one in enumerate(whose) if one == (fold, site)]
    known = {stored["row"][i]: stored["score"][i] for i in mine}
    risks = zip(rows.tolist(), score.tolist(), strict=True)
    worst = max(
        (abs(risk - known[row]) / (1 + abs(risk)) for row, risk in risks if row in known), default=0.0
    )
    require(
        worst <= CLOSE,
        f"run {run} judged {site} by another model than the one it stores: risks differ by up to "
        f"{worst:.2g}; validate a run whose clients share one model, such as algorithm=fedavg",
    )


def _regions(lane: Lane, federation: Federation, made: Any) -> list[Region]:
    part = lane.judged
    trained, owner = part.part("federated")
    tested, tester = part.part("test")
    found = []
    for k in np.unique(owner).tolist():
        held = tested[tester == k]
        train = made(part.names[k], federation, trained[owner == k])
        found.append(Region(train, made(part.names[k], federation, held) if len(held) else None))
    return found
