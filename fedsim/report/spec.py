"""What `tables.yaml` declares: tables, figures, and the words shown for values.

    labels: {fedavg: FedAvg, natural: natural split}
    tables:
      - name: pooled
        title: Pooled test AUROC by method and split
        rows: [algorithm]
        columns: [split]
        metrics: [auroc, brier]
        from: pooled
        where: {algorithm: [local, fedavg, pooled]}
        format: {auroc: .3f, brier: .4f}
        best: column
        band: 0.002
        published:
          - {where: {algorithm: pooled, metric: auroc}, value: 0.886, band: 0.01, source: Smith 2020}
    figures:
      - {name: gain, kind: gain, metric: auroc, baseline: local, where: {split: natural}}

A dimension is a choice of the sweep (algorithm, split, ...), the dotted path of an option in a run's
config.yaml, or one of `metric`, `set`, `aggregate`, `site`, `client`, `subgroup`, `gap`. A list under
`where` keeps those values and fixes their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import yaml

from fedsim.base import RequestError, build, require
from fedsim.metrics import direction
from fedsim.report.intervals import Ends, Method, OverSeeds

# Dimensions found inside a run; all others are choices of the sweep or options of the run.
NAMED = ("site", "client", "subgroup", "gap")  # levels with a row for each of several names
INSIDE = ("metric", "set", "aggregate", *NAMED, "round")
Kind = Literal["gain", "convergence", "against", "heat", "target", "calibration", "benefit", "wins", "size"]
# What is counted, not computed: the same on every device.
COUNTED = (
    *("n", "positives", "cohort", "bytes_up", "bytes_down", "aborted_rounds"),
    *("manifest.parameters", "manifest.rounds", "manifest.spent.bytes_up", "manifest.spent.bytes_down"),
    *("manifest.spent.wasted", "manifest.bytes_per_client_round.up", "manifest.bytes_per_client_round.down"),
)
Level = Literal["pooled", "mean", "weighted_mean", "worst", "site", "client", "subgroup", "gap"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that others report for one cell.

    where: the cell: a value for each of the table's rows and columns, and for `metric` if it has several.
    band: how far our mean may lie from `value` and still count as the same; spread: the standard
      deviation over seeds that came with it.
    source: where it is printed; `labels` may give the words for a short name.
    """

    where: dict[str, Any]
    value: float
    band: float
    spread: float | None = None
    source: str

    def __post_init__(self) -> None:
        require(self.band >= 0, f"published: band must be >= 0, got {self.band}")


@dataclass(frozen=True, kw_only=True)
class Over:
    """The last `rounds` evaluated rounds of a run, and what is taken of them; spread: their standard
    deviation."""

    rounds: int
    take: Literal["mean", "spread"] = "mean"

    def __post_init__(self) -> None:
        require(self.rounds >= 2, f"over: rounds must be >= 2, got {self.rounds}")


