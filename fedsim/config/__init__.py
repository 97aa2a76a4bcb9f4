"""Every option of an experiment: frozen dataclasses that hold types and ranges; YAML holds values.

A field made with `number(...)` is an input of the compiled program, one value per run, so a sweep
over it never recompiles. All other fields are structure.
"""

from __future__ import annotations

from typing import Any

from fedsim.base import build, register
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
from fedsim.config.attack import AttackConfig, Honest
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
from fedsim.config.evaluate import Evaluate, Target, Tune
from fedsim.config.executor import ExecutorConfig, Inline, RayExecutor
from fedsim.config.experiment import APART, Experiment
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
