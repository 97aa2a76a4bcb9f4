"""fedsim validate: judge a stored model at a site outside, by a plan that is fixed first."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fedsim.base import SUCCESS, RequestError, build, require
from fedsim.cli import output
from fedsim.cli.arguments import Options, Parser, add_json, add_modules, add_quiet

if TYPE_CHECKING:
    from fedsim.config.validation import Update, ValidationPlan
    from fedsim.store import ResultStore
    from fedsim.validation.attempts import Attempts
    from fedsim.validation.frozen import Subject
    from fedsim.validation.rows import Frozen

FIXED = ("run", "model_sha256", "site", "outcome", "rows")  # of a plan, by the command


def describe(parser: Parser) -> None:
    parser.add_argument(
        "asked",
        nargs="*",
        default=[],
        metavar="RUN|option=value",
        help="a stored run (the plan's, or the newest, where none is given); options of the plan, as in "
        "alpha=0.01 thresholds=[0.1,0.2]; results=FOLDER",
    )
    parser.add_argument("--site", default="", metavar="NAME", help="the site outside")
    parser.add_argument("--write-plan", default="", metavar="FILE", help="fix the plan, and look at nothing")
    parser.add_argument("--plan", default="", metavar="FILE", help="carry out a plan that was written")
    parser.add_argument("--table", default="", metavar="FILE", help="the site's rows, where the run has none")
    parser.add_argument("--attempts", action="store_true", help="list what was evaluated so far")
    add_modules(parser)
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    from fedsim.cli import custom
    from fedsim.config import Experiment
    from fedsim.store import ResultStore
    from fedsim.validation.attempts import Attempts, read_plan

    asked_for = [bool(options.write_plan), bool(options.plan), bool(options.attempts)]
    require(sum(asked_for) == 1, "give one of --write-plan FILE, --plan FILE and --attempts")
    custom.load(options.modules)
    names = [word for word in options.asked if "=" not in word]
    require(len(names) < 2, f"one run at a time, got {' '.join(names)}")
    values = _values([word for word in options.asked if "=" in word])
    store = ResultStore(str(values.pop("results", Experiment.results)))
    if options.plan:
        require(not values, f"{', '.join(values)} belongs to the plan; write another one with --write-plan")
        plan, found = read_plan(Path(options.plan))
        asked = names[0] if names else plan.run, options.site or plan.site
        require(
            asked == (plan.run, plan.site),
            f"plan {options.plan} is for run {plan.run} at {plan.site}, got {asked[0]} at {asked[1]}",
        )
        store.manifest(plan.run)
        return _evaluate(options, store, Attempts(store.root, plan.run), plan, found)
    options.run = names[0] if names else _newest(store)
    store.manifest(options.run)
    attempts = Attempts(store.root, options.run)
    if options.attempts:
        return _list(options, attempts)
    require(options.site, "--site NAME is required: the site outside that the model is judged at")
    return _write(options, store, attempts, values)


def _newest(store: ResultStore) -> str:
    stored = store.ids()
    require(stored, f"no run in {store.root}; run one, or set results=... to its folder")
    return max(stored, key=lambda run: (store.root / run).stat().st_mtime_ns)


def _values(words: list[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        require(name, f"{word!r} is no option=value; write it as in alpha=0.01")
        require(name not in found, f"{name} is given twice; give it once")
        require(name not in FIXED, f"{name} of the plan follows from the run, --site and --table")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RequestError(f"{name} has no value that can be read, got {value!r}") from None
    return found


# --- the plan --------------------------------------------------------------------------------


def _write(options: Options, store: ResultStore, attempts: Attempts, values: dict[str, Any]) -> int:
    from fedsim.config.validation import ValidationPlan
    from fedsim.run import subgroups
    from fedsim.validation import frozen
    from fedsim.validation.attempts import text_of

    about = frozen.subject(store, options.run, options.site)
    fixed = {
        "run": options.run,
        "model_sha256": about.model_sha256,
        "site": options.site,
        "outcome": about.outcome,
        "rows": "run" if about.inside else "file",
    }
    if about.timed:
        values = _timed(values, options.run, about)
    else:
        require(
            values.get("horizon") is None,
            f"run {options.run} is of an outcome with two classes, which has no horizon; leave horizon out",
        )
    if about.groups:
        values.setdefault("groups", about.groups)
    if not about.linear:
        values.setdefault("updates", ["keep", "intercept", "slope"])
    plan = build(ValidationPlan, {**values, **fixed})
    if about.timed:
        _check_timed(plan, about)
    kind = "" if about.ends is None else " or effects of each interval (task.proportional=false)"
    require(
        about.linear or "refit" not in plan.updates,
        f"run {options.run} stores a network{kind}, whose weights have no likelihood-ratio test; leave refit "
        "out of updates",
    )
    subgroups.check(plan.groups, about.federation, "groups")
    require(not (about.inside and options.table), f"{options.site} lies in the run's data; leave --table out")
    path, content = Path(options.write_plan), text_of(plan)
    require(
        not path.exists() or path.read_bytes() == content,
        f"{path} holds another plan, and plans are not changed; give a new file name",
    )
    found, note = attempts.register(plan, about.judged)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise RequestError(f"{path} cannot be written ({error.strerror or error})") from None
    if options.json:
        output.document(options.out, {"plan": str(path), "sha256": found, **note})
        return SUCCESS
    print(f"plan {path}, SHA-256 {found}", file=options.out)
    print(_looked(options.site, note), file=options.out)
    return SUCCESS


def _timed(values: dict[str, Any], run: str, about: Subject) -> dict[str, Any]:
    """What a plan of times to an event has unless it is said otherwise."""
    from fedsim.config.validation import TIMED_MEASURES

    order = _order(about)
    updates = list(order if about.linear else order[:-1])
    found = {"metrics": list(TIMED_MEASURES), "updates": updates, "adapt": False, "horizon": about.horizon}
    found |= values
    require(
        found["horizon"] is not None,
        f"run {run} is of times to an event, which are judged by a horizon; set horizon=..., in their unit",
    )
    return found


def _order(about: Subject) -> tuple[Update, ...]:
    from fedsim.config.validation import ORDER, TIMED_ORDER

    return TIMED_ORDER if about.ends is None else ORDER


def _check_timed(plan: ValidationPlan, about: Subject) -> None:
    """Raises RequestError where the run's kind of model has no such updates, or no hazard by the horizon."""
    from fedsim.validation.discrete import intervals_to

    order = _order(about)
    require(
        {*plan.updates} <= {*order},
        f"updates must be of {', '.join(order)} for run {plan.run}, got {', '.join(plan.updates)}",
    )
    if about.ends is not None:
        assert plan.horizon is not None
        intervals_to(about.ends, plan.horizon, plan.run)