@dataclass(frozen=True, kw_only=True)
class Shapley:
    """over: the choice of the sweep whose labels are coalitions, members joined by `+`; empty: the metric
    without anyone, by definition: 0.5 for AUROC, which a model has that knows nothing."""

    over: str
    empty: float

    def __post_init__(self) -> None:
        require(isfinite(self.empty), f"shapley.empty must be a number, got {self.empty}")


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One table; `from` in YAML is `level` here.

    level: pooled predictions; an aggregate over clients; each site (the natural clients) or client; each
      subgroup of `evaluate.groups`, or the gap between those of a column.
    metrics: columns of rounds.parquet or clients.parquet, or `manifest.KEY` for a number there,
      `manifest.KEY.KEY` for one inside an entry.
    round: the last evaluated one, or a number; over: several of them instead.
    format: Python format, for all metrics or by metric.
    best: what is in bold: the best mean of each column, of each row, or nothing.
    mark: sign of a cell that lacks seeds.
    band: how far each seed's value may drift before `check` objects, for all metrics or by metric; null: 0
      for counts, such as bytes, which are the same on every device, and 0.01 for the rest.
    published: numbers of others, each with a band of its own; `check` never objects to these.
    reference: `{dimension: value}`; cells with another value of it show the difference to the one with this,
      paired by seed.
    interval: over seeds, by Student's t or the bootstrap; over patients, by the bootstrap of stored
      predictions (pooled or by client, at the last round); or over both. ends: of intervals over patients:
      percentiles of the draws, or corrected for bias and skewness (`fedsim.report.bca`).
    verdict: with a reference, `gains`, `loses` or `not shown` behind each difference, by its interval.
    strata: choices of the sweep over which a cell takes the mean, each value with equal weight; intervals
      then draw seeds again within each (interval: bootstrap).
    shapley: instead of values of coalitions, what each member brings; see `fedsim.report.shapley`.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...] = ()
    metrics: tuple[str, ...]
    level: Level = "pooled"
    where: dict[str, Any] = field(default_factory=dict)
    round: Literal["last"] | int = "last"
    over: Over | None = None
    format: str | dict[str, str] = ".3f"
    best: Literal["column", "row", "none"] = "column"
    mark: str = "†"
    interval: Method = "t"
    ends: Ends = "percentile"
    band: float | dict[str, float] | None = None
    published: tuple[Published, ...] = ()
    reference: dict[str, Any] = field(default_factory=dict)
    verdict: bool = False
    strata: tuple[str, ...] = ()
    shapley: Shapley | None = None

    def __post_init__(self) -> None:
        require(self.rows, f"table {self.name}: rows must name at least one dimension")
        require(self.metrics, f"table {self.name}: metrics must name at least one metric")
        twice = {d for d in self.rows + self.columns if (self.rows + self.columns).count(d) > 1}
        require(not twice, f"table {self.name}: {', '.join(sorted(twice))} is given twice; name it once")
        require(
            self.over is None or self.round == "last",
            f"table {self.name}: over takes the last rounds, and round names one; leave one of them out",
        )
        require(
            len(self.reference) < 2 and self.reference.keys() <= {*self.rows, *self.columns} - {"metric"},
            f"table {self.name}: reference names one value of one row or column, got {self.reference}",
        )
        aimless = [metric for metric in self.metrics if self.verdict and direction(metric) is None]
        require(
            not self.verdict or (self.reference and not aimless),
            f"table {self.name}: verdict needs a reference, and metrics of which more or less is better, got "
            f"{', '.join(aimless) or 'no reference'}; leave out one or the other",
        )
        inside = {*self.strata} & {*INSIDE, "seed", *self.rows, *self.columns}
        require(
            not inside,
            f"table {self.name}: strata are choices of the sweep beside rows and columns, "
            f"got {', '.join(sorted(inside))}; leave it out",
        )
        require(
            not self.strata or self.interval == "bootstrap",
            f"table {self.name}: a mean over strata needs interval: bootstrap, got {self.interval}",
        )
        require(
            self.shapley is None or self.shapley.over in {*self.rows, *self.columns} - {*INSIDE},
            f"table {self.name}: shapley.over is a choice of the sweep among rows or columns, "
            f"got {self.shapley.over if self.shapley else None}",
        )
        require(
            self.shapley is None
            or (self.interval in ("t", "bootstrap") and not (self.over or self.strata or self.reference)),
            f"table {self.name}: shapley takes interval: t or bootstrap, and no over, strata or reference; "
            "leave these out",
        )
        require(
            self.ends == "percentile" or self.interval == "patients",
            f"table {self.name}: ends={self.ends} are of interval: patients, got interval={self.interval}; "
            "set ends: percentile",
        )
        over_patients = self.interval in ("patients", "both")
        require(
            not over_patients
            or (self.level in ("pooled", "client") and self.round == "last" and not self.over),
            f"table {self.name}: interval={self.interval} draws stored predictions again, which are of the "
            "last round; use from: pooled or client, without round and over, or interval: t",
        )
        for metric in self.metrics:
            try:
                self.show(metric, 0.5)
            except ValueError:
                require(False, f"table {self.name}: format {self.format!r} is not a format; write .3f")
            require(self.allowed(metric) >= 0, f"table {self.name}: band must be >= 0, got {self.band!r}")

    def show(self, metric: str, value: float) -> str:
        style = self.format.get(metric, ".3f") if isinstance(self.format, dict) else self.format
        return format(value, style).replace("-", "−")

    def allowed(self, metric: str) -> float:
        """How far a seed's value may drift: 0 for counts unless said otherwise."""
        usual = 0.0 if metric in COUNTED else 0.01
        if isinstance(self.band, dict):
            return float(self.band.get(metric, usual))
        return usual if self.band is None else float(self.band)


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """One figure.

    kind: `gain`: what each site gains over the `baseline` method, paired by seed; `convergence`: a
      metric by round; `against`: a metric by the values of the dimension `x`, a panel per site; `heat`: a
      metric by `by` and `x`, or `metrics` by `by`; `target`: what it takes to reach `target`;
      `calibration`: shares of positives by predicted probability, in `bins` and smooth; `benefit`: net
      benefit by the probability from which on one acts, up to `most`; `wins`: how often each method is
      better than each other; `size`: `gain` by the site's number of test rows.
    by: the dimension that is told apart by colour, or stands down the page.
    level: as in a table; null: `site` for gain and size, else `pooled`.
    interval: as in a table; over patients of gain and size alone, from client.
    """

    name: str
    kind: Kind
    metric: str = "auroc"
    metrics: tuple[str, ...] = ()
    by: str = "algorithm"
    x: str | None = None
    baseline: str = "local"
    target: float | None = None
    bins: int = 10
    most: float = 0.5
    level: Level | None = None
    where: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    interval: Method = "t"

    def __post_init__(self) -> None:
        one, several = NAMED, ("pooled", "mean", "weighted_mean", "worst")
        allowed: tuple[str, ...] = one + several
        if self.kind in ("gain", "size", "convergence", "target", "calibration", "benefit"):
            stored = ("pooled",)
            allowed = {"gain": one, "size": one, "calibration": stored, "benefit": stored}.get(
                self.kind, several
            )
        if self.kind == "heat":
            require(
                (self.x is not None) != bool(self.metrics),
                f"figure {self.name}: a heat map stands on x or on several metrics, got x={self.x} and "
                f"{len(self.metrics)} metrics; set one of them",
            )
        else:
            require(
                (self.x is not None) == (self.kind == "against"),
                f"figure {self.name}: x is the dimension of kind=against, got x={self.x} with "
                f"kind={self.kind}; set both or neither",
            )
            require(not self.metrics, f"figure {self.name}: metrics are for kind=heat; name one as metric")
        require(
            (self.target is not None) == (self.kind == "target"),
            f"figure {self.name}: target is the value that kind=target waits for, got target={self.target} "
            f"with kind={self.kind}; set both or neither",
        )
        require(
            self.interval in ("t", "bootstrap") or (self.kind in ("gain", "size") and self.level == "client"),
            f"figure {self.name}: interval={self.interval} draws the predictions of clients again, got "
            f"kind={self.kind} from {self.source}; use kind: gain or size with from: client, or interval: t",
        )
        require(0 < self.most < 1, f"figure {self.name}: most must be in (0, 1), got {self.most}")
        require(2 <= self.bins <= 100, f"figure {self.name}: bins must be in 2 to 100, got {self.bins}")
        require(
            self.level is None or self.level in allowed,
            f"figure {self.name}: from must be one of {', '.join(allowed)}, got {self.level}",
        )

    @property
    def over_seeds(self) -> OverSeeds:
        """`interval`, of kinds that take no other."""
        assert self.interval == "t" or self.interval == "bootstrap"
        return self.interval

    @property
    def source(self) -> Level:
        return self.level or ("site" if self.kind in ("gain", "size") else "pooled")

    @property
    def columns(self) -> set[str]:
        """What it takes of the rows."""
        more = {"gain": ("n",), "size": ("n",), "target": ("bytes_up", "bytes_down", "simulated_seconds")}
        return {*(self.metrics or (self.metric,)), *more.get(self.kind, ())}


