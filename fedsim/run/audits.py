"""What is tried against a run that is done, and what is stored of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedsim.audit import bounds, joining, membership, shadows
from fedsim.base import nearest, require
from fedsim.config import AuditConfig, Experiment, NoAudit, SecureSum
from fedsim.config.audit import CanaryClients, CanaryRecords, Inversion, Membership
from fedsim.data.federation import Federation
from fedsim.data.partition import Partition
from fedsim.run.capacity import lanes_that_fit
from fedsim.run.sources import Sources, fitted
from fedsim.simulate import judged, scoring
from fedsim.simulate.engine import Engine, Handles, simulate
from fedsim.simulate.lanes import Lane

WORDS = {
    "clients": "what the noisy sums of all rounds tell of one client's taking part, by a linear test against "
    "random directions; not what metrics, preprocessing or the choice of options tell, nor other attackers",
    "records": "what the final model's losses tell of single training rows, without sight of any round; not "
    "what an attacker with sight of rounds or messages learns",
    "membership": "what the final model's outputs tell of who was a training row, to one who trains models "
    "on rows of the same clients; not what an attacker with sight of rounds or messages learns",
    "inversion": "rows from the gradient of one local step, by one who knows the model, the labels and the "
    "values that columns can take; not updates of several steps, nor attackers who change the model",
}
# Where canaries join a sum that clients make under masks.
UNMASKED = (
    "; canaries are added to the secure sum when it has been unmasked, so that its masks, its fixed point "
    "and whom it loses are not tested"
)


@dataclass(frozen=True)
class Subject:
    """A run that is done. at: which of the engine's lanes are its folds; make: (lanes) -> Engine."""

    experiment: Experiment
    engine: Engine
    states: list[Handles]
    at: slice
    sources: Sources
    make: Callable[[Sequence[Lane]], Engine]

    @property
    def lanes(self) -> Sequence[Lane]:
        return self.engine.lanes[self.at]


def audited(subject: Subject, privacy: dict[str, Any]) -> dict[str, Any] | None:
    """What the run's audit found, as plain data; None where none was asked for.

    privacy: what the run says of its protection, with the accounted epsilon where there is one.
    """
    cfg = subject.experiment.audit
    if isinstance(cfg, NoAudit):
        return None
    tested = WORDS[cfg.name]
    if cfg.joining and isinstance(subject.experiment.secure, SecureSum):
        tested += UNMASKED
    found = {"name": cfg.name, "tested": tested} | _AUDITS[type(cfg)](cfg, subject)
    if isinstance(cfg, CanaryClients | CanaryRecords):
        accounted = privacy.get("epsilon")
        found |= {
            "accounted_epsilon": accounted,
            "accounted_delta": privacy.get("delta"),
            "contradicts": None,
        }
        # An epsilon of labels is none of rows, and at a larger delta it is smaller than it may be.
        if accounted is not None and privacy["delta"] <= cfg.delta and privacy["unit"] != "label":
            shown = [found.get("epsilon_bound"), found.get("epsilon_bound_gaussian")]
            found["contradicts"] = any(b is not None and b > accounted for b in shown)
    return found


def _worst(each: list[dict[str, Any]]) -> dict[str, Any]:
    """The fold that shows most; every fold was bounded with its share of the risk."""
    worst = max(each, key=lambda found: found["epsilon_bound"] or 0.0)
    return worst | {"folds": len(each)}


def _clients(cfg: CanaryClients, subject: Subject) -> dict[str, Any]:
    here = joining.included(subject.experiment.seed, cfg.canaries)
    seen = subject.engine.audited(subject.states)[subject.at]
    risk = (1 - cfg.confidence) / len(seen)
    made = [
        bounds.summary(found.evidence.astype(float), found.total.astype(float), here, cfg.delta, 1 - risk)
        for found in seen
    ]
    return _worst(made) | {"confidence": cfg.confidence, "sees": cfg.sees}


def _records(cfg: CanaryRecords, subject: Subject) -> dict[str, Any]:
    planted = subject.sources.planted(subject.experiment)
    part = planted.partition
    owner = np.repeat(np.arange(part.clients), np.diff(part.offsets))
    assert part.rows is not None
    place = np.full(int(subject.engine.federation.rows), -1, np.int64)
    place[part.rows] = np.arange(len(part.rows))
    at = place[planted.canaries]
    client = owner[at]
    wanted = judged.Segment(client, at - part.offsets[:-1][client], np.ones(len(at), np.int64))
    nothing = judged.Segment(*(values[:0] for values in wanted))
    asked = [nothing] * len(subject.engine.lanes)
    asked[subject.at] = [wanted]
    (scores,) = _scores(subject.engine, subject.states, asked)[subject.at]
    label = planted.federation.labels_of(planted.canaries)
    phi = membership.log_odds(label, scores)
    found = bounds.summary(phi, phi, planted.included, cfg.delta, cfg.confidence)
    return found | {"labels": cfg.labels}


def _scores(engine: Engine, states: list[Handles], wanted: Sequence[judged.Segment]) -> list[np.ndarray]:
    """Scores of one segment of every lane's rows by the server's models, per lane."""
    by_team, at = [], 0
    for team in engine.teams:
        by_team.append(list(wanted[at : at + len(team.lanes)]))
        at += len(team.lanes)
    return scoring.scores(engine, states, by_team, personal=False)


