"""Differences of a table's cells to those of its reference, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedsim.base import nearest
from fedsim.metrics import direction
from fedsim.report.intervals import NOTE, OverSeeds, described
from fedsim.report.paired import ALPHA, DRAWS, EXACT, Difference, holm, paired, too_few
from fedsim.report.rows import Key, NoRuns, Value
from fedsim.report.spec import TableSpec
from fedsim.report.words import say

SURE = "*"
GAINS, LOSES, UNSHOWN = "gains", "loses", "not shown"


def differences(
    spec: TableSpec, dimensions: Sequence[str], found: Mapping[Key, Mapping[Value, float]]
) -> dict[Key, Difference]:
    """What each cell comes to against the cell that has the reference's value and is else the same.

    Args:
      found: {cell: {seed: value}}.

    Raises:
      NoRuns: no run has the reference's value.
    """
    if not spec.reference:
        return {}
    ((axis, value),) = spec.reference.items()
    at = dimensions.index(axis)
    base = {key[:at] + key[at + 1 :]: values for key, values in found.items() if str(key[at]) == str(value)}
    if not base:
        known = {str(key[at]) for key in found}
        raise NoRuns(f"reference: no finished run has {axis}={value}; {nearest(str(value), known)}")
    named = dimensions.index("metric")
    made: dict[Key, Difference] = {}
    for key, values in found.items():
        if str(key[at]) != str(value) and (other := base.get(key[:at] + key[at + 1 :])):
            where = dict(zip(dimensions, key, strict=True))
            over: OverSeeds = "bootstrap" if spec.interval == "bootstrap" else "t"
            difference = paired(values, other, where, str(key[named]), key[at], over)
            if difference:
                made[key] = difference
    return dict(zip(made, holm(list(made.values())), strict=True))


def bases(spec: TableSpec, dimensions: Sequence[str], found: Mapping[Key, object]) -> dict[Key, Key]:
    """The cell that each cell is held against."""
    if not spec.reference:
        return {}
    ((axis, value),) = spec.reference.items()
    at = dimensions.index(axis)
    base = {key[:at] + key[at + 1 :]: key for key in found if str(key[at]) == str(value)}
    return {key: base[rest] for key in found if (rest := key[:at] + key[at + 1 :]) in base}


def show(difference: Difference, spec: TableSpec) -> str:
    """`Δ −0.019 [−0.021, −0.017]*`"""

    def signed(value: float) -> str:
        text = spec.show(difference.metric, value)
        if not text.strip("−0.%"):  # zero as shown
            return text.lstrip("−")
        return text if value < 0 else f"+{text}"

    text = f"Δ {signed(difference.mean)}"
    if difference.low is not None and difference.high is not None:
        text += f" [{signed(difference.low)}, {signed(difference.high)}]"
    sure = difference.corrected is not None and difference.corrected < ALPHA
    text += SURE * sure
    return f"{text} {verdict(difference)}" if spec.verdict else text


def verdict(difference: Difference) -> str:
    """`gains`, `loses`, or `not shown` where the interval of the difference holds 0 or has no ends."""
    low, high = difference.low, difference.high
    if low is None or high is None or low <= 0 <= high:
        return UNSHOWN
    return GAINS if (low > 0) == direction(difference.metric) else LOSES


def notes(spec: TableSpec, labels: Mapping[str, str], found: Mapping[Key, Difference]) -> list[str]:
    """What Δ and its star are."""
    if not spec.reference:
        return []
    ((axis, value),) = spec.reference.items()
    words = (
        f"{GAINS}, {LOSES}: the interval of Δ lies on the better or the worse side of 0; {UNSHOWN}: it does "
        "not. Each word is by its own interval: of 20 cells without any difference about one would have "
        "another."
    )
    verdicts = [words] if spec.verdict else []
    if spec.interval in ("patients", "both"):
        return [
            f"Δ: mean difference to {say(axis, labels)} {say(value, labels)} on common seeds, with its 95 % "
            f"interval ({described(spec.interval, spec.ends)}, the same for both) in place of the mean's. "
            f"{SURE} p < {ALPHA:g}, p being twice the smaller share of resamples on either side of 0, "
            "corrected by Holm within each metric.",
            *verdicts,
        ]
    said = (
        f"Δ: mean difference to {say(axis, labels)} {say(value, labels)} on common seeds, with its 95 % "
        f"interval ({NOTE[spec.interval]}) in place of the mean's. {SURE} p < {ALPHA:g} in the permutation "
        f"test of signs (exact up to {EXACT} pairs, {DRAWS:,} draws beyond), corrected by Holm within each "
        "metric."
    )
    return [said, *too_few(list(found.values())), *verdicts]
