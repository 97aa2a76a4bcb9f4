"""What the manifests of a sweep's runs say together: state, origin, cost, privacy, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedsim.report.rows import Rows, Run

JOULES_PER_WATT_HOUR = 3600.0


def state(rows: Rows) -> str:
    """`230 runs: 228 done, 1 diverged, 1 not in the store.`"""
    counts = Counter(str(run.manifest.get("status")) for run in rows.runs)
    words = [f"{n} {status}" for status, n in counts.items()]
    words += [f"{len(rows.missing)} not in the store"] * bool(rows.missing)
    total = len(rows.runs) + len(rows.missing)
    return f"{total} run{'s' if total != 1 else ''}: {', '.join(words)}."


def warnings(rows: Rows, left_out: Sequence[str]) -> list[str]:
    """What a reader must know before the numbers, each in a sentence."""
    found = [f"Left out: {what}" for what in left_out]
    if rows.missing:
        found.append(f"{len(rows.missing)} runs of the plan are not in the store; the command adds them.")
    for status in ("failed", "diverged"):
        ended = [run for run in rows.runs if run.manifest.get("status") == status]
        for error, n in Counter(str(run.manifest.get("error")) for run in ended).most_common(3):
            found.append(f"{n} run{'s' if n != 1 else ''} {status}: {error}")
    sources = Counter(str(run.manifest.get("source")) for run in rows.runs)
    if len(sources) > 1:
        shown = ", ".join(f"{source[:12]}: {n}" for source, n in sources.items())
        found.append(f"Runs come from {len(sources)} versions of the code ({shown}).")
    kinds = Counter(str(run.manifest.get("device_kind")) for run in rows.runs if run.done)
    if len(kinds) > 1:
        found.append(f"Runs come from {len(kinds)} kinds of device: seconds are not comparable between them.")
    found += [f"Privacy account: {w}" for w in dict.fromkeys(_of_privacy(rows, "warnings"))]
    return found


def _of_privacy(rows: Rows, key: str) -> Iterator[str]:
    for run in rows.runs:
        yield from (run.manifest.get("privacy") or {}).get(key) or ()


# --- cost ------------------------------------------------------------------------------------


def device_seconds(rows: Rows) -> dict[str, tuple[int, float, float]]:
    """{kind of device: (runs, seconds, of these compiling)}."""
    found: dict[str, tuple[int, float, float]] = {}
    for run in rows.runs:
        kind = str(run.manifest.get("device_kind") or "unknown device")
        n, seconds, compiling = found.get(kind, (0, 0.0, 0.0))
        spent = float(run.manifest.get("seconds") or 0.0)
        found[kind] = (n + 1, seconds + spent, compiling + float(run.manifest.get("compile_seconds") or 0.0))
    return found


def cost(rows: Rows, watts: float) -> dict[str, str]:
    """What the simulation took here, and what its clients would have spent."""
    found: dict[str, str] = {}
    total = 0.0
    for kind, (n, seconds, compiling) in device_seconds(rows).items():
        total += seconds
        said = f"{seconds:,.1f} for {n:,} runs, of these {compiling:,.1f} compiling"
        found[f"Device seconds, {kind}"] = said
    energy = total * watts / JOULES_PER_WATT_HOUR
    found["Energy, estimated"] = (
        f"{energy:,.1f} Wh: all device seconds at {watts:g} W. The power is assumed and not measured; "
        "fedsim report --watts sets it."
    )
    spent = [run.manifest.get("spent") or {} for run in rows.runs]
    nbytes = sum((s.get("bytes_up") or 0) + (s.get("bytes_down") or 0) for s in spent)
    found["Simulated messages"] = f"{nbytes / 1e6:,.4g} MB up and down, all runs together"
    joules = [s["energy_joules"] for s in spent if s.get("energy_joules") is not None]
    if joules:
        found["Simulated energy of clients"] = f"{sum(joules):,.4g} J in {len(joules):,} runs with machines"
    return found


# --- origin ----------------------------------------------------------------------------------


def origin(rows: Rows) -> dict[str, str]:
    """Commits, code, environment and when, each with how many runs where they differ."""
    found = {
        "Commit": _tally(run.manifest.get("commit") or "unknown" for run in rows.runs),
        "Code": _tally(run.manifest.get("source") for run in rows.runs),
        "Machine": _tally(_machine(run) for run in rows.runs),
        "Device": _tally(run.manifest.get("device_kind") for run in rows.runs),
        "Versions": _tally(_versions(run) for run in rows.runs),
    }
    written = sorted(str(w) for run in rows.runs if (w := run.manifest.get("written")))
    if written:
        found["Written"] = " to ".join(dict.fromkeys((written[0], written[-1])))
    modules = {name for run in rows.runs for name in run.manifest.get("modules") or ()}
    if modules:
        found["Modules of the user"] = ", ".join(sorted(modules))
    return {name: text for name, text in found.items() if text}


def _tally(values: Iterable[Any]) -> str:
    counts = Counter(str(value) for value in values if value is not None)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({n} runs)" for value, n in counts.most_common())


def _machine(run: Run) -> str | None:
    host: Mapping[str, Any] = run.manifest.get("host") or {}
    said = [str(host[key]) for key in ("processor", "machine", "system") if host.get(key)]
    return ", ".join([*said, f"{host['cores']} cores"] if host.get("cores") else said) or None


def _versions(run: Run) -> str | None:
    return ", ".join(f"{name} {v}" for name, v in (run.manifest.get("versions") or {}).items()) or None


# --- privacy ---------------------------------------------------------------------------------

ALWAYS = (
    "This is a simulation: all rows lay on one machine, and nothing was sent between organisations. What is "
    "said here is what the same training would promise between them.",
    "This page holds metrics, counts of rows, names of sites and options, and no rows of the data. Counts "
    "and metrics of small groups can still say something about single persons; consider that before you "
    "pass it on.",
)


def privacy(rows: Rows) -> list[tuple[str, list[str]]]:
    """(which runs, what holds for them), runs with the same promise together."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for run in rows.runs:
        if run.done or run.diverged:
            said = run.manifest.get("privacy") or {}
            groups.setdefault(_promise(said), []).append(said)
    return [(_who(key, len(of_group)), _promised(of_group)) for key, of_group in groups.items()]


