"""A sweep as its sweep.yaml declares it.

    name: heart_disease
    base: [data=heart_disease, rounds=40]        # overrides of every cell, in Hydra's syntax; an option
                                                 # with the value ${seed} has the cell's seed
    grid:                                        # the product of these axes, `seed` last
      algorithm: [local, fedavg, fedprox]        # values of the option that the axis is named after
      split:                                     # or labels, each with its overrides
        natural: [split=natural]
        skewed: [split=dirichlet, split.alpha=0.3]
      seed: range(0,10)                          # or Hydra's sweep syntax
    when:                                        # more overrides for some cells
      - {match: {algorithm: fedprox}, set: ["tune.grid.algorithm.mu=[0.01,0.1]"]}
    exclude:                                     # cells that make no sense, and why
      - {match: {algorithm: [local], split: skewed}, reason: nobody to learn from}
      - {match: {data: mine}, missing: mine.csv, reason: no mine.csv}  # only where that file is not there
    reduced:                                     # the small variant: more overrides, fewer values
      base: [rounds=10]
      grid: {algorithm: [local, fedavg], seed: "range(0,2)"}

Later overrides win: base, axes, when, then those of the command line. `match` names axes and labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fedsim import resources
from fedsim.base import FedsimError, RequestError, build, nearest, require
from fedsim.plan.overrides import Parse

FILE = "sweep.yaml"


@dataclass(frozen=True, kw_only=True)
class When:
    """Overrides for the cells whose labels match."""

    match: dict[str, Any]
    set: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Exclude:
    """Cells left out, and why. missing: a file, without which they are left out, and with which not."""

    match: dict[str, Any]
    reason: str
    missing: str | None = None

    @property
    def holds(self) -> bool:
        return self.missing is None or not Path(self.missing).exists()


@dataclass(frozen=True, kw_only=True)
class Variant:
    base: tuple[str, ...] = ()
    grid: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The contents of a sweep.yaml."""

    name: str
    base: tuple[str, ...] = ()
    grid: dict[str, Any] = field(default_factory=dict)
    when: tuple[When, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    reduced: Variant | None = None

    def __post_init__(self) -> None:
        require(
            self.name == Path(self.name).name and self.name not in ("", ".", ".."),
            f"name: {self.name!r} is a path; use letters, digits, - and _",
        )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Axes and overrides, not yet multiplied out.

    folder: where sweep.yaml and its tables.yaml lie; None for a grid from the command line.
    narrow: what later takes the place of an axis's values, in order: labels it has, or new values.
    last: overrides after all others.
    """

    name: str = ""
    folder: Path | None = None
    base: tuple[str, ...] = ()
    grid: Mapping[str, Any] = field(default_factory=dict)
    when: tuple[When, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    narrow: tuple[tuple[str, Any], ...] = ()
    last: tuple[str, ...] = ()


def names() -> dict[str, Path]:
    """Experiment -> its folder: those of ./experiments, then those that come with fedsim."""
    places = [Path("experiments")]
    with suppress(FedsimError):  # an installation without them still runs its user's own
        places.append(resources.folder("experiments"))
    found = {path.parent.name: path.parent for place in reversed(places) for path in place.glob(f"*/{FILE}")}
    return dict(sorted(found.items()))


def read(name: str, reduced: bool = False) -> Sweep:
    """The sweep called `name`, or in the folder or file `name`.

    Args:
      reduced: its small variant.

    Raises:
      RequestError: no such experiment, or its file is not as described above.
    """
    path = find(name)
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RequestError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    try:
        declared = build(Declared, values)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    sweep = Sweep(
        name=declared.name,
        folder=path.parent,
        base=declared.base,
        grid=declared.grid,
        when=declared.when,
        exclude=declared.exclude,
    )
    if not reduced:
        return sweep
    small = declared.reduced
    require(small is not None, f"{declared.name} has no reduced variant; declare `reduced:` in {path}")
    assert small is not None
    for axis in small.grid:
        require(axis in sweep.grid, f"{path}: reduced.grid.{axis}: no such axis; {nearest(axis, sweep.grid)}")
    return dataclasses.replace(sweep, base=sweep.base + small.base, narrow=tuple(small.grid.items()))


def override(sweep: Sweep, texts: Iterable[str], parse: Parse) -> Sweep:
    """`sweep` with overrides from the command line.

    One that names an axis narrows that axis; several values of anything else are a new axis.

    Raises:
      RequestError: not an override.
    """
    for text in texts:
        given = parse(text)
        if given.path in sweep.grid:
            sweep = dataclasses.replace(sweep, narrow=(*sweep.narrow, (given.path, list(given.values))))
        elif given.swept:
            sweep = dataclasses.replace(sweep, grid={**sweep.grid, given.path: list(given.values)})
        else:
            sweep = dataclasses.replace(sweep, last=(*sweep.last, text))
    return sweep


def find(name: str) -> Path:
    """The file of the sweep called `name`. Raises RequestError if there is none."""
    for path in (Path(name), Path(name) / FILE):
        if path.suffix == ".yaml" and path.is_file():
            return path
    known = names()
    require(
        name in known,
        f"no experiment {name!r} in ./experiments or in fedsim's own; {nearest(name, known)}",
    )
    return known[name] / FILE
