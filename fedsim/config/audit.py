"""Attacks on what was trained, to see whether what protects it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Literal

from fedsim.base import Choice, number, require

if TYPE_CHECKING:
    from fedsim.config import Experiment


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Choice):
    """What is tried against a run."""

    @property
    def joining(self) -> int:
        """Canary clients that may join training."""
        return 0

    @property
    def compiled(self) -> AuditConfig:
        """What of it the program of a round depends on."""
        return NoAudit()

    def check(self, experiment: Experiment) -> None:
        """Refuse experiments that it can say nothing of."""


@dataclass(frozen=True, kw_only=True)
class NoAudit(AuditConfig):
    """Nothing is tried."""


@dataclass(frozen=True, kw_only=True)
class Canaries(AuditConfig):
    """canaries: how many, each included or left out by a coin; confidence: of the lower bounds; delta: at
    which epsilon is bounded, to be that of the accountant."""

    canaries: int = 100
    confidence: float = 0.95
    delta: float = 1e-5

    def __post_init__(self) -> None:
        require(
            self.canaries >= 10,
            f"audit.canaries must be >= 10, got {self.canaries}: fewer cannot show any epsilon; raise it",
        )
        require(0 < self.confidence < 1, f"audit.confidence must be in (0, 1), got {self.confidence}")
        require(0 <= self.delta < 1, f"audit.delta must be in [0, 1), got {self.delta}")


@dataclass(frozen=True, kw_only=True)
class CanaryClients(Canaries):
    """Clients that send random directions (Andrew et al. 2024), included by a coin (Steinke et al. 2023).

    magnitude: norm of what a canary tries to send, in units of the mechanism's sensitivity: above 1, so that
      the clip is audited too.
    sees: every round's noisy aggregate, which is what an accountant answers for; or only their sum, which
      for plain averaging is what the final model tells.
    relation: of neighbouring data: a canary whose coin does not come up is not there, or sends the opposite.
    """

    magnitude: float = number(10.0)
    sees: Literal["rounds", "final"] = "rounds"
    relation: Literal["add_or_remove_one", "replace_one"] = "add_or_remove_one"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            1 <= self.magnitude < inf,
            f"audit.magnitude must be in [1, inf), got {self.magnitude}: a canary that sends less than a "
            "client may would show less than a client risks",
        )

    @property
    def joining(self) -> int:
        return self.canaries

    @property
    def compiled(self) -> AuditConfig:
        return replace(self, confidence=0.95, delta=0.0)

    def check(self, experiment: Experiment) -> None:
        world, kept = experiment.world, getattr(experiment.privacy, "relation", self.relation)
        require(
            world.name in ("all", "poisson", "uniform")
            and world.dropout == world.staleness == world.stragglers == 0
            and getattr(experiment.system, "deadline", None) is None,
            "audit=clients has canaries join as clients do, which it can where world is all, uniform or "
            "poisson, without dropout, stragglers, staleness or a deadline, got "
            f"world={world.name}; choose one of these",
        )
        require(
            (kept == "replace_one") == (self.relation == "replace_one"),
            f"audit.relation={self.relation} is about other neighbours than privacy.relation={kept}; set "
            "both to replace_one, or neither",
        )


@dataclass(frozen=True, kw_only=True)
class CanaryRecords(Canaries):
    """Training rows that are left out by a coin, told apart by their loss in the end (Steinke et al. 2023).

    labels: wrong ones, which nothing but the canary itself teaches a model; or their own. Both the included
      and the left out get them.
    """

    labels: Literal["wrong", "own"] = "wrong"

    def check(self, experiment: Experiment) -> None:
        _server(self.name, experiment.algorithm.name)
        split = experiment.split
        require(
            not (split.folds or split.leave_one_out or experiment.tune.grid),
            "audit=records plants canaries in one training set, and folds and tuning make several; set "
            "split.folds=0, split.leave_one_out=false and an empty tune.grid",
        )


@dataclass(frozen=True, kw_only=True)
class Membership(AuditConfig):
    """Who was a training row, told by shadow models (Carlini et al. 2022; Zarifzadeh et al. 2024).

    shadows: models trained as the run was, each on training rows drawn anew; gamma: of RMIA, how many times
      likelier than another row a member must be; subgroup: a feature by whose values groups are formed,
      beside clients and labels; confidence: of intervals.
    """

    shadows: int = 32
    gamma: float = 2.0
    subgroup: str | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        require(
            self.shadows >= 4,
            f"audit.shadows must be >= 4, got {self.shadows}: each row needs models with and without it",
        )
        require(0 < self.gamma < inf, f"audit.gamma must be in (0, inf), got {self.gamma}")
        require(0 < self.confidence < 1, f"audit.confidence must be in (0, 1), got {self.confidence}")

    def check(self, experiment: Experiment) -> None:
        _server(self.name, experiment.algorithm.name)
        split = experiment.split
        require(
            split.test > 0 or split.folds or split.leave_one_out,
            "audit=membership compares training rows with rows that were left out; set split.test",
        )


@dataclass(frozen=True, kw_only=True)
class Inversion(AuditConfig):
    """Rows from the gradient of one local step, as one client sends it or summed over several.

    batch_sizes: rows behind a client's gradient; clients: whose gradients are summed before they are seen, 1
      without secure aggregation; noise: deviation on the sum in units of `clip_norm`, to which each gradient
      is clipped first; 0 for neither.
    trials: batches of each kind; steps, restarts: of the optimiser; model: at which gradients are taken, the
      first, whose weights are random, or the final one.
    """

    batch_sizes: tuple[int, ...] = (1, 4, 16)
    clients: tuple[int, ...] = (1, 4)
    noise: tuple[float, ...] = (0.0, 0.01, 1.0)
    clip_norm: float = 1.0
    trials: int = 10
    steps: int = 500
    restarts: int = 3
    model: Literal["first", "final"] = "first"

    def __post_init__(self) -> None:
        for name in ("batch_sizes", "clients"):
            values = getattr(self, name)
            require(
                len(values) > 0 and min(values) >= 1,
                f"audit.{name} must be whole numbers >= 1, at least one, got {list(values)}",
            )
        require(
            len(self.noise) > 0 and all(0 <= z < inf for z in self.noise),
            f"audit.noise must be numbers in [0, inf), at least one, got {list(self.noise)}",
        )
        require(0 < self.clip_norm < inf, f"audit.clip_norm must be in (0, inf), got {self.clip_norm}")
        for name in ("trials", "steps", "restarts"):
            require(getattr(self, name) >= 1, f"audit.{name} must be >= 1, got {getattr(self, name)}")

    def check(self, experiment: Experiment) -> None:
        _server(self.name, experiment.algorithm.name)


def _server(audit: str, algorithm: str) -> None:
    require(
        algorithm not in ("pooled", "local"),
        f"audit={audit} tries the server's model, and algorithm={algorithm} has none of the clients' making; "
        "choose one that averages, such as fedavg",
    )


MEMBERS: dict[str, type] = {
    "none": NoAudit,
    "clients": CanaryClients,
    "records": CanaryRecords,
    "membership": Membership,
    "inversion": Inversion,
}
