"""Which client holds which row, and what is held out."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from fedsim.base import Choice, require


@dataclass(frozen=True, kw_only=True)
class SplitConfig(Choice):
    """Who holds which rows, and which of them train, validate and test.

    valid, test: shares of each client's rows, stratified by label.
    folds: k > 1 makes a run one repeat of stratified k-fold cross-validation (every row is tested
      once); leave_one_out: one fold per client, tested on all its rows and trained on the others.
    late: share of the clients that join when training is over: drawn by seed, at least one and never
      all. They have no part in training, and are judged on their test rows, in a set of their own.
    unit: what is dealt to training, validation, test rows and folds: rows, or patients with all their rows,
      wherever these lie; then nobody trains who is tested, and shares are of patients.
    """

    clients: int | None = None
    valid: float = 0.0
    test: float = 0.2
    folds: int = 0
    leave_one_out: bool = False
    late: float = 0.0
    unit: Literal["record", "patient"] = "record"

    def __post_init__(self) -> None:
        require(0 <= self.valid < 1, f"split.valid must be in [0, 1), got {self.valid}")
        require(0 <= self.test < 1, f"split.test must be in [0, 1), got {self.test}")
        require(
            self.folds > 1 or self.valid + self.test < 1,
            f"split.valid + split.test must be below 1, got {self.valid + self.test}",
        )
        require(self.folds == 0 or self.folds >= 2, f"split.folds must be 0 or >= 2, got {self.folds}")
        require(
            not (self.folds and self.leave_one_out),
            "split.folds and split.leave_one_out exclude each other; set split.folds=0",
        )
        require(self.clients is None or self.clients >= 1, f"split.clients must be >= 1, got {self.clients}")
        require(0 <= self.late < 1, f"split.late must be in [0, 1), got {self.late}")
        require(
            not self.late or self.test > 0 or self.folds > 1,
            "split.late judges clients that join late on their test rows, and split.test=0 leaves none; "
            "raise split.test, or set split.folds",
        )
        require(
            not (self.late and self.leave_one_out),
            "split.late and split.leave_one_out exclude each other: a client that is left out has no "
            "training rows to join with; set split.late=0",
        )


@dataclass(frozen=True, kw_only=True)
class GradedSplit(SplitConfig):
    """A split whose strength one number can set.

    severity: from 0, IID, to 1; null: the split's own options hold. It wins over the option that it
      sets, which each split names. Where labels are skewed, the option is searched until `label_js`
      (`fedsim.data.heterogeneity`) is this share of the largest that the labels allow, every label
      whole at one client and clients as distinct as they can be: so 0.5 is as skewed in one such split
      as in another. A split that cannot reach it comes as close as it can.
    """

    severity: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.severity is None or 0 <= self.severity <= 1,
            f"split.severity must be in [0, 1], or null, got {self.severity}",
        )


@dataclass(frozen=True, kw_only=True)
class Natural(SplitConfig):
    """Each row stays with the client it came from."""


@dataclass(frozen=True, kw_only=True)
class Published(SplitConfig):
    """Each row stays with the client it came from; the test rows are those that the source's publishers
    test on, and split.test does not matter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.folds and not self.leave_one_out,
            "split=published tests the published rows, so split.folds must be 0 and split.leave_one_out "
            "false; use split=natural for these",
        )


@dataclass(frozen=True, kw_only=True)
class Temporal(SplitConfig):
    """Each row stays with the client it came from, and is tested if it was recorded late.

    cut: rows from this moment on are tested, earlier ones train: a date, or a number where the source's
      calendar is one; split.test does not matter then. null: each client's latest `split.test` of its rows,
      but none that was recorded at the same time as one that trains.
    """

    cut: float | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.folds and not self.leave_one_out,
            "split=temporal tests the latest rows, so split.folds must be 0 and split.leave_one_out false; "
            "use split=natural for these",
        )


@dataclass(frozen=True, kw_only=True)
class Iid(SplitConfig):
    """Rows dealt at random, in equal shares; `clients` defaults to the natural number."""


@dataclass(frozen=True, kw_only=True)
class Dirichlet(GradedSplit):
    """Label skew: each label's rows are dealt in Dirichlet(alpha) shares (Hsu et al. 2019).

    severity: sets alpha; a client short of min_rows is then given rows of one label, where otherwise
      the shares are drawn again.
    """

    alpha: float = 0.3
    min_rows: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.alpha < inf, f"split.alpha must be in (0, inf), got {self.alpha}")
        require(self.min_rows >= 0, f"split.min_rows must be >= 0, got {self.min_rows}")


@dataclass(frozen=True, kw_only=True)
class Shards(GradedSplit):
    """Rows sorted by label, cut into shards, `shards` of them to each client (McMahan et al. 2017).

    severity: sets shards, to the whole number that comes closest.
    """

    shards: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.shards >= 1, f"split.shards must be >= 1, got {self.shards}")