_SAME = ("mechanism", "protected", "reason", "unit", "relation", "sampling", "accountant")


def _promise(said: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(said.get(key) for key in _SAME)


def _who(key: tuple[Any, ...], n: int) -> str:
    mechanism, protected = key[:2]
    runs = f"{n} run{'s' if n != 1 else ''}"
    if mechanism is None:
        return f"{runs} without a privacy mechanism"
    return f"{runs} with privacy={mechanism}" + ("" if protected else ", which protects nothing here")


def _promised(group: Sequence[Mapping[str, Any]]) -> list[str]:
    first = group[0]
    if first.get("mechanism") is None:
        return [
            "Nothing limits what models, or messages on their way, tell of the rows that they were trained "
            "on. Keeping rows at home is no such limit."
        ]
    epsilons = _numbers(group, "epsilon")
    found = [f"No bound: {first.get('reason')}."] if not epsilons else []
    if epsilons:
        deltas = _numbers(group, "delta")
        at = f" at δ = {_range(deltas)}" if deltas else ""
        found.append(f"ε = {_range(epsilons)}{at}, at the site that pays most, for one model.")
        for key in ("unit", "relation", "sampling", "accountant"):
            if first.get(key):
                found.append(f"{key.capitalize()}: {first[key]}.")
        if totals := _numbers(group, "epsilon_of_all_models"):
            found.append(f"All models that a run trained, together: ε up to {totals[-1]:.3g}.")
    for key, words in (("covered", "Covered"), ("uncovered", "Not covered, in the clear"), ("notes", "Note")):
        listed = dict.fromkeys(str(one) for said in group for one in said.get(key) or ())
        found += [f"{words}: {'; '.join(listed)}."] if listed else []
    return found


def _numbers(group: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return sorted({float(said[key]) for said in group if said.get(key) is not None})


def _range(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.3g}", f"{values[-1]:.3g}"
    return low if low == high else f"{low} to {high}"
