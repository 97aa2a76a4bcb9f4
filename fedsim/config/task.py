"""What is learned, by what model."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from fedsim.base import Choice, number, require


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Choice):
    """l2: ridge penalty on weight matrices, added to the loss as l2 / 2 * |w|^2."""

    l2: float = number(0.0)

    def __post_init__(self) -> None:
        require(0 <= self.l2 < inf, f"task.l2 must be in [0, inf), got {self.l2}")


@dataclass(frozen=True, kw_only=True)
class Logistic(TaskConfig):
    """Binary or multi-class logistic regression, by the labels.

    init: zeros; LeCun normal; or uniform in +-1 / sqrt(features), the intercept too, as PyTorch does.
    """

    init: Literal["zeros", "normal", "uniform"] = "zeros"


@dataclass(frozen=True, kw_only=True)
class Linear(TaskConfig):
    """Linear regression, squared error."""


@dataclass(frozen=True, kw_only=True)
class Amounts(TaskConfig):
    """What models of amounts such as days and costs share, which predict on a logarithmic scale.

    typical: an amount, in the label's unit, that the first model predicts for every row; its order is enough.
    """

    typical: float = number(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.typical < inf, f"task.typical must be in (0, inf), got {self.typical}")


@dataclass(frozen=True, kw_only=True)
class Gamma(Amounts):
    """Gamma regression with a log link, of amounts above 0; half the deviance."""


@dataclass(frozen=True, kw_only=True)
class TwoPart(Amounts):
    """Of amounts that are often 0: logistic for whether there is any, gamma for how much then."""


@dataclass(frozen=True, kw_only=True)
class Mlp(TaskConfig):
    """Multi-layer perceptron with ReLU; classification or regression, by the labels.

    projection: width of a linear layer before the last one, 0 for none.
    """

    hidden: tuple[int, ...] = (64, 64)
    dropout: float = 0.0
    batch_norm: bool = False
    projection: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(h >= 1 for h in self.hidden), f"task.hidden must be positive, got {list(self.hidden)}")
        require(0 <= self.dropout < 1, f"task.dropout must be in [0, 1), got {self.dropout}")
        require(self.projection >= 0, f"task.projection must be >= 0, got {self.projection}")


@dataclass(frozen=True, kw_only=True)
class Cnn(TaskConfig):
    """Two 3 x 3 valid convolutions, max pool, dropout, dense, dropout, dense (pfl-research's CNN).

    batch_norm: normalise after each convolution, with running statistics as task state.
    projection: width of a linear layer before the last one, 0 for none.
    """

    channels: tuple[int, ...] = (32, 64)
    dense: int = 128
    dropout: tuple[float, ...] = (0.25, 0.5)
    batch_norm: bool = False
    projection: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.channels) == 2 and all(c >= 1 for c in self.channels),
            f"task.channels must be two positive numbers, got {list(self.channels)}",
        )
        require(
            len(self.dropout) == 2 and all(0 <= d < 1 for d in self.dropout),
            f"task.dropout must be two numbers in [0, 1), got {list(self.dropout)}",
        )
        require(self.projection >= 0, f"task.projection must be >= 0, got {self.projection}")


@dataclass(frozen=True, kw_only=True)
class Survival(TaskConfig):
    """What models of the time to an event share: a linear risk, or a perceptron's.

    init: of a linear one; zeros, LeCun normal, or uniform on +-1 / sqrt(features), as PyTorch begins.
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    batch_norm: bool = False
    init: Literal["zeros", "normal", "uniform"] = "zeros"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(h >= 1 for h in self.hidden), f"task.hidden must be positive, got {list(self.hidden)}")
        require(0 <= self.dropout < 1, f"task.dropout must be in [0, 1), got {self.dropout}")
        require(
            self.hidden != () or not (self.dropout or self.batch_norm),
            "task.dropout and task.batch_norm belong to hidden layers, and task.hidden is empty; set it",
        )


@dataclass(frozen=True, kw_only=True)
class Cox(Survival):
    """Cox regression (1972); with hidden layers DeepSurv (Katzman et al. 2018).

    ties: how events at the same time are counted (Efron 1977, Breslow 1974).
    rows: read together where all of a client's rows are asked for at once, since partial likelihoods of
      parts do not add up to that of the whole; a client that holds more is refused.
    """

    ties: Literal["efron", "breslow"] = "efron"
    rows: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rows >= 1, f"task.rows must be >= 1, got {self.rows}")


@dataclass(frozen=True, kw_only=True)
class SurvivalDiscrete(Survival):
    """Hazards of `bins` intervals from 0 to `horizon` (Gensheimer and Narasimhan 2019).

    horizon: in the unit of the times; later events count as survival.
    surviving: intervals hold equal shares of the events of a constant hazard that leaves this share of
      rows at the horizon; 1: they have equal widths.
    proportional: one effect of a feature in all intervals, or one in each.
    """

    bins: int = 10
    horizon: float = number()
    surviving: float = number(1.0)
    proportional: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.bins >= 1, f"task.bins must be >= 1, got {self.bins}")
        require(0 < self.horizon < inf, f"task.horizon must be in (0, inf), got {self.horizon}")
        require(0 < self.surviving <= 1, f"task.surviving must be in (0, 1], got {self.surviving}")


@dataclass(frozen=True, kw_only=True)
class Trees(TaskConfig):
    """A forest of binary trees, grown by algorithm=boosting, local or pooled; of a number or two classes.

    l2: on leaf values, added to the sum of losses (not their mean) as l2 / 2 * |w|^2.
    learning_rate: what a tree's leaf values are multiplied by. gamma: what a split must lower the sum of
      losses by. min_child_weight: least sum of second derivatives on either side of a split: rows, of a
      number; rows times p (1 - p), of two classes.
    trees: how many there is room for; depth: splits from root to leaf. bins: of each feature, between which
      it may be split.
    """

    l2: float = number(1.0)
    learning_rate: float = number(0.1)
    gamma: float = number(0.0)
    min_child_weight: float = number(1.0)
    trees: int = 100
    depth: int = 4
    bins: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        rate, least = self.learning_rate, self.min_child_weight
        require(0 < rate <= 1, f"task.learning_rate must be in (0, 1], got {rate}")
        require(0 <= self.gamma < inf, f"task.gamma must be in [0, inf), got {self.gamma}")
        require(0 < least < inf, f"task.min_child_weight must be in (0, inf), got {least}")
        require(1 <= self.trees <= 10_000, f"task.trees must be in [1, 10000], got {self.trees}")
        require(
            1 <= self.depth <= 8,
            f"task.depth must be in [1, 8], got {self.depth}; a level more doubles the histograms",
        )
        require(2 <= self.bins <= 256, f"task.bins must be in [2, 256], got {self.bins}")


MEMBERS: dict[str, type] = {
    "logistic": Logistic,
    "linear": Linear,
    "gamma": Gamma,
    "two_part": TwoPart,
    "mlp": Mlp,
    "cnn": Cnn,
    "cox": Cox,
    "survival_discrete": SurvivalDiscrete,
    "trees": Trees,
}
