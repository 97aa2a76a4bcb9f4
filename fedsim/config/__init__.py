"""Every option of an experiment: frozen dataclasses that hold types and ranges; YAML holds values.

A field made with `number(...)` is an input of the compiled program, one value per run, so a sweep
over it never recompiles. All other fields are structure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from fedsim.base import build, choice, register, require
from fedsim.config import (
    aggregator,
    algorithm,
    attack,
    audit,
    channel,
    cohort,
    data,
    decentralised,
    executor,
    late,
    omop,
    personal,
    privacy,
    privacy_correlated,
    privacy_distributed,
    privacy_local,
    privacy_record,
    secure,
    servers,
    shift,
    split,
    system,
    task,
    topology,
    world,
)
from fedsim.config.aggregator import AggregatorConfig, Mean
from fedsim.config.algorithm import (
    AdaptiveServer,
    AlgorithmConfig,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedSgd,
    FedYogi,
    Local,
    Pooled,
    Scaffold,
)
from fedsim.config.attack import AttackConfig, Honest, LabelFlip
from fedsim.config.audit import AuditConfig, NoAudit
from fedsim.config.channel import (
    ChannelConfig,
    Direct,
    Ef21,
    PowerSgd,
    Qsgd,
    RandomK,
    Rotation,
    Sign,
    TopK,
)
from fedsim.config.cohort import Dials, HeartFailure
from fedsim.config.data import (
    NO_PREPROCESS,
    Arrays,
    Blobs,
    DataConfig,
    Diabetes130,
    Digits,
    HeartDisease,
    Idx,
    Preprocess,
    SepsisNorway,
    Support2,
    Synthetic,
    Table,
    TcgaBrca,
)
from fedsim.config.executor import ExecutorConfig, Inline, RayExecutor
from fedsim.config.numerics import Numerics
from fedsim.config.omop import Omop
from fedsim.config.optimizer import OptimizerConfig
from fedsim.config.privacy import Accounted, AdaptiveClip, GaussianPrivacy, NoPrivacy, PrivacyConfig
from fedsim.config.privacy_correlated import BandedPrivacy, BltPrivacy, Correlated, TreePrivacy
from fedsim.config.privacy_distributed import DiscreteGaussian, InRing, Skellam
from fedsim.config.privacy_local import LocalGaussian, RandomisedCounts, RandomisedResponse
from fedsim.config.privacy_record import RecordPrivacy
from fedsim.config.secure import NoSecure, SecureConfig, SecureSum
from fedsim.config.servers import Boosting, Newton
from fedsim.config.shift import Coding, Concept, Covariate, Drift, FeatureShift, Missing, Rotated
from fedsim.config.split import (
    Classes,
    Dirichlet,
    DirichletClient,
    Groups,
    Iid,
    Natural,
    Prevalence,
    Published,
    Quantity,
    QuantityLabel,
    Shards,
    SplitConfig,
    Temporal,
)
from fedsim.config.system import Lognormal, NoSystem, SystemConfig, TimedSystem, TracedSystem
from fedsim.config.task import (
    Amounts,
    Cnn,
    Cox,
    Gamma,
    Linear,
    Logistic,
    Mlp,
    SurvivalDiscrete,
    TaskConfig,
    Trees,
    TwoPart,
)
from fedsim.config.topology import Star, TopologyConfig
from fedsim.config.world import All, Poisson, PowerOfChoice, Uniform, WorldConfig


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Choice of step sizes and rounds on validation rows of the training part, per fold.

    grid: config path -> values; all combinations are tried, each for `rounds[-1]` rounds and judged
    after each number of `rounds`; the winner is fitted again on all training rows.
    valid: share of each client's training rows held out for the choice, which is by the task's loss.
    """

    grid: dict[str, Any] = field(default_factory=dict)
    rounds: tuple[int, ...] = ()
    valid: float = 0.25

    def __post_init__(self) -> None:
        require(0 < self.valid < 1, f"tune.valid must be in (0, 1), got {self.valid}")
        require(
            list(self.rounds) == sorted(set(self.rounds)) and all(r >= 1 for r in self.rounds),
            f"tune.rounds must be rising whole numbers, got {list(self.rounds)}",
        )
        for path, values in self.grid.items():
            require(
                isinstance(values, list | tuple) and len(values) > 0,
                f"tune.grid.{path} must be a list of values, got {values!r}",
            )


