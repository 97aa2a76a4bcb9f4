"""fedsim run: one experiment, or with -m the grid that its overrides span."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

from fedsim.base import FAILED, SUCCESS, RequestError, digest
from fedsim.cli import audited, custom, output, progress, requested, stopping
from fedsim.cli.arguments import Options, Parser, add_json, add_overrides, add_quiet
from fedsim.config import APART
from fedsim.metrics import detail

# What `--json` promises; the rest of the manifest follows.
PROMISED = (
    "run",
    "status",
    "error",
    "model_sha256",
    "rounds",
    "metrics",
    "coefficients",
    "regression",
    "seconds",
    "seconds_per_round",
    "privacy",
    "audit",
)
RELEASED = "released_"  # metrics from noised counts, beside the exact ones
MOST_CLIENTS = 20  # shown; all of them are in the store


def describe(parser: Parser) -> None:
    add_overrides(parser)
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="a,b and range(0,5) span a grid of runs"
    )
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    modules = custom.load(options.modules)
    cells = requested.from_overrides(options.overrides, many=options.multirun)
    root = requested.store_of(cells)

    from fedsim.run import run_experiments
    from fedsim.slurm import Slurm
    from fedsim.store import ResultStore
    from fedsim.store.identity import plain

    with stopping.listening() as stopped:
        shown = progress.watch(options.quiet)
        outcome = run_experiments(
            cells, root, progress=shown, modules=modules, scheduler=Slurm(), stopped=stopped
        )
    store = ResultStore(root)
    runs = [*outcome.done, *outcome.skipped, *outcome.diverged, *outcome.failed]
    found = [_manifest(store, run, outcome.errors) for run in dict.fromkeys(runs)]
    # A run may have been stored by another request, with other labels or none.
    labels = {_key(plain(cell.experiment)): cell.labels for cell in cells}
    order = {key: i for i, key in enumerate(labels)}
    for manifest in found:
        if manifest.get("experiment"):
            manifest["cell"] = labels.get(_key(manifest["experiment"]), manifest["cell"])
    found.sort(key=lambda m: order.get(_key(m.get("experiment") or {}), len(order)))

    if options.json:
        output.document(options.out, {"runs": found} if options.multirun else found[0])
    else:
        for manifest in found:
            _show(options.out, manifest, options.quiet, brief=options.multirun)
    return SUCCESS if found and all(m["status"] == "done" for m in found) else FAILED


def _key(experiment: dict[str, Any]) -> str:
    """Equal where a run's id is, for the same data."""
    return digest({k: v for k, v in experiment.items() if k not in APART})


def _manifest(store: Any, run: str, errors: dict[str, str]) -> dict[str, Any]:
    try:
        stored = store.manifest(run)
    except RequestError:  # failed before anything could be stored
        stored = {"run": run, "status": "failed", "error": errors.get(run)}
    rest = {key: value for key, value in stored.items() if key not in PROMISED}
    return {key: stored.get(key) for key in PROMISED} | rest


def _costs(manifest: dict[str, Any]) -> Iterator[str]:
    """What clients spent, where their machines are known; and what the target took, where there is one."""
    spent, target = manifest.get("spent") or {}, manifest.get("to_target")
    if spent.get("simulated_seconds") is not None:
        yield f"spent: {_spent(spent, spent['bytes_up'] + spent['bytes_down'])}"
    if target and target["round"] is not None:
        head = f"{target['metric']} {output.show(target['value'])} after round {target['round']}"
        yield f"{head}: {_spent(target, target['bytes'])}"
    elif target:
        yield f"{target['metric']} {output.show(target['value'])} not reached: {target['reason']}"


def _privacy(said: dict[str, Any]) -> Iterator[str]:
    """The account of a run whose messages are protected, or why it has none."""
    if said.get("mechanism") is None:
        return
    if said.get("lost_gradients"):
        yield (
            f"warning: {said['lost_gradients']} times the gradient of a record or patient was not finite, "
            "and counted as zero; look for values that are too large, or lower optimizer.step_size"
        )
    if said["epsilon"] is None:
        yield f"privacy={said['mechanism']}: {said['reason']}"
        return
    names = ("unit", "relation", "sampling", "accountant", "conversion")
    yield f"epsilon {output.show(said['epsilon'])} at delta {said['delta']:g} after {said['rounds']} rounds"
    yield from (f"  {name}: {said[name]}" for name in names if said[name] is not None)
    if len(said["regions"]) > 1:
        shown = {r["region"]: r["epsilon"] for r in said["regions"][:MOST_CLIENTS]}
        yield f"  by region: {output.show(shown)}"
    for kind in ("covered", "uncovered", "note", "warning"):
        yield from (f"  {kind}: {one}" for one in said.get(kind) or said.get(f"{kind}s") or ())