def _looked(site: str, note: dict[str, Any]) -> str:
    seen = ", ".join(note["looked"])
    if seen:
        return f"written {note['written']}, after {site} was looked at: {seen}"
    return f"written {note['written']}, before anything was evaluated at {site}"


# --- an evaluation ---------------------------------------------------------------------------


def _evaluate(
    options: Options, store: ResultStore, attempts: Attempts, plan: ValidationPlan, found: str
) -> int:
    from fedsim.base import to_dict
    from fedsim.validation import frozen, protocol
    from fedsim.validation.attempts import attempt_id

    note = attempts.registered(found)
    require(
        note is not None,
        f"plan {options.plan} (SHA-256 {found[:16]}...) was not written for this store; write it with "
        "--write-plan",
    )
    assert note is not None
    require(
        (plan.rows == "file") == bool(options.table),
        f"the plan takes {plan.site}'s rows from "
        + ("a file; name it by --table FILE" if plan.rows == "file" else "the run; leave --table out"),
    )
    model = store.manifest(plan.run)["model_sha256"]
    require(
        model == plan.model_sha256,
        f"run {plan.run} has another model (SHA-256 {str(model)[:16]}...) than the plan froze "
        f"({plan.model_sha256[:16]}...): it was trained again since; write a new plan",
    )
    subject = frozen.read(store, plan.run, plan.site, options.table or None, plan.groups, plan.horizon)
    rows = rows_sha256(subject)
    attempt = attempt_id(found, rows)
    manifest = attempts.stored(attempt)
    if manifest is None:
        outcome = protocol.evaluate(subject, plan)
        told = to_dict(outcome)
        tables = {name: told.pop(name) for name in TABLES}
        manifest = attempts.write(
            attempt,
            {
                "run": plan.run,
                "site": plan.site,
                "plan": to_dict(plan),
                "plan_sha256": found,
                "plan_note": note,
                "model_sha256": plan.model_sha256,
                "rows_sha256": rows,
                **told,
                **tables,  # once more, since they are small and read together
            },
            tables,
        )
    earlier = attempts.list(plan.site)
    count = [one["attempt"] for one in earlier].index(attempt) + 1
    if options.json:
        output.document(options.out, {**manifest, "number": count, "attempts": len(earlier)})
    else:
        show(options.out, manifest, count, len(earlier), options.quiet)
    return SUCCESS


