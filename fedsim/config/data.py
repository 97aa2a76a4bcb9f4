"""Where rows come from, and how they are prepared."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from fedsim.base import Choice, require


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Imputation and standardisation, fitted on training rows only.

    impute: what is put where a value is missing; `none`: nothing, and a missing value is an error; `keep`:
      nothing, and missing values reach the model, which must be task=trees.
    scope: whose training rows the constants come from: `federated` (sums and counts over clients,
      exact), `client` (each client its own) or `pooled` (all rows in one place).
    judged: whose constants prepare the rows that judge a model; `same`: those it was trained with. The
      others repeat published tables that were made with a mismatch.
    noise_multiplier: deviation of the noise on the sums that the constants are made of, in units of the most
      that one record (patient, client: whom `privacy` protects) adds to them; null: none.
    ranges: feature -> [least, greatest]: what is known of its values without looking at these; with noise
      they are clipped to it. range: of the features not in `ranges`; one-hot features have [0, 1].
    """

    impute: Literal["mean", "median", "zero", "none", "keep"] = "mean"
    standardise: bool = True
    scope: Literal["federated", "client", "pooled"] = "federated"
    judged: Literal["same", "federated", "client"] = "same"
    noise_multiplier: float | None = None
    range: tuple[float, ...] | None = None
    ranges: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.range is not None:
            _check_range("range", self.range)
        for name, limits in self.ranges.items():
            _check_range(f"ranges.{name}", limits)
        noise = self.noise_multiplier
        if noise is None:
            return
        where = f"data.preprocess.noise_multiplier={noise:g}"
        require(0 < noise < inf, f"data.preprocess.noise_multiplier must be in (0, inf), got {noise}")
        require(
            self.impute != "keep",
            f"{where} takes no rows with missing values into its sums; set data.preprocess.impute=mean",
        )
        require(
            self.impute != "median",
            f"{where} needs sums, and data.preprocess.impute=median takes 33 rounds of counts, each of which "
            "would have to be noised and paid for; set data.preprocess.impute=mean",
        )
        require(
            self.scope == "federated" and self.judged != "client",
            f"{where} is noise on what regions send, and data.preprocess.scope={self.scope} with "
            f"data.preprocess.judged={self.judged} uses rows as they are; set "
            "data.preprocess.scope=federated and data.preprocess.judged=same",
        )

    @property
    def noised(self) -> bool:
        """Whether there are sums, and noise on them."""
        return self.noise_multiplier is not None and (self.impute == "mean" or self.standardise)


def _check_range(name: str, limits: Any) -> None:
    right = isinstance(limits, list | tuple) and len(limits) == 2
    right = right and all(isinstance(v, int | float) and -inf < v < inf for v in limits)
    require(
        right and limits[0] < limits[1],
        f"data.preprocess.{name} must be two numbers, the least and the greatest value, got {limits!r}; "
        f"write data.preprocess.{name}=[0, 1]",
    )


NO_PREPROCESS = Preprocess(impute="none", standardise=False)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Choice):
    """What every source has.

    mode: where rows lie while training; those that a source has give the same bits, but for heart_failure,
      whose generated rows are data of their own.
    """

    mode: Literal["resident", "streamed", "generated"] = "resident"
    preprocess: Preprocess = field(default_factory=Preprocess)


def check_time(kind: str, timed: bool, how: str) -> None:
    """Labels are times to an event exactly where times are given."""
    require(timed or kind != "survival", f"data.kind=survival needs the times of the events; set {how}")
    require(
        not timed or kind in ("auto", "survival"),
        f"with times the label is an event, 1 or 0 (data.kind=survival), and data.kind={kind} asks for "
        "something else; leave one of the two out",
    )


@dataclass(frozen=True, kw_only=True)
class HeartDisease(DataConfig):
    """UCI heart disease, four hospitals. path: a folder with UCI's four processed.*.data files.

    variant: all rows and predictors, or FLamby's 740 complete rows of 10 predictors.
    """

    path: str | None = None
    variant: Literal["full", "flamby"] = "full"


