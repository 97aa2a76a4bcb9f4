"""From an experiment to its lanes: data, split, folds, imputation and scaling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import RLock

import numpy as np

from fedsim import data
from fedsim.accounting import statistics
from fedsim.audit.records import Planted, plant
from fedsim.base import digest, require, with_numbers
from fedsim.config import All, Experiment, Preprocess, Trees
from fedsim.config.audit import CanaryRecords
from fedsim.data import preprocess, private_moments
from fedsim.data.federation import Federation
from fedsim.data.heterogeneity import MEASURES, measure
from fedsim.data.partition import Partition, hold_out, partitions, pool
from fedsim.data.preprocess import Constants
from fedsim.data.splits import assign
from fedsim.model import Model
from fedsim.run import budget
from fedsim.simulate import diversity
from fedsim.simulate.build import with_strategy
from fedsim.simulate.engine import Engine
from fedsim.simulate.lanes import Lane

_MEASURED_UP_TO = 1_000_000  # rows


@dataclass
class Sources:
    """Data, splits and constants, each made once for all the runs that share it."""

    federations: dict[str, Federation] = field(default_factory=dict)
    folds: dict[str, tuple[Federation, tuple[Partition, ...]]] = field(default_factory=dict)
    constants: dict[tuple[int, str], Constants | None] = field(default_factory=dict)
    with_canaries: dict[str, Planted] = field(default_factory=dict)
    held: dict[tuple[int, float, int], Partition] = field(default_factory=dict)
    pooled: dict[int, Partition] = field(default_factory=dict)
    measured: dict[int, dict[str, float | None]] = field(default_factory=dict)
    diverse: dict[tuple[int, str], float | None] = field(default_factory=dict)
    made: dict[str, tuple[Lane, ...]] = field(default_factory=dict)
    # Parts are told apart by identity, so two threads must not each make one.
    _lock: RLock = field(default_factory=RLock)

    def federation(self, experiment: Experiment) -> Federation:
        """The data of an experiment, before its split."""
        key = digest(experiment.data)
        if key not in self.federations:
            self.federations[key] = data.load(experiment.data)
        return self.federations[key]

    def split(self, experiment: Experiment) -> tuple[Federation, tuple[Partition, ...]]:
        """The federation as split (features and labels may have shifted) and its folds."""
        with self._lock:
            if isinstance(experiment.audit, CanaryRecords):
                found = self.planted(experiment)
                return found.federation, (found.partition,)
            return self._split(experiment)

    def planted(self, experiment: Experiment) -> Planted:
        """The federation as split, with an audit's canary records in it."""
        assert isinstance(experiment.audit, CanaryRecords)
        key = digest([experiment.data, experiment.split, experiment.seed, experiment.audit])
        if key not in self.with_canaries:
            federation, (part,) = self._split(experiment)
            self.with_canaries[key] = plant(federation, part, experiment.audit, experiment.seed)
        return self.with_canaries[key]

    def _split(self, experiment: Experiment) -> tuple[Federation, tuple[Partition, ...]]:
        key = digest([experiment.data, experiment.split, experiment.seed])
        if key not in self.folds:
            federation = self.federation(experiment)
            assignment = assign(federation, experiment.split, experiment.seed)
            shifted = {k: v for k, v in (("x", assignment.x), ("y", assignment.y)) if v is not None}
            if shifted:
                assert federation.columns is not None
                federation = replace(federation, columns=federation.columns | shifted)
            require(
                experiment.data.preprocess.impute != "none" or not np.isnan(shifted.get("x", 0)).any(),
                f"split={experiment.split.name} leaves missing values, which data.preprocess.impute=none "
                "would keep; use data.preprocess.impute=mean, median or zero, "
                "or with task=trees impute=keep",
            )
            made = partitions(federation, assignment, experiment.split, experiment.seed)
            self.folds[key] = federation, made
        return self.folds[key]

    def heterogeneity(self, experiment: Experiment) -> dict[str, float | None]:
        """How far the clients of the first fold are from IID; of no more than a million rows, and where
        they are in memory."""
        with self._lock:
            federation, folds = self.split(experiment)
            if federation.columns is None or federation.rows > _MEASURED_UP_TO:
                return dict.fromkeys(MEASURES)
            key = id(folds[0])
            if key not in self.measured:
                self.measured[key] = measure(federation, folds[0])
            return self.measured[key]

    def diversity(self, experiment: Experiment, engine: Engine, first: Callable[[], Model]) -> float | None:
        """Gradient diversity of the first fold's clients, measured once for all that share data and model;
        None of trees, which no gradient leads to.

        Args:
          first: -> the first model, as NumPy arrays.
        """
        if isinstance(experiment.task, Trees):
            return None
        with self._lock:
            federation, folds = self.split(experiment)
            constants = self.fit(federation, folds[0], experiment)
            model = [experiment.task, experiment.numerics, experiment.data.preprocess, experiment.seed]
            key = id(folds[0]), digest(model)
            if key not in self.diverse:
                clients = diversity.drawn(federation, folds[0], constants, experiment.seed)
                self.diverse[key] = diversity.measured(
                    engine.workers, engine.structure, experiment.task, first(), clients
                )
            return self.diverse[key]

    def fit(
        self, federation: Federation, part: Partition, experiment: Experiment, cfg: Preprocess | None = None
    ) -> Constants | None:
        """Imputation and scaling constants of a partition; cfg: other than the experiment's."""
        cfg = cfg or experiment.data.preprocess
        whom = statistics.protects(experiment.privacy) if cfg.noised else None
        key = (id(part), digest([cfg, whom]))
        if key not in self.constants:
            self.constants[key] = fitted(federation, part, experiment, cfg)
        return self.constants[key]

    def lanes(self, experiment: Experiment, *, holding_out: float = 0.0) -> list[Lane]:
        """One lane per fold. holding_out: share of the training rows moved to validation first.

        Raises RequestError where a lane would release what has no valid privacy account."""
        with self._lock:
            key = digest([experiment, holding_out])
            if key not in self.made:
                federation, folds = self.split(experiment)

                def made(share: float) -> list[Lane]:
                    parts = [self._held(federation, part, share, experiment.seed) for part in folds]
                    return [with_strategy(self._lane(experiment, federation, part)) for part in parts]

                tune = experiment.tune
                phases = (made(0.0), made(tune.valid)) if tune.grid else ()
                self.made[key] = tuple(budget.settled(made(holding_out), federation, *phases))
            return list(self.made[key])

    def _held(self, federation: Federation, part: Partition, share: float, seed: int) -> Partition:
        if share == 0:
            return part
        key = (id(part), share, seed)
        if key not in self.held:
            labels = None if federation.columns is None else federation.columns["y"]
            self.held[key] = hold_out(part, labels, share, seed)
        return self.held[key]

    def _lane(self, experiment: Experiment, federation: Federation, part: Partition) -> Lane:
        lane = self._trained(experiment, federation, part)
        cfg = experiment.data.preprocess
        if cfg.judged == "same":
            return lane
        return replace(
            lane, judged_constants=self.fit(federation, part, experiment, replace(cfg, scope=cfg.judged))
        )

    def _trained(self, experiment: Experiment, federation: Federation, part: Partition) -> Lane:
        """A lane that is judged on rows prepared as those it is trained on."""
        constants = self.fit(federation, part, experiment)
        if experiment.algorithm.name != "pooled":
            return Lane(experiment, part, part, constants, constants, experiment.rounds)
        if id(part) not in self.pooled:
            self.pooled[id(part)] = pool(part)
        together = self.pooled[id(part)]
        # The one client there is takes part in every round, whoever would have.
        experiment = replace(experiment, world=All())
        if constants is not None and len(constants.impute) > 1:
            # One client now: one set of constants, for its rows and for all that are judged.
            own = self.fit(federation, together, experiment)
            assert own is not None
            judged = replace(own, of_client=np.zeros(len(part.ids), np.int32))
            return Lane(experiment, together, part, own, judged, experiment.rounds)
        once = None if constants is None else replace(constants, of_client=np.zeros(1, np.int32))
        return Lane(experiment, together, part, once, constants, experiment.rounds)


def fitted(
    federation: Federation, part: Partition, experiment: Experiment, cfg: Preprocess
) -> Constants | None:
    """Constants of a partition, exact or from sums with noise that hides whom the training hides.

    Raises RequestError where the mechanism of the training hides nobody whom such noise could.
    """
    if cfg.noised:
        unit, where = statistics.protects(experiment.privacy)
        protection = private_moments.Protection(unit, where, experiment.seed)
        return private_moments.fit(federation, part, cfg, protection)
    return preprocess.fit(federation.x, part, cfg)


def with_choices(lanes: Sequence[Lane], options: Sequence[dict[str, float]], rounds: int) -> list[Lane]:
    """Every lane with each of the options, lane by lane, trained for `rounds` rounds; lanes that share an
    experiment share what becomes of it."""
    made: dict[tuple[int, int], Experiment] = {}
    out = []
    for lane in lanes:
        for i, chosen in enumerate(options):
            key = id(lane.experiment), i
            if key not in made:
                made[key] = with_numbers(lane.experiment, chosen)
            out.append(replace(lane, experiment=made[key], rounds=rounds))
    return out