@dataclass(frozen=True, kw_only=True)
class Target:
    """A value of a metric of all tested rows together, and what it cost to get there; null: none."""

    metric: str | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        require(
            (self.metric is None) == (self.value is None),
            "evaluate.target needs both metric and value, or neither, "
            f"got metric={self.metric} and value={self.value}",
        )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """every: rounds between evaluations (0: only after the last round); predictions: keep every
    tested row's score (null: below a million rows); target: what it costs to reach, in rounds judged.

    horizon: time by which the event has happened or not, in the unit of the times: survival is judged by
      probabilities of it, too, after the last round; null: by the order of risks alone.
    thresholds: probabilities in (0, 1) from which on one would act, for net benefit.
    groups: column -> cut points; rows are judged apart by a feature, or a column that data.keep keeps, after
      the last round: by its values, or by the intervals between cut points. fewest: events, and rows without
      one (of a quantity rows), that a group must have for its metrics.
    noise_multiplier: deviation of the noise on regions' counts of scores by label, in units of the most that
      one record or patient adds; null: no such counts. bins: of scores, an even number.
    """

    every: int = 0
    predictions: bool | None = None
    target: Target = field(default_factory=Target)
    horizon: float | None = None
    thresholds: tuple[float, ...] = ()
    groups: dict[str, Any] = field(default_factory=dict, hash=False)
    fewest: int = 10
    noise_multiplier: float | None = None
    bins: int = 10

    def __post_init__(self) -> None:
        require(self.every >= 0, f"evaluate.every must be >= 0, got {self.every}")
        require(
            self.horizon is None or 0 < self.horizon < inf,
            f"evaluate.horizon must be in (0, inf), or null, got {self.horizon}",
        )
        require(
            all(0 < t < 1 for t in self.thresholds) and len({*self.thresholds}) == len(self.thresholds),
            f"evaluate.thresholds must be different numbers in (0, 1), got {list(self.thresholds)}",
        )
        for name, cuts in self.groups.items():
            numbers = isinstance(cuts, list | tuple) and all(
                isinstance(c, int | float) and not isinstance(c, bool) and -inf < c < inf for c in cuts
            )
            require(
                numbers and list(cuts) == sorted({*cuts}),
                f"evaluate.groups.{name} must be rising numbers, or [] for one group per value, got {cuts!r}",
            )
        require(self.fewest >= 1, f"evaluate.fewest must be >= 1, got {self.fewest}")
        noise, bins = self.noise_multiplier, self.bins
        require(
            noise is None or 0 < noise < inf,
            f"evaluate.noise_multiplier must be in (0, inf), got {noise}; set null for no counts",
        )
        require(
            2 <= bins <= 1000 and bins % 2 == 0,
            f"evaluate.bins must be even and in [2, 1000], so that 0.5 parts two of them, got {bins}",
        )


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
        self._check_counts()
        self._check_horizon()
        self._check_amounts()
        self._check_trees()
        if isinstance(self.world, PowerOfChoice):
            require(
                not isinstance(self.algorithm, Local | Pooled),
                f"world=power_of_choice chooses clients by the loss of the server's model, which "
                f"algorithm={self.algorithm.name} does not make of theirs; choose an algorithm that "
                "averages, such as fedavg, or another world",
            )
            require(
                isinstance(self.privacy, NoPrivacy),
                f"world=power_of_choice sends losses of the clients' rows without protection and trains whom "
                f"they point to, so privacy={self.privacy.name} would promise nothing; choose privacy=none, "
                "or a world that draws at random, such as uniform or poisson",
            )

    def _check_trees(self) -> None:
        """Whether trees are boosted and nothing else is, and what leaves missing values is read by trees."""
        task, algorithm, prepared = self.task.name, self.algorithm.name, self.data.preprocess
        forest, boosting = isinstance(self.task, Trees), isinstance(self.algorithm, Boosting)
        require(
            boosting or not forest,
            f"task=trees has no gradient to follow, and algorithm={algorithm} follows it; set "
            "algorithm=boosting, or another task, such as task=mlp",
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

    def _check_horizon(self) -> None:
        """Whether there are probabilities of an event by a horizon, and nothing unprotected makes them."""
        horizon, task = self.evaluate.horizon, self.task
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
            isinstance(self.privacy, NoPrivacy),
            f"evaluate.horizon={horizon:g} needs a baseline hazard of training rows, which no noise of "
            f"privacy={self.privacy.name} covers; choose task=survival_discrete, whose hazards are part of "
            "the model, or privacy=none, or set evaluate.horizon=null",
        )
        require(
            not self.split.late,
            "evaluate.horizon needs a baseline hazard, and clients that join late have no part in one; set "
            "split.late=0, or evaluate.horizon=null",
        )

    def _check_amounts(self) -> None:
        """Whether amounts stay such."""
        if not isinstance(self.task, Amounts):
            return
        changed = "and amounts must not be negative; choose"
        require(
            not isinstance(self.split, Concept),
            f"split=concept adds to labels what lies along a feature, {changed} another split, such as "
            "covariate or feature_shift, or task=linear",
        )
        require(
            not isinstance(self.attack, LabelFlip),
            f"attack=label_flip turns the sign of labels, {changed} another attack, such as sign_flip, or "
            "task=linear",
        )

    def _check_counts(self) -> None:
        """Whether counts of rows that judge can have noise that hides any of them."""
        if self.evaluate.noise_multiplier is None:
            return
        where, prepared = "evaluate.noise_multiplier", self.data.preprocess
        require(
            isinstance(self.privacy, RecordPrivacy),
            f"{where} hides records or patients that judge, and privacy={self.privacy.name} hides none of "
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
            not self.split.late,
            f"{where} is not accounted for where clients join late and train when training is over; set "
            f"split.late=0, or {where}=null",
        )


