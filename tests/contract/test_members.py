"""Tasks, topologies, systems and sources: all declare an identity; it holds, and can be violated."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fedsim.base import GROUPS
from tests.contract import members, sources
from tests.contract.members import Law

KITS: dict[str, dict[str, Law]] = {
    "task": members.TASKS,
    "topology": members.TOPOLOGIES,
    "system": members.SYSTEMS,
    "data": sources.SOURCES,
}
LAWS = {f"{group}, {name}": law for group, laws in KITS.items() for name, law in laws.items()}


@pytest.mark.parametrize("group", KITS)
def test_every_member_declares_an_identity(group: str) -> None:
    assert {name.split(":")[0] for name in KITS[group]} == set(GROUPS[group])


def apart(a: Any, b: Any) -> float:
    """The largest difference, of trees of numbers; infinite where their shapes differ."""
    pairs = zip(*([np.asarray(x, np.float64) for x in jax.tree.leaves(tree)] for tree in (a, b)), strict=True)
    if str(jax.tree.structure(a)) != str(jax.tree.structure(b)):
        return np.inf
    return max(
        (np.inf if x.shape != y.shape else float(np.abs(x - y).max(initial=0)) for x, y in pairs), default=0
    )


@pytest.mark.parametrize("name", LAWS)
def test_identity(name: str, tmp_path: Path) -> None:
    law = LAWS[name]
    for side in ("this", "other", "but"):
        (tmp_path / side).mkdir()
    this, other, but = (getattr(law, side)(tmp_path / side) for side in ("this", "other", "but"))
    assert apart(this, other) <= law.off
    assert apart(but, other) > max(1e-6, 10 * law.off)