def _pool(part: Partition) -> judged.Segment:
    """The training and the tested rows of those that train, as `shadows.pool` lists them."""
    rows = part.federated.astype(np.int64)
    test = np.where(rows > 0, part.test, 0).astype(np.int64)
    test[sorted(part.external | part.late)] = 0
    every = np.arange(part.clients)
    return judged.Segment(
        np.concatenate([every, every]),
        np.concatenate([np.zeros_like(rows), part.train.astype(np.int64) + part.valid]),
        np.concatenate([rows, test]),
    )


def _membership(cfg: Membership, subject: Subject) -> dict[str, Any]:
    federation, target = subject.engine.federation, subject.lanes[0]
    require(
        federation.kind in ("binary", "multiclass") and federation.columns is not None,
        "audit=membership needs rows in memory with labels that are classes, and these are of kind "
        f"{federation.kind}, in data.mode={subject.experiment.data.mode}",
    )
    assert federation.columns is not None
    rows, client, member = shadows.pool(target.judged)
    require(
        0 < member.sum() < len(member),
        "audit=membership needs training rows and others that were left out, and all train; raise split.test",
    )
    label = federation.labels_of(rows)
    pools = [_pool(lane.judged) for lane in subject.engine.lanes]
    phi = membership.log_odds(label, _scores(subject.engine, subject.states, pools)[subject.at][0])
    order = np.full(federation.rows, -1, np.int64)
    order[rows] = np.arange(len(rows))
    others = np.zeros((cfg.shadows, len(rows)))
    inside = np.zeros((cfg.shadows, len(rows)), bool)
    # Shadows are other runs of the structure: the same program, as many side by side as fit.
    room = target.experiment.executor.lanes or lanes_that_fit(subject.engine)
    for first in range(0, cfg.shadows, room):
        numbers = range(first, min(first + room, cfg.shadows))
        lanes = [_shadow(target, federation, number) for number in numbers]
        engine = subject.make(lanes)
        ((states, _),) = simulate(engine, engine.init(), [target.rounds])
        scores = _scores(engine, states, [_pool(lane.judged) for lane in lanes])
        for number, lane, score in zip(numbers, lanes, scores, strict=True):
            here, _, trained = shadows.pool(lane.judged)
            at = order[here]
            others[number, at] = membership.log_odds(federation.labels_of(here), score)
            inside[number, at] = trained
    both = (inside.sum(axis=0) > 0) & ((~inside).sum(axis=0) > 0)
    scored = membership.attacks(phi, others, inside, cfg.gamma)
    groups = {
        "client": np.array([target.judged.names[int(k)] for k in client], object).astype(str),
        "label": np.array([_named(federation.labels, y) for y in label], object).astype(str),
    }
    if cfg.subgroup is not None:
        groups[cfg.subgroup] = _subgroup(cfg.subgroup, federation.features, federation.columns["x"][rows])
    keep = both  # a row that no model trained without, or none with, cannot be told
    found = {
        attack: membership.rates(values[keep], member[keep], cfg.confidence)
        | {
            "groups": membership.by_group(
                values[keep], member[keep], {k: v[keep] for k, v in groups.items()}, cfg.confidence
            )
        }
        for attack, values in scored.items()
    }
    return {
        "shadows": cfg.shadows,
        "members": int(member[keep].sum()),
        "non_members": int((~member[keep]).sum()),
        "not_told": int((~keep).sum()),
        "confidence": cfg.confidence,
        "attacks": found,
    }


def _shadow(target: Lane, federation: Federation, number: int) -> Lane:
    """Another model trained as the target was, with draws and training rows of its own."""
    e = target.experiment
    part = shadows.redrawn(target.judged, e.seed, number)
    own = replace(e, seed=(e.seed + 1 + number) * 0x9E3779B97F4A7C15 % 2**63)
    constants = fitted(federation, part, own, own.data.preprocess)
    return Lane(own, part, part, constants, constants, target.rounds)


def _named(labels: Sequence[str], y: Any) -> str:
    return labels[int(y)] if labels else str(int(y))


def _subgroup(name: str, features: Sequence[str], x: np.ndarray) -> np.ndarray:
    require(name in features, f"audit.subgroup={name} is no feature; {nearest(name, features)}")
    values = x[:, list(features).index(name)]
    require(
        len(np.unique(values[~np.isnan(values)])) <= 20,
        f"audit.subgroup={name} has more than 20 values, and each would be a group; name one with fewer",
    )
    return np.where(np.isnan(values), "missing", np.char.mod("%g", values))


def _inversion(cfg: Inversion, subject: Subject) -> dict[str, Any]:
    from fedsim.run import inverting

    states = subject.states if cfg.model == "final" else subject.engine.init()
    model = subject.engine.models(states)[subject.at][0][0]
    return inverting.inverted(cfg, subject.engine, subject.lanes[0], model)


_AUDITS: dict[type[AuditConfig], Callable[[Any, Subject], dict[str, Any]]] = {
    CanaryClients: _clients,
    CanaryRecords: _records,
    Membership: _membership,
    Inversion: _inversion,
}
