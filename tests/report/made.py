"""Tables of made-up stores, in few words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedsim import report
from fedsim.report import spec as declared

Put = Callable[..., str]
T2 = 4.302652729749464  # 97.5 % quantile of Student's t, 2 degrees of freedom
BASIC: dict[str, Any] = {"name": "t", "title": "A title", "rows": "algorithm", "metrics": "auroc"}
SITES = {"Small": 0.2, "Large": -0.1}
SPEC = """
labels: {fedavg: FedAvg}
tables:
  - {name: pooled, title: Pooled AUROC, rows: algorithm, columns: split, metrics: [auroc, brier], band: 0.02}
figures:
  - {name: gain, kind: gain, where: {split: natural}}
  - {name: convergence, kind: convergence, where: {split: natural}}
"""


def build(tmp_path: Path, runs: Any, stale: str = "refuse", **table: Any) -> report.Table:
    spec = declared.parse({"tables": [{**BASIC, **table}]})
    rows = report.read(tmp_path / "store", runs, levels=[spec.tables[0].level])
    return report.tables(rows, spec, stale)[0]


def cells(table: report.Table) -> dict[tuple[Any, ...], report.Cell]:
    return {table.key(*at): cell for at, cell in table.each()}


def three_seeds(put: Put, values: dict[str, tuple[float | None, ...]], **more: Any) -> list[str]:
    return [
        put({"algorithm": a, "split": "natural", "seed": s}, [{"auroc": v, "brier": 0.25}], **more)
        for a, of_seeds in values.items()
        for s, v in enumerate(of_seeds)
    ]
