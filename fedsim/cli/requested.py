"""What a command line asks for: cells, their ids, and the store they belong to. Starts no JAX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedsim import plan
from fedsim.base import RequestError, digest, require
from fedsim.cli import custom
from fedsim.cli.arguments import Options
from fedsim.plan import Cell, Sweep

STALE = ("rerun", "keep")


@dataclass(frozen=True)
class Request:
    """A planned sweep. stale: what happens to runs of other versions of the code.

    modules: the user's, by absolute path; cells: run id -> cell, in the plan's order.
    """

    sweep: Sweep
    reduced: bool
    stale: str | None
    modules: tuple[str, ...]
    cells: dict[str, Cell]
    store: Path

    @property
    def finished(self) -> set[str]:
        """States of cells that are not run again."""
        return {"done", "diverged"} | ({"stale"} if self.stale == "keep" else set())

    @property
    def report_stale(self) -> Literal["keep", "refuse"]:
        """What tables do with runs of several versions of the code."""
        return "keep" if self.stale == "keep" else "refuse"

    @property
    def labels(self) -> dict[str, dict[str, str | int | float]]:
        return {run: cell.labels for run, cell in self.cells.items()}

    @property
    def axes(self) -> dict[str, list[str | int | float]]:
        """Every label of each axis that sweep.yaml or the command line declares, wanted here or not."""
        from fedsim.cli.compose import parse

        return plan.labels(self.sweep, parse)

    @property
    def out(self) -> Path:
        """Where tables and figures go: beside the store."""
        folder = self.store.parent / self.sweep.name
        return folder / "reduced" if self.reduced else folder


def by_name(options: Options) -> Request:
    """The sweep that NAME, --reduced, --with and overrides ask for.

    Raises:
      RequestError: anything in them is wrong, or two cells are the same run.
    """
    modules = custom.load(options.modules)
    stale, overrides = _stale(options.overrides)
    planned = plan.read(options.name, options.reduced)

    from fedsim.cli.compose import compose, parse  # Hydra, after all that needs none

    planned = plan.override(planned, overrides, parse)
    cells = plan.cells(planned, compose, parse)
    return Request(
        sweep=planned,
        reduced=options.reduced,
        stale=stale,
        modules=modules,
        cells=identify(cells),
        store=store_of(cells),
    )


def from_overrides(overrides: Iterable[str], many: bool) -> list[Cell]:
    """The experiment that overrides describe; with `many`, the grid that they span.

    Raises:
      RequestError: anything in them is wrong, or they give several values without `many`.
    """
    from fedsim.cli.compose import compose, parse

    grid = plan.override(Sweep(), overrides, parse)
    for axis in grid.grid:
        require(many, f"{axis} has several values; add -m to run one experiment for each")
    return plan.cells(grid, compose, parse)


def store_of(cells: Sequence[Cell]) -> Path:
    """The folder of results that `cells` share. Raises RequestError if they have several."""
    folders = sorted({cell.experiment.results for cell in cells})
    require(len(folders) == 1, f"results must be one folder for all cells, got {', '.join(folders)}")
    return Path(folders[0])


def identify(cells: Iterable[Cell]) -> dict[str, Cell]:
    """Run id -> cell. Data are loaded once per distinct source.

    Raises:
      RequestError: two cells are the same run, or their data cannot be loaded.
    """
    from fedsim import data
    from fedsim.store import RunIds

    run_id = RunIds()
    fingerprints: dict[int, str] = {}  # by identity: cells share what they have in common
    loaded: dict[str, str] = {}
    found: dict[str, Cell] = {}
    for cell in cells:
        cfg = cell.experiment.data
        if id(cfg) not in fingerprints:
            source = digest(cfg)
            if source not in loaded:
                loaded[source] = data.load(cfg).fingerprint
            fingerprints[id(cfg)] = loaded[source]
        run = run_id(cell.experiment, fingerprints[id(cfg)])
        if run in found:
            raise RequestError(f"{named(cell)} and {named(found[run])} are the same run; exclude one of them")
        found[run] = cell
    return found


def named(cell: Cell) -> str:
    """A cell by its labels."""
    return ", ".join(f"{axis}={label}" for axis, label in cell.labels.items()) or "the experiment"


def _stale(overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """`stale=...` is about what is stored, not about an experiment."""
    given = [o.removeprefix("stale=") for o in overrides if o.startswith("stale=")]
    for choice in given:
        require(choice in STALE, f"stale must be one of {', '.join(STALE)}, got {choice!r}")
    return (given[-1] if given else None), [o for o in overrides if not o.startswith("stale=")]