@dataclass(frozen=True, kw_only=True)
class Quantity(GradedSplit):
    """Sizes differ, labels do not: client shares from Dirichlet(alpha), rank ** -exponent, or listed.

    shares: with law=listed, a number for each client, such as the populations of regions.

    severity: sets alpha or exponent, so that the Gini coefficient of the sizes is this share of the
      largest, which all rows beyond min_rows at one client have.
    """

    law: Literal["dirichlet", "power", "listed"] = "dirichlet"
    alpha: float = 0.5
    exponent: float = 1.0
    min_rows: int = 1
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.alpha < inf, f"split.alpha must be in (0, inf), got {self.alpha}")
        require(0 <= self.exponent < inf, f"split.exponent must be in [0, inf), got {self.exponent}")
        require(self.min_rows >= 0, f"split.min_rows must be >= 0, got {self.min_rows}")
        require(
            (self.law == "listed") == bool(self.shares),
            "split.law=listed needs split.shares, a number for each client, and with no other law, got "
            f"split.law={self.law} with split.shares={list(self.shares)}; set both or none",
        )
        require(
            all(0 < share < inf for share in self.shares),
            f"split.shares must be in (0, inf), got {list(self.shares)}",
        )
        require(
            self.severity is None or self.law != "listed",
            "split.severity sets how unequal sizes are, and split.law=listed has them; leave one out",
        )
        require(
            not self.shares or self.clients in (None, len(self.shares)),
            f"split.shares has {len(self.shares)} numbers, and split.clients={self.clients}; leave "
            "split.clients out, or give as many",
        )


@dataclass(frozen=True, kw_only=True)
class DirichletClient(GradedSplit):
    """Label skew at equal sizes: each client's label distribution from Dirichlet(alpha * prior).

    alpha: concentration, the sum of the Dirichlet's parameters (Hsu et al. 2019); the prior is the
      labels' frequencies. severity: sets alpha.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.alpha < inf, f"split.alpha must be in (0, inf), got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class Classes(GradedSplit):
    """Label skew: each client holds `classes` labels (Li et al. 2022, NIID-Bench, #C=k).

    severity: sets classes, to the whole number that comes closest.
    """

    classes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.classes >= 1, f"split.classes must be >= 1, got {self.classes}")


@dataclass(frozen=True, kw_only=True)
class QuantityLabel(GradedSplit):
    """Sizes and labels differ: sizes by `law`, each client's labels from Dirichlet(alpha * prior).

    law, exponent, size_alpha, min_rows: sizes, as in `quantity`; alpha: labels, as in
      `dirichlet_client`. severity: sets alpha; sizes keep their law.
    """

    law: Literal["dirichlet", "power"] = "power"
    exponent: float = 1.0
    size_alpha: float = 0.5
    alpha: float = 1.0
    min_rows: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.exponent < inf, f"split.exponent must be in [0, inf), got {self.exponent}")
        require(0 < self.size_alpha < inf, f"split.size_alpha must be in (0, inf), got {self.size_alpha}")
        require(0 < self.alpha < inf, f"split.alpha must be in (0, inf), got {self.alpha}")
        require(self.min_rows >= 0, f"split.min_rows must be >= 0, got {self.min_rows}")


@dataclass(frozen=True, kw_only=True)
class Prevalence(GradedSplit):
    """Prevalence shift of a binary label at equal sizes and the same features given the label.

    spread: standard deviation between clients of the log odds of label 1. severity: sets spread.
    """

    spread: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.spread < inf, f"split.spread must be in [0, inf), got {self.spread}")


@dataclass(frozen=True, kw_only=True)
class Groups(GradedSplit):
    """Correlated clients: a group's label distribution from Dirichlet(between * prior), its clients'
    from Dirichlet(within * the group's).

    severity: sets between; above between = 1, within grows in proportion. Few groups, or some that
      drew the same labels, cannot be as skewed as clients of their own.
    """

    groups: int = 3
    between: float = 0.5
    within: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.groups >= 1, f"split.groups must be >= 1, got {self.groups}")
        require(0 < self.between < inf, f"split.between must be in (0, inf), got {self.between}")
        require(0 < self.within < inf, f"split.within must be in (0, inf), got {self.within}")


MEMBERS: dict[str, type] = {
    "natural": Natural,
    "published": Published,
    "temporal": Temporal,
    "iid": Iid,
    "dirichlet": Dirichlet,
    "shards": Shards,
    "quantity": Quantity,
    "dirichlet_client": DirichletClient,
    "classes": Classes,
    "quantity_label": QuantityLabel,
    "prevalence": Prevalence,
    "groups": Groups,
}
