"""What is asked of many runs at once: their manifests' few lines, kept together (`fedsim.store.kept`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = ("status", "source", "modules", "error", "seconds", "cell")
FILE = "manifest.json"
FEW = 64  # runs that are faster read one by one, and that are worth a file together


def read(
    root: Path, runs: Iterable[str], manifest: Callable[[str], dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """Run -> the `KEPT` values of its manifest, its split's name and its data's seed, of those `runs` that
    are stored; `manifest` reads one."""
    asked = list(dict.fromkeys(runs))
    if len(asked) >= FEW:
        from fedsim.store import kept

        rows, _ = kept.read(root, FILE, asked, lambda path: line(manifest(path.parent.name)))
        with suppress(ValueError, KeyError):  # text that is damaged, in a file that is not
            found = json.loads(f"[{','.join(rows['about'].to_pylist())}]")
            return {asked[i]: about for i, about in zip(rows["run"].to_pylist(), found, strict=True)}
    return {run: _few(found) for run in asked if (found := manifest(run)) is not None}


def line(manifest: Mapping[str, Any] | None) -> pa.Table:
    """A row with what is kept of a manifest, as JSON; none where there is no manifest."""
    import pyarrow as pa

    from fedsim.store.columns import texts

    said = [] if manifest is None else [json.dumps(_few(manifest))]
    return pa.table({"about": texts(said)})


def _few(manifest: Mapping[str, Any]) -> dict[str, Any]:
    experiment = manifest.get("experiment") or {}
    split, data = (experiment.get(group) or {} for group in ("split", "data"))
    found = {name: manifest.get(name) for name in KEPT}
    return found | {"split": split.get("name"), "data_seed": data.get("seed")}