@dataclass(frozen=True, kw_only=True)
class ReportSpec:
    """labels: the words shown for a dimension, a value or a metric."""

    tables: tuple[TableSpec, ...] = ()
    figures: tuple[FigureSpec, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, names in (
            ("tables", [t.name for t in self.tables]),
            ("figures", [f.name for f in self.figures]),
        ):
            for name in names:
                require(names.count(name) == 1, f"{kind}: the name {name!r} is used twice; rename one")
                require(
                    name == Path(name).name and name not in ("", ".", ".."),
                    f"{kind}: the name {name!r} is a path; use letters, digits, - and _",
                )


def load(path: Path) -> ReportSpec:
    """Read a tables.yaml.

    Raises:
      RequestError: no such file, no YAML, an unknown option or a value out of range.
    """
    require(path.is_file(), f"{path} does not exist; declare tables there")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 text (byte {error.start}); save it as that") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        require(False, f"{path}{line}: not YAML: {getattr(error, 'problem', error)}; correct it there")
    return parse(values or {})


def parse(values: Any) -> ReportSpec:
    """Check plain data as read from a tables.yaml. Raises RequestError as `load` does."""
    require(isinstance(values, dict), f"tables.yaml must be a mapping, got {values!r}")
    plain = dict(values)
    for kind in ("tables", "figures"):
        if isinstance(plain.get(kind), list):
            plain[kind] = [_item(item) for item in plain[kind]]
    return build(ReportSpec, plain)


def _item(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    # `from` is a keyword of Python and cannot be a field.
    item = {"level" if key == "from" else key: value for key, value in item.items()}
    for key in ("rows", "columns", "metrics", "strata"):
        if isinstance(item.get(key), str):
            item[key] = [item[key]]
    return item