def _secured(manifest: dict[str, Any]) -> Iterator[str]:
    """What a secure sum hid, what is learned all the same, and what came of it."""
    found = (manifest.get("privacy") or {}).get("secure")
    if not found:
        return
    yield f"secure sum ({found['protocol']}, {found['mode']}: {found['simulated']}) hides {found['hides']}."
    yield from (f"  {sentence}" for sentence in found["learned"])
    yield f"  Not hidden: {', '.join(found['not_hidden'])}."
    if found["aborted_rounds"]:
        yield f"  Given up, with nothing released: {found['aborted_rounds']} rounds."
    if found["clipped_values"]:
        yield f"  Clipped to secure.range: {found['clipped_values']} numbers of messages."


def _lines(site: str, found: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A site's metrics, and on a line of its own those that it would release."""
    released = {name.removeprefix(RELEASED): of for name, of in found.items() if name.startswith(RELEASED)}
    yield site, {name: of for name, of in found.items() if not name.startswith(RELEASED)}
    if released:
        yield f"{site}, released", {"n": None} | released


def _spent(costs: dict[str, Any], nbytes: int) -> str:
    found = {"bytes": float(nbytes)}
    units = {"simulated_seconds": "simulated s", "energy_joules": "J"}
    found |= {unit: costs[name] for name, unit in units.items() if costs.get(name) is not None}
    return ", ".join(f"{value:.4g} {unit}" for unit, value in found.items())


def _fitted(out: IO[str], found: dict[str, Any] | None) -> None:
    """A regression's coefficients with their tests, where it was fitted exactly."""
    if not found:
        return
    said = [f"{found['rows']} rows"]
    said += [f"{found['events']} events"] if found["events"] is not None else []
    said += [f"{found['ties']} ties, baseline {found['baseline']}"] if found["baseline"] else []
    said += [
        f"{name.replace('_', '-')} {output.show(found[name])}"
        for name in ("dispersion", "log_likelihood")
        if found[name] is not None
    ]
    said += [f"{name} {_test(found[key])}" for key, name in _TESTS.items() if found[key]]
    print(f"{found['task']} regression: {', '.join(said)}", file=out)
    if not found["converged"]:
        print("  warning: not yet at the estimates of greatest likelihood; raise rounds", file=out)
    if found["penalised"]:
        print("  penalised estimates are biased on purpose, so they have no standard errors", file=out)
    coefficients = found["coefficients"]
    known = dict.fromkeys(
        key for of in coefficients.values() for key, value in of.items() if value is not None
    )
    head = [
        f"{found['level']:.0%} {key}" if key in ("low", "high") else key.replace("_", " ") for key in known
    ]
    output.columns(out, [[name, *map(of.get, known)] for name, of in coefficients.items()], ["", *head])


_TESTS = {"wald": "Wald", "likelihood_ratio": "likelihood ratio"}


def _test(found: dict[str, Any]) -> str:
    return f"chi2 {output.show(found['chi2'])} on {found['df']} df (p {output.show(found['p'])})"


def _show(out: IO[str], manifest: dict[str, Any], quiet: bool, brief: bool) -> None:
    metrics = manifest["metrics"] or {}
    labels = ", ".join(f"{k}={v}" for k, v in (manifest.get("cell") or {}).items())
    head = [f"run {manifest['run']}", labels, manifest["status"]]
    if manifest["seconds"] is not None:
        head.append(f"{manifest['rounds']} rounds in {manifest['seconds']:.3g} s")
    if brief and metrics.get("pooled"):
        head.append(output.show({k: v for k, v in metrics["pooled"].items() if not detail(k)}))
    print(": ".join([head[0], ", ".join(filter(None, head[1:]))]), file=out)
    if manifest["error"]:
        print(f"  {manifest['error']}", file=out)
    if quiet or brief:
        return
    for line in (*_costs(manifest), *_secured(manifest)):
        print(line, file=out)
    for line in _privacy(manifest["privacy"] or {}):
        print(line, file=out)
    _fitted(out, manifest.get("regression"))
    rows = {"all test rows": metrics.get("pooled") or {}}
    clients = metrics.get("clients") or {}
    rows |= clients if len(clients) <= MOST_CLIENTS else {}
    for kind in ("external", "late"):
        others = metrics.get(kind) or {}
        rows |= {f"{name} ({kind})": of for name, of in others.items()} if len(others) <= MOST_CLIENTS else {}
    rows = {line: of for site, found in rows.items() for line, of in _lines(site, found)}
    names = list(dict.fromkeys(name for found in rows.values() for name in found if not detail(name)))
    if names:
        output.columns(
            out, [[site, *(found.get(n) for n in names)] for site, found in rows.items()], ["", *names]
        )
    differ = {k: v for k, v in (manifest.get("heterogeneity") or {}).items() if v is not None}
    for line in audited.lines(manifest):
        print(line, file=out)
    if differ:
        print(f"clients differ: {output.show(differ)}", file=out)
    if len(clients) > MOST_CLIENTS:
        print(f"{len(clients)} clients: see --json, or clients.parquet in the store", file=out)
