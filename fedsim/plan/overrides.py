"""One `path=value`, and what it does to plain data.

The grammar is Hydra's; its parser is handed in, so that nothing here needs Hydra.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fedsim.base import require

# A path among these picks a member of a config group; every other path sets a value.
CHOICES = (
    "data",
    "split",
    "task",
    "algorithm",
    "aggregator",
    "attack",
    "optimizer",
    "channel",
    "privacy",
    "secure",
    "world",
    "system",
    "topology",
    "audit",
    "numerics",
    "executor",
)
# A value that is the experiment's seed, whatever that is in a cell.
SEED = "${seed}"
# Mappings whose keys are config paths themselves, dots and all.
BY_PATH = ("tune.grid",)


@dataclass(frozen=True)
class Override:
    """`path=value`; `values` are several where a list was swept over: `a,b` or `range(0,10)`."""

    path: str
    values: tuple[Any, ...]
    swept: bool = False

    @property
    def value(self) -> Any:
        """The only value. Raises RequestError if a list was swept over."""
        require(
            not self.swept,
            f"{self.path} has several values here ({', '.join(map(str, self.values))}); give one, "
            "or make it an axis: -m on the command line, grid in a sweep.yaml",
        )
        return self.values[0]

    @property
    def follows_seed(self) -> bool:
        """Whether its value is the cell's seed."""
        return self.values == (SEED,)

    @property
    def picks(self) -> bool:
        """Whether it picks a member of a config group."""
        return self.path in CHOICES


Parse = Callable[[str], Override]


def assign(values: dict[str, Any], path: str, value: Any) -> None:
    """Set `path` in nested plain data, in place; a mapping replaces what was there.

    Names are not checked here: `fedsim.base.build` knows them.

    Raises:
      RequestError: `path` goes through a single value, or would change a member without its options.
    """
    *parents, last = _keys(path)
    require(
        last != "name" or ".".join(parents) not in CHOICES,
        f"{path} cannot be set: its options would stay another member's; write {'.'.join(parents)}={value}",
    )
    node = values
    for i, key in enumerate(parents):
        node = node.setdefault(key, {})
        where = ".".join(parents[: i + 1])
        require(isinstance(node, dict), f"{path}: {where} is a single value and has no option {last!r}")
    node[last] = value


def _keys(path: str) -> list[str]:
    for prefix in BY_PATH:
        if path.startswith(f"{prefix}."):
            return [*prefix.split("."), path[len(prefix) + 1 :]]
    return path.split(".")