INTERVAL = ("gain", "low", "high")
TABLES = ("metrics", "subgroups", "updates", "case_mix", "features", "adaptation")


def rows_sha256(subject: Frozen) -> str:
    """Hash of the site's rows as recorded, of their groups, and of what they are judged against."""
    import numpy as np

    total = hashlib.sha256()
    for rows in (subject.site, *(part for region in subject.regions for part in (region.train, region.test))):
        if rows is not None:
            whose = None if rows.patient is None else np.unique(rows.patient, return_inverse=True)[1]
            for values in (rows.raw, rows.y, rows.time, whose):
                total.update(b"" if values is None else values.tobytes())
    for names, of_row in subject.groups.values():
        total.update(repr(names).encode() + of_row.tobytes())
    return total.hexdigest()


def _list(options: Options, attempts: Attempts) -> int:
    found = attempts.list(options.site or None)
    keys = ("attempt", "site", "written", "n", "events", "plan_sha256")
    rows = [{key: one[key] for key in keys} | {"chosen": one["choice"]["update"]} for one in found]
    if options.json:
        output.document(options.out, {"run": options.run, "attempts": rows})
    elif rows:
        lines = [[v[:16] if k == "plan_sha256" else v for k, v in row.items()] for row in rows]
        output.columns(options.out, lines, [*keys, "chosen"])
    else:
        print(f"nothing was evaluated of run {options.run}", file=options.out)
    return SUCCESS


# --- what people read ------------------------------------------------------------------------


def show(out: IO[str], found: dict[str, Any], number: int, attempts: int, quiet: bool) -> None:
    """An attempt in words and columns."""
    site, choice = found["site"], found["choice"]
    head = f"attempt {found['attempt']} ({number} of {attempts} at {site})"
    horizon = found["plan"].get("horizon")
    by = "" if horizon is None else f" by {horizon:g}"
    print(f"{head}: {found['n']} rows, {found['events']} of {found['plan']['outcome']}{by}", file=out)
    print(f"plan {found['plan_sha256'][:16]}, {_looked(site, found['plan_note'])}", file=out)
    print(f"closed test: {choice['update'] or 'no choice'}, since {choice['reason']}", file=out)
    if quiet:
        return
    for warning in found["warnings"]:
        print(f"warning: {warning}", file=out)
    if choice["tests"]:
        print(file=out)
        tests = [[t["against"], t["statistic"], t["df"], t["p"]] for t in choice["tests"]]
        output.columns(out, tests, ["largest update against", "LR statistic", "df", "p"])
    chosen = [row for row in found["updates"] if row["update"] == choice["update"]]
    if chosen:
        _table(out, chosen, ["term", "frozen", "value", "low", "high"])
    shown = ["update", "fitted", "metric", "value", "low", "high"]
    _table(out, found["metrics"], shown)
    if found["subgroups"]:
        told = [row for row in found["subgroups"] if row["value"] is not None]  # others are in the warnings
        _table(out, told, ["group", "name", "n", "events", *shown])
    _table(out, found["case_mix"], ["quantity", "development", "outside", "value", "low", "high"])
    shown = ["feature", "difference", "low", "high", "missing_development", "missing_outside"]
    _table(out, found["features"], shown)
    if found["adaptation"]:
        _adaptation(out, found["adaptation"])


def _table(out: IO[str], rows: list[dict[str, Any]], names: list[str]) -> None:
    print(file=out)
    output.columns(out, [[row[name] for name in names] for row in rows], [n.replace("_", " ") for n in names])


def _adaptation(out: IO[str], rows: list[dict[str, Any]]) -> None:
    """Gains at home and at the others, a line per region and update."""
    metric = rows[0]["metric"]
    print(f"\nlocal adaptations, improvement in {metric} on the frozen model (below 0: forgotten)", file=out)
    lines = []
    for region, update in dict.fromkeys((row["region"], row["update"]) for row in rows):
        asked = (region, update, metric)
        of = {r["judged_at"]: r for r in rows if (r["region"], r["update"], r["metric"]) == asked}
        values = [of.get(where, {}).get(name) for where in (region, "others") for name in INTERVAL]
        lines.append([region, update, *values, next(iter(of.values()))["reason"] or ""])
    output.columns(out, lines, ["region", "update", "at home", "low", "high", "at others", "low", "high", ""])