@dataclass(frozen=True, kw_only=True)
class TcgaBrca(DataConfig):
    """Fed-TCGA-BRCA, six regions. path: a folder with FLamby's brca.csv and train_test_split.csv."""

    path: str
    preprocess: Preprocess = NO_PREPROCESS


@dataclass(frozen=True, kw_only=True)
class Diabetes130(DataConfig):
    """Admissions of patients with diabetes in 130 US hospitals. path: a folder with UCI's diabetic_data.csv.

    clients: specialty of the admitting physician, or source of admission; the table names no hospital.
    min_rows: clients with fewer rows are one, `other`.
    heart_failure_only: admissions with ICD-9 428 among the three diagnoses.
    encounters: the first admission of each patient (of those with heart failure, if only these), as in the
      original study, or all; then split.unit=patient keeps a patient's together.
    exclude_deaths: without those who died or went to a hospice, who cannot be readmitted.
    """

    path: str
    clients: Literal["specialty", "admission_source"] = "specialty"
    min_rows: int = 100
    outcome: Literal["readmission_30", "readmission_any", "length_of_stay"] = "readmission_30"
    heart_failure_only: bool = False
    encounters: Literal["first", "all"] = "first"
    exclude_deaths: bool = True
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(impute="none"))

    def __post_init__(self) -> None:
        require(self.min_rows >= 1, f"data.min_rows must be >= 1, got {self.min_rows}")


@dataclass(frozen=True, kw_only=True)
class Support2(DataConfig):
    """Seriously ill adults, by disease. path: a folder with support2.csv.

    clients: the eight disease groups, or the four classes of these.
    impute_normal: fill seven laboratory values with the normal ones that the originators recommend;
      `preprocess` fills what is left.
    features: columns of the table; empty: all that are known by the third day.
    """

    path: str
    clients: Literal["group", "class"] = "group"
    outcome: Literal["death_180", "hospital_death", "survival", "length_of_stay", "cost"] = "death_180"
    impute_normal: bool = False
    features: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SepsisNorway(DataConfig):
    """Admissions with sepsis in Norway. path: a folder with the primary and the study cohort.

    cohort: all admissions, those that meet Sepsis-3, or both: these outside, the others to train on.
    """

    path: str
    cohort: Literal["primary", "study", "both"] = "primary"
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(impute="none"))


@dataclass(frozen=True, kw_only=True)
class Table(DataConfig):
    """Your CSV or Parquet file. Columns not named here are features.

    patient: column that says whose a row is, where patients have several, for privacy.unit=patient.
    label: column of what is predicted. time: column of the time to the event; event: column that then says
      whether it happened, 1 or 0 (censored): another name for the label.
    calendar: column of when a row was recorded, a date or a number, for split=temporal.
    keep: columns that no model sees unless `features` names them, for subgroups (evaluate.groups).
    categorical: columns to one-hot encode though they hold numbers (text columns always are).
    external: clients kept out of training, for outside validation.
    """

    path: str
    client: str
    label: str | None = None
    patient: str | None = None
    time: str | None = None
    event: str | None = None
    weight: str | None = None
    calendar: str | None = None
    keep: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    external: tuple[str, ...] | str = ()
    delimiter: str = ","
    kind: Literal["auto", "binary", "multiclass", "regression", "survival"] = "auto"

    def __post_init__(self) -> None:
        check_time(self.kind, self.time is not None, "data.time=COLUMN")
        require(
            self.event is None or self.time is not None,
            f"data.event={self.event} says whether something happened, and not when; set data.time=COLUMN, "
            "or name the column with data.label",
        )
        require(
            self.event is None or self.label in (None, self.event),
            f"data.event={self.event} and data.label={self.label} are two names for one thing, and differ; "
            "leave one of them out",
        )

    @property
    def target(self) -> str | None:
        """The column of the label."""
        return self.label if self.event is None else self.event


