"""Who takes part in a round, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedsim.base import Choice, require


@dataclass(frozen=True, kw_only=True)
class WorldConfig(Choice):
    """Who takes part.

    staleness: a client may start from the model of up to this many rounds ago, drawn uniformly by
      client and round.
    dropout: probability that a chosen client is lost: nothing of it arrives, and what it keeps is as
      before. dropout_when: before it has done anything, or during its local steps, of which it has then
      done a uniform number, at least one. What is learned is the same; what is spent is not.
    stragglers: share of the chosen clients, drawn anew each round, that cannot finish in time; of their
      local steps they have done a uniform number, at least one, when time is up (Li et al., FedProx,
      MLSys 2020, section 5.2). late: what they have is taken, or they are dropped.
    """

    staleness: int = 0
    dropout: float = 0.0
    dropout_when: Literal["before", "during"] = "before"
    stragglers: float = 0.0
    late: Literal["partial", "dropped"] = "partial"

    def __post_init__(self) -> None:
        require(self.staleness >= 0, f"world.staleness must be >= 0, got {self.staleness}")
        require(0 <= self.dropout < 1, f"world.dropout must be in [0, 1), got {self.dropout}")
        require(0 <= self.stragglers <= 1, f"world.stragglers must be in [0, 1], got {self.stragglers}")


@dataclass(frozen=True, kw_only=True)
class All(WorldConfig):
    """Every client, every round."""


@dataclass(frozen=True, kw_only=True)
class _Cohort(WorldConfig):
    cohort: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.cohort >= 1, f"world.cohort must be >= 1, got {self.cohort}")


@dataclass(frozen=True, kw_only=True)
class Uniform(_Cohort):
    """`cohort` clients a round, uniformly without replacement."""


@dataclass(frozen=True, kw_only=True)
class BySize(_Cohort):
    """`cohort` clients a round without replacement, drawn one by one in proportion to their rows."""


@dataclass(frozen=True, kw_only=True)
class Poisson(WorldConfig):
    """Each client on its own with probability `rate`."""

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.rate <= 1, f"world.rate must be in (0, 1], got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Cyclic(WorldConfig):
    """One client a round, in turn: with algorithm=fedavg, cyclic weight transfer (Chang et al. 2018).

    order: the same order always, or a new random one in every cycle.
    """

    order: Literal["fixed", "shuffled"] = "fixed"


@dataclass(frozen=True, kw_only=True)
class Blocks(WorldConfig):
    """Clients are dealt into `blocks` blocks, by the seed, and these take turns: of the block whose turn it
    is, each client takes part on its own with probability `rate`. So a client's turns are `blocks` rounds
    apart (Choquette-Choo et al., NeurIPS 2023, Alg. 2)."""

    blocks: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.blocks >= 1, f"world.blocks must be >= 1, got {self.blocks}")
        require(0 < self.rate <= 1, f"world.rate must be in (0, 1], got {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Fixed(WorldConfig):
    """The same clients in every round, by their places (from 0) in name order among those with training
    rows. One alone is trained at home and judged everywhere."""

    clients: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            len(self.clients) > 0 and list(self.clients) == sorted({*self.clients}) and self.clients[0] >= 0,
            f"world.clients must be rising places from 0, at least one, got {list(self.clients)}",
        )


@dataclass(frozen=True, kw_only=True)
class Diurnal(_Cohort):
    """Up to `cohort` of the clients that are awake. Each is awake for `share` of every `period` rounds,
    from a time of day of its own."""

    period: int = 24
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.period >= 1, f"world.period must be >= 1, got {self.period}")
        require(0 < self.share <= 1, f"world.share must be in (0, 1], got {self.share}")


@dataclass(frozen=True, kw_only=True)
class Markov(_Cohort):
    """Up to `cohort` of the clients that are there. Each comes and goes by itself: one that is there
    leaves with probability `leave` a round, one that is away returns with probability `come`."""

    leave: float = 0.1
    come: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.leave <= 1, f"world.leave must be in [0, 1], got {self.leave}")
        require(0 < self.come <= 1, f"world.come must be in (0, 1], got {self.come}")


@dataclass(frozen=True, kw_only=True)
class Trace(_Cohort):
    """Up to `cohort` of the clients that are available, as a file says.

    path: a CSV file with the columns client (its name, or its number in the order of names, from 0), from
      and to: available in rounds from, ..., to - 1, counted from 0.
    """

    path: str


@dataclass(frozen=True, kw_only=True)
class PowerOfChoice(_Cohort):
    """Of `candidates` clients, drawn in proportion to their rows, the `cohort` on whose training rows the
    model's loss is highest (Cho, Wang, Joshi, AISTATS 2022, pow-d).

    estimate: that loss is taken over all of a candidate's training rows, or over a batch of them, of
      optimizer.batch_size rows (cpow-d).
    """

    candidates: int
    estimate: Literal["full", "batch"] = "full"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.candidates >= self.cohort,
            f"world.candidates must be >= world.cohort={self.cohort}, who are chosen among them, got "
            f"{self.candidates}",
        )
        require(
            self.staleness == 0,
            f"world.staleness={self.staleness}, but world=power_of_choice sends the current model to all "
            "candidates; set world.staleness=0",
        )


@dataclass(frozen=True, kw_only=True)
class Asynchronous(WorldConfig):
    """No rounds: `concurrency` clients are at work at any time, and the server takes a step when `buffer`
    messages have come, on a virtual clock that `system` drives (Nguyen et al., FedBuff, AISTATS 2022).

    staleness: server steps that a message may be old; older ones are thrown away, and counted.
    """

    concurrency: int
    buffer: int
    staleness: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.concurrency >= 1, f"world.concurrency must be >= 1, got {self.concurrency}")
        require(self.buffer >= 1, f"world.buffer must be >= 1, got {self.buffer}")
        require(
            self.dropout == 0 and self.stragglers == 0,
            "world.dropout and world.stragglers are about rounds, and world=asynchronous has none; "
            f"set both to 0, got {self.dropout} and {self.stragglers}",
        )


MEMBERS: dict[str, type] = {
    "asynchronous": Asynchronous,
    "all": All,
    "uniform": Uniform,
    "by_size": BySize,
    "poisson": Poisson,
    "cyclic": Cyclic,
    "blocks": Blocks,
    "fixed": Fixed,
    "diurnal": Diurnal,
    "markov": Markov,
    "trace": Trace,
    "power_of_choice": PowerOfChoice,
}
