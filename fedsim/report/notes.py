"""What stands below a table: what its numbers are, which are missing, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedsim.metrics import TARGET, direction
from fedsim.report import few
from fedsim.report.intervals import STRATIFIED, described
from fedsim.report.over import note
from fedsim.report.published import OUTSIDE, WITHIN, Comparison
from fedsim.report.rows import Key, Rows, redrawn
from fedsim.report.spec import Published, TableSpec
from fedsim.report.words import say

if TYPE_CHECKING:
    from fedsim.report.table import Cell

DIVERGED = "‡"
NAMED = 3  # cells without runs


def notes(
    rows: Rows,
    spec: TableSpec,
    labels: Mapping[str, str],
    cells: Sequence[Sequence[Cell]],
    row_keys: Sequence[Key],
    column_keys: Sequence[Key],
    counts: set[int],
) -> list[str]:
    """What the numbers are, and what is missing, undefined or diverged."""

    def place(i: int, j: int) -> str:
        """The cell's labels; of several metrics, which stand or fall together, all but the name."""
        return ", ".join(say(v, labels) for v in row_keys[i] + column_keys[j] if v not in spec.metrics)

    def listed(say_cell: Any) -> str:
        texts = {
            place(i, j): text
            for i, row in enumerate(cells)
            for j, c in enumerate(row)
            if (text := say_cell(c))
        }
        return "; ".join(f"{where}: {text}" for where, text in texts.items())

    most = max(counts, default=0)
    number = f"{most} seed{'s' if most != 1 else ''}"
    if spec.strata:
        number = f"{most} runs"
    how = STRATIFIED if spec.strata else described(spec.interval, spec.ends)
    number = f"up to {number} (the count in round brackets)" if len(counts) > 1 else number
    again = "the training, on the same split" if _one_split(rows, spec) else "the split and the training"
    luck = f"Seeds repeat {again}"
    whose = "the interval is not one over new patients"
    if redrawn(rows.chosen(spec.where)):
        luck = "Each seed draws new patients, splits them and trains on them"
        whose = "the interval is one over new patients, too"
    found = [
        f"Mean over {number} and 95 % interval ({how}). {luck}; {whose}."
        if most > 1
        else "One seed: no interval."
    ]
    if spec.interval in ("patients", "both"):
        seeds = f"{luck}." if spec.interval == "both" else "Models are what they are."
        found = [f"Mean over {number} and 95 % interval ({how}). {seeds}"]
    if spec.strata:
        among = ", ".join(say(d, labels) for d in spec.strata)
        found.append(f"Every value of {among} counts the same in a mean.")
    if any(c.cut for row in cells for c in row):
        found.append("Intervals are cut where the metric ends: with so few seeds they reach beyond.")
    if spec.over:
        found.append(note(spec.over))
        if spec.over.take == "spread":
            return found + _gaps(rows, spec, cells, listed)
    up = [say(m, labels) for m in spec.metrics if direction(m) is True]
    down = [say(m, labels) for m in spec.metrics if direction(m) is False]
    to = [f"{say(m, labels)} is best at {TARGET[m]:g}" for m in spec.metrics if m in TARGET]
    words = [f"{', '.join(up)}: higher is better"] * bool(up) + [
        f"{', '.join(down)}: lower is better"
    ] * bool(down)
    if words + to:
        bold = f" Bold: best mean of each {spec.best}." if spec.best != "none" else ""
        found.append("; ".join(words + to) + "." + bold)
    return found + _gaps(rows, spec, cells, listed)


def _one_split(rows: Rows, spec: TableSpec) -> bool:
    """Whether who tests what is the publishers' choice, and no seed's."""
    shown = {run.about.get("split") for run in rows.chosen(spec.where)}
    return shown == {"published"}


def _gaps(
    rows: Rows, spec: TableSpec, cells: Sequence[Sequence[Cell]], listed: Callable[[Any], str]
) -> list[str]:
    """What is undefined, missing or diverged."""
    found = few.note([c.few for row in cells for c in row if c.few is not None])
    if any(c.undefined for row in cells for c in row):
        found.append("– (k): undefined for k seeds, which the mean leaves out.")
    if missing := listed(lambda c: " ".join(map(str, c.missing))):
        found.append(f"{spec.mark} Seeds without a finished run: {missing}.")
    if diverged := listed(lambda c: str(c.diverged) if c.diverged else ""):
        found.append(f"{DIVERGED} Seeds that diverged, which the mean leaves out: {diverged}.")
    if rows.missing:
        found.append(
            f"{len(rows.missing)} of {len(rows.missing) + len(rows.runs)} runs are not in the store."
        )
    return found


def published_notes(
    spec: TableSpec,
    labels: Mapping[str, str],
    means: Mapping[Key, float | None],
    published: Mapping[Key, Comparison],
    absent: Sequence[Published],
    dimensions: Sequence[str],
) -> list[str]:
    """How many means lie in the bands around published numbers, and which do not; none without these."""
    if not spec.published:
        return []
    at = dimensions.index("metric")
    hidden = len(spec.metrics) == 1

    def place(key: Key) -> str:
        return ", ".join(say(v, labels) for i, v in enumerate(key) if not (hidden and i == at))

    sources = ", ".join(dict.fromkeys(say(p.source, labels) for p in spec.published))
    judged = [c for c in published.values() if c.within is not None]
    within = sum(bool(c.within) for c in judged)
    notes = [
        f"{WITHIN} or {OUTSIDE}: our mean is within or outside the band around the published number beside "
        f"it ({sources}). Within: {within} of {len(judged)}."
    ]
    outside = []
    for key, known in published.items():
        if known.within is False:
            entry, metric = known.published, str(key[at])
            spread = f" ± {spec.show(metric, entry.spread)}" if entry.spread is not None else ""
            ours = spec.show(metric, means[key] or 0.0)
            outside.append(
                f"{place(key)}: {ours}, published {spec.show(metric, entry.value)}{spread}, "
                f"band {spec.show(metric, entry.band)}"
            )
    if outside:
        notes.append(f"{OUTSIDE} " + "; ".join(outside) + ".")
    if absent:
        named = ["/".join(say(v, labels) for v in entry.where.values()) for entry in absent[:NAMED]]
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        notes.append(f"Published for cells that these runs lack: {', '.join(named)}{more}.")
    return notes