MEMBERS: dict[str, dict[str, type]] = {
    "data": data.MEMBERS | cohort.MEMBERS | omop.MEMBERS,
    "split": split.MEMBERS | shift.MEMBERS,
    "task": task.MEMBERS,
    "aggregator": aggregator.MEMBERS,
    "attack": attack.MEMBERS,
    "audit": audit.MEMBERS,
    "algorithm": algorithm.MEMBERS
    | servers.MEMBERS
    | personal.MEMBERS
    | late.MEMBERS
    | decentralised.MEMBERS,
    "channel": channel.MEMBERS,
    "privacy": privacy.MEMBERS
    | privacy_correlated.MEMBERS
    | privacy_distributed.MEMBERS
    | privacy_local.MEMBERS
    | privacy_record.MEMBERS,
    "secure": secure.MEMBERS,
    "world": world.MEMBERS,
    "system": system.MEMBERS,
    "topology": topology.MEMBERS,
    "executor": executor.MEMBERS,
}
for _group, _members in MEMBERS.items():
    for _name, _cls in _members.items():
        register(_group, _name, _cls)


def experiment(values: dict[str, Any]) -> Experiment:
    """Build and check an experiment from plain data, such as a stored config.yaml."""
    return build(Experiment, values)


__all__ = [
    "APART",
    "MEMBERS",
    "NO_PREPROCESS",
    "Accounted",
    "AdaptiveClip",
    "AdaptiveServer",
    "AggregatorConfig",
    "AlgorithmConfig",
    "All",
    "Amounts",
    "Arrays",
    "AttackConfig",
    "AuditConfig",
    "BandedPrivacy",
    "Blobs",
    "BltPrivacy",
    "Boosting",
    "ChannelConfig",
    "Classes",
    "Cnn",
    "Coding",
    "Concept",
    "Correlated",
    "Covariate",
    "Cox",
    "DataConfig",
    "Diabetes130",
    "Dials",
    "Digits",
    "Direct",
    "Dirichlet",
    "DirichletClient",
    "DiscreteGaussian",
    "Drift",
    "Ef21",
    "Evaluate",
    "ExecutorConfig",
    "Experiment",
    "FeatureShift",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedProx",
    "FedSgd",
    "FedYogi",
    "Gamma",
    "GaussianPrivacy",
    "Groups",
    "HeartDisease",
    "HeartFailure",
    "Honest",
    "Idx",
    "Iid",
    "InRing",
    "Inline",
    "Linear",
    "Local",
    "LocalGaussian",
    "Logistic",
    "Lognormal",
    "Mean",
    "Missing",
    "Mlp",
    "Natural",
    "Newton",
    "NoAudit",
    "NoPrivacy",
    "NoSecure",
    "NoSystem",
    "Numerics",
    "Omop",
    "OptimizerConfig",
    "Poisson",
    "Pooled",
    "PowerOfChoice",
    "PowerSgd",
    "Preprocess",
    "Prevalence",
    "PrivacyConfig",
    "Published",
    "Qsgd",
    "Quantity",
    "QuantityLabel",
    "RandomK",
    "RandomisedCounts",
    "RandomisedResponse",
    "RayExecutor",
    "RecordPrivacy",
    "Rotated",
    "Rotation",
    "Scaffold",
    "SecureConfig",
    "SecureSum",
    "SepsisNorway",
    "Shards",
    "Sign",
    "Skellam",
    "SplitConfig",
    "Star",
    "Support2",
    "SurvivalDiscrete",
    "Synthetic",
    "SystemConfig",
    "Table",
    "Target",
    "TaskConfig",
    "TcgaBrca",
    "Temporal",
    "TimedSystem",
    "TopK",
    "TopologyConfig",
    "TracedSystem",
    "TreePrivacy",
    "Trees",
    "Tune",
    "TwoPart",
    "Uniform",
    "WorldConfig",
    "experiment",
]
