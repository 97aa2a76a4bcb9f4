"""The cells of a sweep: the product of its axes, each a checked experiment with labels."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fedsim import config
from fedsim.base import RequestError, build_field, nearest, require, unknown_option
from fedsim.plan.overrides import CHOICES, Override, Parse, assign
from fedsim.plan.sweep import Sweep

Label = str | int | float
Compose = Callable[[list[str], list[str]], dict[str, Any]]
Picks = dict[str, str | None]  # group -> member, None where the default stays

_GROUPS = frozenset(CHOICES)
_FIELDS = tuple(f.name for f in dataclasses.fields(config.Experiment))
_DEFAULT = object()  # a field that nothing sets


@dataclass(frozen=True)
class Cell:
    """One run of a sweep. labels: axis -> value or label, such as {"algorithm": "fedavg", "seed": 0}."""

    experiment: config.Experiment
    labels: dict[str, Label] = field(default_factory=dict)


@dataclass(frozen=True)
class _Value:
    label: Label
    overrides: tuple[Override, ...]


@dataclass(frozen=True)
class _Point:
    """A cell before it is built. reason: why it is left out, or None."""

    labels: dict[str, Label]
    overrides: tuple[Override, ...]
    reason: str | None


def cells(sweep: Sweep, compose: Compose, parse: Parse) -> list[Cell]:
    """Every experiment of `sweep`, in the order of its axes, `seed` varying fastest.

    Args:
      compose: `["group=member", ...]`, and more of them -> the whole config as plain data, with the options
        of each further member under its `group=member`. A group's options depend on its own member alone, so
        one call serves all combinations, whatever their values.
      parse: reads one override.

    Raises:
      RequestError: an override that cannot be read, an unknown option or axis, a value out of range,
        or nothing left to run; the message names sweep and cell.
    """
    with _blame(sweep.name):
        points = list(_points(sweep, parse))
        wanted = [p for p in points if p.reason is None]
        reasons = "; ".join(dict.fromkeys(p.reason for p in points if p.reason))
        require(wanted, f"no cell is left to run: all are excluded ({reasons})")
        known: dict[tuple[int, ...], Picks] = {}
        picks = [_picks(p.overrides, known) for p in wanted]
        parts = _Parts(*_compose(list(known.values()), compose))
        return [_build(p, pick, parts) for p, pick in zip(wanted, picks, strict=True)]


def excluded(sweep: Sweep, parse: Parse) -> list[tuple[dict[str, Label], str]]:
    """Labels of the cells left out, each with the reason. Raises RequestError as `cells`."""
    with _blame(sweep.name):
        return [(p.labels, p.reason) for p in _points(sweep, parse) if p.reason is not None]


def labels(sweep: Sweep, parse: Parse) -> dict[str, list[Label]]:
    """{axis: every label that it is declared with or narrowed to, in order}: of cells that are left out, too.

    Raises:
      RequestError: as `cells`.
    """
    with _blame(sweep.name):
        found = {axis: _values(axis, raw, parse) for axis, raw in sweep.grid.items()}
        every = {axis: {value.label: None for value in values} for axis, values in found.items()}
        for axis, raw in sweep.narrow:
            every[axis] |= {value.label: None for value in _narrow(axis, found[axis], raw, parse)}
        return {axis: list(of_axis) for axis, of_axis in every.items()}


# --- axes ------------------------------------------------------------------------------------


def _points(sweep: Sweep, parse: Parse) -> Iterator[_Point]:
    declared = {axis: _values(axis, raw, parse) for axis, raw in sweep.grid.items()}
    axes = dict(declared)
    for axis, raw in sweep.narrow:
        axes[axis] = _narrow(axis, declared[axis], raw, parse)
    labels = {a: {v.label for v in declared[a]} | {v.label for v in axes[a]} for a in axes}
    for match in [*(w.match for w in sweep.when), *(e.match for e in sweep.exclude)]:
        _check_match(match, labels)
    base = tuple(map(parse, sweep.base))
    when = [(_sets(rule.match), tuple(map(parse, rule.set))) for rule in sweep.when]
    exclude = [(_sets(rule.match), rule.reason) for rule in sweep.exclude if rule.holds]
    last = tuple(map(parse, sweep.last))

    order = sorted(axes, key=lambda axis: axis == "seed")  # stable: only the seed moves
    for values in itertools.product(*(axes[axis] for axis in order)):
        point = {axis: v.label for axis, v in zip(order, values, strict=True)}
        yield _Point(
            labels=point,
            overrides=(
                *base,
                *(o for v in values for o in v.overrides),
                *(o for match, overrides in when if _matches(match, point) for o in overrides),
                *last,
            ),
            reason=next((reason for match, reason in exclude if _matches(match, point)), None),
        )


def _values(axis: str, raw: Any, parse: Parse) -> list[_Value]:
    items = [{label: texts} for label, texts in raw.items()] if isinstance(raw, Mapping) else raw
    found: list[_Value] = []
    for item in items if isinstance(items, list | tuple) else [items]:
        if isinstance(item, str):
            # The sweep's own grammar: YAML 1.1 reads 1e-3 as text, and range(0,10) too.
            found += [_value(axis, v) for v in parse(f"{axis}={item}").values]
        elif isinstance(item, Mapping) and len(item) == 1 and isinstance(next(iter(item.values())), list):
            [(label, texts)] = item.items()
            found.append(_Value(_label(label), tuple(parse(str(t)) for t in texts)))
        else:
            require(
                not isinstance(raw, Mapping),
                f"grid.{axis}: a label must be followed by a list of overrides, got {item!r}",
            )
            found.append(_value(axis, item))
    require(found, f"grid.{axis} has no values; give at least one")
    for label, same in Counter(value.label for value in found).items():
        require(same == 1, f"grid.{axis} has {label!r} {same} times; give it once")
    return found


def _narrow(axis: str, known: Sequence[_Value], raw: Any, parse: Parse) -> list[_Value]:
    """`raw` as values, each with the overrides that its label has in `known`."""
    by_label = {v.label: v for v in known}
    found: list[_Value] = []
    for item in _listed(raw):
        # A label need not be in the grammar: dirichlet(0.3).
        new = [] if isinstance(item, str) and item in by_label else _values(axis, [item], parse)
        found += [by_label.get(v.label, v) for v in new] or [by_label[item]]
    return found


def _value(axis: str, value: Any) -> _Value:
    return _Value(_label(value), (Override(axis, (value,)),))


def _label(value: Any) -> Label:
    return value if isinstance(value, str | int | float) else json.dumps(value)


def _check_match(match: Mapping[str, Any], labels: Mapping[str, set[Label]]) -> None:
    for axis, wanted in match.items():
        require(axis in labels, f"match: no axis {axis!r}; {nearest(axis, labels)}")
        for label in _allowed(wanted):
            known = [str(v) for v in labels[axis]]
            require(label in labels[axis], f"match: {axis} has no {label!r}; {nearest(str(label), known)}")


def _sets(match: Mapping[str, Any]) -> dict[str, frozenset[Label]]:
    return {axis: frozenset(_allowed(wanted)) for axis, wanted in match.items()}


def _matches(match: Mapping[str, frozenset[Label]], labels: Mapping[str, Label]) -> bool:
    return all(labels[axis] in wanted for axis, wanted in match.items())


def _listed(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else [wanted]


def _allowed(wanted: Any) -> list[Label]:
    return [_label(v) for v in _listed(wanted)]


# --- experiments -----------------------------------------------------------------------------


def _picks(overrides: Iterable[Override], known: dict[tuple[int, ...], Picks]) -> Picks:
    """Group -> member, None where the default stays. `known` has those of the same overrides already."""
    picking = [given for given in overrides if given.path in _GROUPS]
    key = tuple(map(id, picking))
    if key not in known:
        picked: Picks = dict.fromkeys(CHOICES)
        for given in picking:
            member = given.value
            require(
                isinstance(member, str | int | float) and member != "",
                f"{given.path} picks a member of a group, write {given.path}=NAME; got {member!r}",
            )
            picked[given.path] = str(member)
        known[key] = picked
    return known[key]


def _compose(
    picks: Sequence[Picks], compose: Compose
) -> tuple[dict[str, Any], dict[tuple[str, str | None], Any]]:
    """The options outside groups, and (group, member) -> its options."""
    needed = {group: list(dict.fromkeys(p[group] for p in picks)) for group in CHOICES}
    first = {group: None if None in members else members[0] for group, members in needed.items()}
    more = {f"{g}={m}": (g, m) for g, members in needed.items() for m in members if m != first[g]}
    composed = compose(
        [f"{group}={member}" for group, member in first.items() if member is not None], [*more]
    )
    members = {(group, member): composed[group] for group, member in first.items() if group in composed}
    members |= {of: composed[pick] for pick, of in more.items()}
    return {key: value for key, value in composed.items() if key not in {*CHOICES, *more}}, members


class _Parts:
    """Fields of experiments: each is built and checked once, however many cells have it.

    common: the options outside groups; members: (group, member) -> its options.
    """

    def __init__(self, common: dict[str, Any], members: dict[tuple[str, str | None], Any]) -> None:
        self._common, self._members = common, members
        self._followed: dict[tuple[int, Any], Override] = {}  # (override, seed) -> the seed instead
        # By the identities of overrides, which `cells` reads once.
        self._built: dict[tuple[Any, ...], Any] = {}
        self._shared: dict[tuple[int, ...], dict[str, Any]] = {}  # all that cells of several seeds share

    def experiment(self, overrides: Iterable[Override], picks: Picks) -> config.Experiment:
        """Raises RequestError for an unknown option or a value out of range."""
        given = [override for override in overrides if override.path not in _GROUPS]
        seeds = [override for override in given if override.path == "seed"]
        if any(override.follows_seed for override in given):
            seed = seeds[-1].value if seeds else self._common["seed"]
            given = [self._follow(override, seed) for override in given]
        key = (id(picks), *(id(override) for override in given if override.path != "seed"))
        if key not in self._shared:
            self._shared[key] = self._fields(given, picks)
        if not seeds:
            return config.Experiment(**self._shared[key])
        return config.Experiment(**self._shared[key] | {"seed": self._field("seed", None, seeds)})

    def _follow(self, override: Override, seed: Any) -> Override:
        """`override`, or where its value is the seed, one for all cells with that seed."""
        if not override.follows_seed:
            return override
        return self._followed.setdefault((id(override), seed), Override(override.path, (seed,)))

    def _fields(self, given: Iterable[Override], picks: Picks) -> dict[str, Any]:
        by_field: dict[str, list[Override]] = {}
        for override in given:
            by_field.setdefault(override.path.partition(".")[0], []).append(override)
        for name in by_field:
            if name not in _FIELDS:
                raise unknown_option(config.Experiment, name)
        made = {name: self._field(name, picks.get(name), by_field.get(name, ())) for name in _FIELDS}
        return {name: value for name, value in made.items() if value is not _DEFAULT}

    def _field(self, name: str, member: str | None, overrides: Sequence[Override]) -> Any:
        key = (name, member, *map(id, overrides))
        if key not in self._built:
            self._built[key] = self._build(name, member, overrides)
        return self._built[key]

    def _build(self, name: str, member: str | None, overrides: Iterable[Override]) -> Any:
        found = self._members.get((name, member), self._common.get(name, _DEFAULT))
        values = {} if found is _DEFAULT else {name: copy.deepcopy(found)}
        for override in overrides:
            assign(values, override.path, copy.deepcopy(override.value))
        return build_field(config.Experiment, name, values[name]) if name in values else _DEFAULT


def _build(point: _Point, picks: Picks, parts: _Parts) -> Cell:
    try:
        return Cell(parts.experiment(point.overrides, picks), point.labels)
    except RequestError as error:
        where = ", ".join(f"{axis}={label}" for axis, label in point.labels.items())
        raise RequestError(f"{where}: {error}" if where else str(error)) from None


@contextmanager
def _blame(name: str) -> Iterator[None]:
    """Puts the sweep's name before what is wrong with it."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{name}: {error}" if name else str(error)) from None
