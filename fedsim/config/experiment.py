"""An experiment, and which of its choices go together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from fedsim.base import choice, require
from fedsim.config.aggregator import AggregatorConfig, Mean
from fedsim.config.algorithm import AlgorithmConfig, Local, Pooled
from fedsim.config.attack import AttackConfig, Honest, LabelFlip
from fedsim.config.audit import AuditConfig, NoAudit
from fedsim.config.channel import ChannelConfig
from fedsim.config.data import DataConfig
from fedsim.config.evaluate import Evaluate, Tune
from fedsim.config.executor import ExecutorConfig
from fedsim.config.numerics import Numerics
from fedsim.config.optimizer import OptimizerConfig
from fedsim.config.privacy import NoPrivacy, PrivacyConfig
from fedsim.config.privacy_record import RecordPrivacy
from fedsim.config.secure import NoSecure, SecureConfig
from fedsim.config.servers import Boosting
from fedsim.config.shift import Concept
from fedsim.config.split import SplitConfig
from fedsim.config.system import NoSystem, SystemConfig
from fedsim.config.task import Amounts, SurvivalDiscrete, TaskConfig, Trees
from fedsim.config.topology import Star, TopologyConfig
from fedsim.config.world import PowerOfChoice, WorldConfig

APART = ("executor", "results", "sinks")
"""Fields of an experiment that say where it is done and kept: with others it is the same run."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that fixes a run."""

    data: DataConfig = choice("data")
    split: SplitConfig = choice("split")
    task: TaskConfig = choice("task")
    algorithm: AlgorithmConfig = choice("algorithm")
    optimizer: OptimizerConfig
    channel: ChannelConfig = choice("channel")
    privacy: PrivacyConfig = choice("privacy")
    world: WorldConfig = choice("world")
    numerics: Numerics
    executor: ExecutorConfig = choice("executor")
    rounds: int
    seed: int
    aggregator: AggregatorConfig = choice("aggregator", Mean())
    attack: AttackConfig = choice("attack", Honest())
    system: SystemConfig = choice("system", NoSystem())
    topology: TopologyConfig = choice("topology", Star())
    secure: SecureConfig = choice("secure", NoSecure())
    audit: AuditConfig = choice("audit", NoAudit())
    tune: Tune = field(default_factory=Tune)
    evaluate: Evaluate = field(default_factory=Evaluate)
    results: str = "results/store"
    sinks: tuple[Literal["tensorboard", "mlflow"], ...] = ()

    def __post_init__(self) -> None:
        require(self.rounds >= 1, f"rounds must be >= 1, got {self.rounds}")
        require(0 <= self.seed < 2**63, f"seed must be in [0, 2^63), got {self.seed}")
        promised = next((p for p in ("privacy.epsilon", "privacy.delta") if p in self.tune.grid), None)
        require(
            promised is None,
            f"tune.grid.{promised} is what a run promises, and no choice of its data; sweep over {promised} "
            "instead",
        )
        self.privacy.check(self)
        self.audit.check(self)
        _check_counts(self)
        _check_horizon(self)
        _check_amounts(self)
        _check_trees(self)
        _check_choice(self)


def _check_trees(asked: Experiment) -> None:
    """Whether trees are boosted and nothing else is, and what leaves missing values is read by trees."""
    task, algorithm, prepared = asked.task.name, asked.algorithm.name, asked.data.preprocess
    forest, boosting = isinstance(asked.task, Trees), isinstance(asked.algorithm, Boosting)
    require(
        isinstance(asked.algorithm, Boosting | Local | Pooled) or not forest,
        f"task=trees has no gradient to follow, and algorithm={algorithm} follows it; set "
        "algorithm=boosting, local or pooled, or another task, such as task=mlp",
    )
    require(
        forest or not boosting,
        f"algorithm=boosting grows trees, and task={task} has none; set task=trees, or another "
        "algorithm, such as algorithm=fedavg",
    )
    require(
        forest or prepared.impute != "keep",
        f"data.preprocess.impute=keep leaves missing values to the model, and task={task} takes none; "
        "set data.preprocess.impute=mean, median or zero, or task=trees with algorithm=boosting",
    )
    require(
        prepared.standardise or not forest,
        "task=trees lays its bins within ten standard deviations of the mean; set "
        "data.preprocess.standardise=true",
    )


def _check_horizon(asked: Experiment) -> None:
    """Whether there are probabilities of an event by a horizon, and nothing unprotected makes them."""
    horizon, task = asked.evaluate.horizon, asked.task
    if horizon is None:
        return
    if isinstance(task, SurvivalDiscrete):
        require(
            horizon == task.horizon,
            f"task=survival_discrete gives probabilities of an event by task.horizon={task.horizon:g}, "
            f"and evaluate.horizon={horizon:g} is another time; make them equal",
        )
        return
    require(
        isinstance(asked.privacy, NoPrivacy),
        f"evaluate.horizon={horizon:g} needs a baseline hazard of training rows, which no noise of "
        f"privacy={asked.privacy.name} covers; choose task=survival_discrete, whose hazards are part of "
        "the model, or privacy=none, or set evaluate.horizon=null",
    )
    require(
        not asked.split.late,
        "evaluate.horizon needs a baseline hazard, and clients that join late have no part in one; set "
        "split.late=0, or evaluate.horizon=null",
    )


def _check_amounts(asked: Experiment) -> None:
    """Whether amounts stay such."""
    if not isinstance(asked.task, Amounts):
        return
    changed = "and amounts must not be negative; choose"
    require(
        not isinstance(asked.split, Concept),
        f"split=concept adds to labels what lies along a feature, {changed} another split, such as "
        "covariate or feature_shift, or task=linear",
    )
    require(
        not isinstance(asked.attack, LabelFlip),
        f"attack=label_flip turns the sign of labels, {changed} another attack, such as sign_flip, or "
        "task=linear",
    )


def _check_counts(asked: Experiment) -> None:
    """Whether counts of rows that judge can have noise that hides any of them."""
    if asked.evaluate.noise_multiplier is None:
        return
    where, prepared = "evaluate.noise_multiplier", asked.data.preprocess
    require(
        isinstance(asked.privacy, RecordPrivacy),
        f"{where} hides records or patients that judge, and privacy={asked.privacy.name} hides none of "
        f"those that train; set privacy=record, or {where}=null",
    )
    require(
        "client" not in (prepared.scope, prepared.judged)
        or not (prepared.standardise or prepared.impute in ("mean", "median")),
        f"{where} bounds what a row does to counts, and a client without training rows prepares all by "
        "constants of the rows that judge; set data.preprocess.scope=federated and "
        "data.preprocess.judged=same",
    )
    require(
        not asked.split.late,
        f"{where} is not accounted for where clients join late and train when training is over; set "
        f"split.late=0, or {where}=null",
    )


def _check_choice(asked: Experiment) -> None:
    """Whether there is a model whose losses clients may be chosen by, and no promise that these break."""
    if not isinstance(asked.world, PowerOfChoice):
        return
    require(
        not isinstance(asked.algorithm, Local | Pooled),
        f"world=power_of_choice chooses clients by the loss of the server's model, which "
        f"algorithm={asked.algorithm.name} does not make of theirs; choose an algorithm that "
        "averages, such as fedavg, or another world",
    )
    require(
        isinstance(asked.privacy, NoPrivacy),
        f"world=power_of_choice sends losses of the clients' rows without protection and trains whom "
        f"they point to, so privacy={asked.privacy.name} would promise nothing; choose privacy=none, "
        "or a world that draws at random, such as uniform or poisson",
    )