@dataclass(frozen=True, kw_only=True)
class Arrays(DataConfig):
    """An npz with x [rows, ...], y [rows], offsets [clients + 1] and, optionally, names [clients] and
    time [rows], which makes y the event."""

    path: str
    kind: Literal["auto", "binary", "multiclass", "regression", "survival"] = "auto"
    preprocess: Preprocess = NO_PREPROCESS


@dataclass(frozen=True, kw_only=True)
class Digits(DataConfig):
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, cut into `clients` IID clients."""

    clients: int = 10
    preprocess: Preprocess = NO_PREPROCESS

    def __post_init__(self) -> None:
        require(1 <= self.clients <= 1797, f"data.clients must be in [1, 1797], got {self.clients}")


@dataclass(frozen=True, kw_only=True)
class Idx(DataConfig):
    """MNIST, Fashion-MNIST and the like: a folder of idx files, plain or .gz, cut into `clients` IID
    clients."""

    path: str
    clients: int = 10
    preprocess: Preprocess = NO_PREPROCESS

    def __post_init__(self) -> None:
        require(self.clients >= 1, f"data.clients must be >= 1, got {self.clients}")


@dataclass(frozen=True, kw_only=True)
class Synthetic(DataConfig):
    """synthetic(alpha, beta) of Li et al. 2020 (FedProx), section 5.1: 60 features, 10 classes."""

    alpha: float = 1.0
    beta: float = 1.0
    iid: bool = False
    clients: int = 30
    seed: int = 0
    preprocess: Preprocess = NO_PREPROCESS

    def __post_init__(self) -> None:
        require(self.alpha >= 0, f"data.alpha must be >= 0, got {self.alpha}")
        require(self.beta >= 0, f"data.beta must be >= 0, got {self.beta}")
        require(self.clients >= 1, f"data.clients must be >= 1, got {self.clients}")


@dataclass(frozen=True, kw_only=True)
class Blobs(DataConfig):
    """Gaussian blobs, one per class, for any number of clients; rows follow from the client's key.

    rows_min, rows_max: rows per client, drawn uniformly when `skew` is 0; a positive `skew` is the
      exponent of a power law over the same range (larger: fewer large clients).
    shape: shape of one row's features; dtype uint8 makes pictures.
    test_rows: rows of the external client `holdout`, a test set for all; 0 for none.
    """

    clients: int = 100
    rows_min: int = 20
    rows_max: int = 100
    skew: float = 0.0
    shape: tuple[int, ...] = (10,)
    classes: int = 2
    separation: float = 1.0
    dtype: Literal["float32", "uint8"] = "float32"
    seed: int = 0
    test_rows: int = 1000
    preprocess: Preprocess = NO_PREPROCESS

    def __post_init__(self) -> None:
        require(self.clients >= 1, f"data.clients must be >= 1, got {self.clients}")
        require(
            1 <= self.rows_min <= self.rows_max,
            f"data.rows_min must be in [1, data.rows_max={self.rows_max}], got {self.rows_min}",
        )
        require(self.classes >= 2, f"data.classes must be >= 2, got {self.classes}")
        require(self.skew >= 0, f"data.skew must be >= 0, got {self.skew}")
        require(self.test_rows >= 0, f"data.test_rows must be >= 0, got {self.test_rows}")
        require(all(s >= 1 for s in self.shape), f"data.shape must be positive, got {list(self.shape)}")


MEMBERS: dict[str, type] = {
    "heart_disease": HeartDisease,
    "tcga_brca": TcgaBrca,
    "diabetes_130": Diabetes130,
    "support2": Support2,
    "sepsis_norway": SepsisNorway,
    "table": Table,
    "arrays": Arrays,
    "digits": Digits,
    "idx": Idx,
    "synthetic": Synthetic,
    "blobs": Blobs,
}
