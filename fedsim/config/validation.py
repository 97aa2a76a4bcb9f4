"""What an outside validation fixes before it looks: the analysis plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fedsim.base import require
from fedsim.config.evaluate import check_groups

Update = Literal["keep", "intercept", "baseline", "slope", "refit"]
MEASURES = (
    "auroc",
    "auprc",
    "brier",
    "log_loss",
    "calibration_intercept",
    "calibration_slope",
    "observed_expected",
    "net_benefit",
    "ici",
    *(f"{name}_top{k}" for name in ("ppv", "sensitivity", "nne") for k in (1, 5, 10)),
)
ORDER: tuple[Update, ...] = ("keep", "intercept", "slope", "refit")
# Of times to an event, by a horizon; `baseline` is to Cox what `intercept` is to discrete-time models.
TIMED_MEASURES = ("c_index", "uno_c", "auc_t", "brier_t", "ibs", "observed_expected", "ici", "net_benefit")
TIMED_ORDER: tuple[Update, ...] = ("keep", "baseline", "slope", "refit")


@dataclass(frozen=True, kw_only=True)
class ValidationPlan:
    """How a stored model is judged at a site that had no part in its training.

    run, model_sha256, site, outcome: what is judged, where, and by which label.
    horizon: of times to an event, in their unit: follow-up counts up to there, and risks are of an event by
      then; null: the outcome has two classes.
    rows: `run`, the site's rows in the run's own data; `file`, a table that is named when it is read.
    metrics: of the frozen model and of its updates, the first being the main one. thresholds: of risk, for
      net_benefit.
    updates: the menu, from the least to the largest; alpha: level of the closed test among them.
    bootstrap: replicates of patients behind intervals. folds: of the cross-fit that judges updates and
      membership. seed: of both.
    adapt: whether each region's own adaptations are tried too. ridge: of these, the penalty on changes of
      coefficients of standardised features (units of log-likelihood); 0 is maximum likelihood.
    groups: column -> cut points, as `evaluate.groups` of a run: the site's rows are judged apart by a
      feature, or a column that data.keep keeps.
    """

    run: str
    model_sha256: str
    site: str
    outcome: str
    rows: Literal["run", "file"] = "run"
    metrics: tuple[str, ...] = (
        "auroc",
        "log_loss",
        "brier",
        "calibration_intercept",
        "calibration_slope",
        "observed_expected",
        "net_benefit",
    )
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.5)
    updates: tuple[Update, ...] = ORDER
    alpha: float = 0.05
    bootstrap: int = 1000
    folds: int = 10
    seed: int = 0
    adapt: bool = True
    ridge: float = 1.0
    horizon: float | None = None
    groups: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        timed = self.horizon is not None
        measures = TIMED_MEASURES if timed else MEASURES
        order = TIMED_ORDER if timed and "intercept" not in self.updates else ORDER
        for name in self.metrics:
            require(name in measures, f"metrics must be of {', '.join(measures)}; got {name!r}")
        require(self.metrics, "metrics must name one at least, got none")
        repeated = len(set(self.metrics)) < len(self.metrics)
        require(not repeated, f"metrics must differ, got {', '.join(self.metrics)}")
        risks = self.thresholds
        require(
            all(0 < t < 1 for t in risks) and list(risks) == sorted(set(risks)),
            f"thresholds must rise inside (0, 1), got {list(risks)}",
        )
        require(
            bool(risks) == ("net_benefit" in self.metrics),
            f"net_benefit and thresholds go together, got metrics={list(self.metrics)} and "
            f"thresholds={list(risks)}",
        )
        require(
            self.updates == tuple(u for u in order if u in self.updates) and self.updates[:1] == ("keep",),
            f"updates must be of {', '.join(order)} in this order, keep among them, got {list(self.updates)}",
        )
        require(0 < self.alpha < 1, f"alpha must be in (0, 1), got {self.alpha}")
        require(100 <= self.bootstrap <= 100_000, f"bootstrap must be in [100, 100000], got {self.bootstrap}")
        require(2 <= self.folds <= 100, f"folds must be in [2, 100], got {self.folds}")
        require(0 <= self.seed < 2**63, f"seed must be in [0, 2^63), got {self.seed}")
        require(0 <= self.ridge < float("inf"), f"ridge must be in [0, inf), got {self.ridge}")
        require(
            self.horizon is None or 0 < self.horizon < float("inf"),
            f"horizon must be in (0, inf), or null, got {self.horizon}",
        )
        check_groups(self.groups, "groups")
