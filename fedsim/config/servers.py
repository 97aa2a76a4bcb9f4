"""Algorithms whose clients or servers do more than average."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from fedsim.base import number, require
from fedsim.config.algorithm import AlgorithmConfig


@dataclass(frozen=True, kw_only=True)
class Newton(AlgorithmConfig):
    """Newton's method on sums over all clients' rows: logistic, linear and Cox regression as if pooled.

    l1: lasso penalty on the weights, added to the mean loss as l1 * |w|_1; with task.l2 the elastic net.
    tolerance: the fit is done when a step is shorter than this many standard errors.
    stratified: Cox regression with a baseline hazard for each client, whose risk sets are its own; else
      with one for all, for which event times and sums over risk sets are exchanged.
    """

    l1: float = number(0.0)
    tolerance: float = number(1e-9)
    stratified: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.l1 < inf, f"algorithm.l1 must be in [0, inf), got {self.l1}")
        require(0 < self.tolerance < 1, f"algorithm.tolerance must be in (0, 1), got {self.tolerance}")
        require(
            self.weighting == "examples",
            "algorithm.weighting must be examples with algorithm=newton, which adds up rows whoever holds "
            f"them, got {self.weighting}; set algorithm.weighting=examples",
        )


@dataclass(frozen=True, kw_only=True)
class Boosting(AlgorithmConfig):
    """Gradient-boosted trees from sums over all clients' rows (Chen and Guestrin 2016, eq. 5 and 7).

    What trees are grown like is the task's, so that local and pooled ones are grown alike.
    """

    def __post_init__(self) -> None:
        require(
            self.weighting == "examples",
            "algorithm.weighting must be examples with algorithm=boosting, which adds up rows whoever holds "
            f"them, got {self.weighting}; set algorithm.weighting=examples",
        )


@dataclass(frozen=True, kw_only=True)
class FedNova(AlgorithmConfig):
    """Local updates divided by what their steps weigh (Wang et al. 2020, section 4).

    Local steps are SGD, or SGD with momentum: `optimizer.chain` empty, or optax `trace` alone.
    """


@dataclass(frozen=True, kw_only=True)
class FedDyn(AlgorithmConfig):
    """Local objectives with a linear and a quadratic term, so that local and global optima agree (Acar
    et al. 2021, Alg. 1).

    alpha: strength of the quadratic term, units of loss / weight ** 2.
    """

    weighting: Literal["examples", "uniform"] = "uniform"
    alpha: float = number(0.1)

    def __post_init__(self) -> None:
        require(0 < self.alpha < inf, f"algorithm.alpha must be in (0, inf), got {self.alpha}")
        require(
            self.weighting == "uniform",
            "algorithm.weighting must be uniform with algorithm=feddyn, whose server adds up all clients "
            f"alike over rounds, got {self.weighting}; set algorithm.weighting=uniform",
        )


@dataclass(frozen=True, kw_only=True)
class FedExP(AlgorithmConfig):
    """FedAvg with server steps that grow with the clients' disagreement (Jhunjhunwala et al. 2023, Alg. 1).

    epsilon: keeps the step finite where the mean update vanishes, units of weight ** 2.
    last_two: judge the mean of the last two models, as the paper does.
    """

    epsilon: float = number(1e-3)
    last_two: bool = True

    def __post_init__(self) -> None:
        require(0 < self.epsilon < inf, f"algorithm.epsilon must be in (0, inf), got {self.epsilon}")


@dataclass(frozen=True, kw_only=True)
class QFedAvg(AlgorithmConfig):
    """Clients with a high loss count for more (q-FedAvg; Li et al. 2020, Alg. 2).

    q: how much more; 0 is FedAvg.
    """

    q: float = number(1.0)

    def __post_init__(self) -> None:
        require(0 <= self.q < inf, f"algorithm.q must be in [0, inf), got {self.q}")


@dataclass(frozen=True, kw_only=True)
class FedSam(AlgorithmConfig):
    """Local steps that look for flat minima (Qu et al. 2022, Alg. 1).

    rho: how far uphill the gradient is taken, a norm over all weights; 0 is FedAvg.
    """

    rho: float = number(0.05)

    def __post_init__(self) -> None:
        require(0 <= self.rho < inf, f"algorithm.rho must be in [0, inf), got {self.rho}")


@dataclass(frozen=True, kw_only=True)
class MimeLite(AlgorithmConfig):
    """Local steps with the server's momentum, held fixed (Karimireddy et al. 2020, Alg. 1, MimeLite).

    momentum: share of the server's momentum in a step; the gradient has the rest, and 0 is FedAvg.
    """

    momentum: float = number(0.9)

    def __post_init__(self) -> None:
        require(0 <= self.momentum < 1, f"algorithm.momentum must be in [0, 1), got {self.momentum}")


@dataclass(frozen=True, kw_only=True)
class Mime(MimeLite):
    """MimeLite with local gradients corrected by the cohort's (Karimireddy et al. 2020, Alg. 1, Mime).

    A round has two exchanges: the cohort's gradient is asked for before anyone trains.
    """


@dataclass(frozen=True, kw_only=True)
class Agnostic(AlgorithmConfig):
    """FedAvg over the mixture of clients with the highest loss (agnostic FL; Mohri et al. 2019, section 4).

    weight_step_size: how fast weights follow losses, per unit of loss; 0 is FedAvg.
    """

    weight_step_size: float = number(0.1)

    def __post_init__(self) -> None:
        require(
            0 <= self.weight_step_size < inf,
            f"algorithm.weight_step_size must be in [0, inf), got {self.weight_step_size}",
        )


@dataclass(frozen=True, kw_only=True)
class FedMgda(AlgorithmConfig):
    """A direction that lowers every client's loss, near FedAvg's weights (FedMGDA+; Hu et al. 2022).

    epsilon: how far a client's weight may be from FedAvg's; 1 is any weight.
    server_step_size: length of a step where all clients agree, updates being normalised.
    """

    epsilon: float = number(0.1)
    server_step_size: float = number(0.1)

    def __post_init__(self) -> None:
        require(0 <= self.epsilon <= 1, f"algorithm.epsilon must be in [0, 1], got {self.epsilon}")
        require(
            0 <= self.server_step_size < inf,
            f"algorithm.server_step_size must be in [0, inf), got {self.server_step_size}",
        )


@dataclass(frozen=True, kw_only=True)
class Moon(AlgorithmConfig):
    """Representations drawn to the server's model's and away from the client's last model's (Li et al. 2021,
    Alg. 1).

    mu: strength, units of loss; 0 is FedAvg. temperature: of the softmax over both similarities.
    """

    mu: float = number(1.0)
    temperature: float = number(0.5)

    def __post_init__(self) -> None:
        require(0 <= self.mu < inf, f"algorithm.mu must be in [0, inf), got {self.mu}")
        require(
            0 < self.temperature < inf, f"algorithm.temperature must be in (0, inf), got {self.temperature}"
        )


MEMBERS: dict[str, type] = {
    "newton": Newton,
    "boosting": Boosting,
    "fednova": FedNova,
    "feddyn": FedDyn,
    "fedexp": FedExP,
    "qfedavg": QFedAvg,
    "fedsam": FedSam,
    "mime": Mime,
    "mimelite": MimeLite,
    "agnostic": Agnostic,
    "fedmgda": FedMgda,
    "moon": Moon,
}
