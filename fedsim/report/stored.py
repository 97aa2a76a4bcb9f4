"""Stored predictions of runs: what was to be predicted, what was, and whose each row is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedsim import metrics
from fedsim.base import RequestError, require
from fedsim.report.rows import Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stored:
    """Predictions of one set of a run, all folds. Arrays: [n].

    label: class, quantity or event; time: for survival; risk: probability of the event by `horizon`, where
    the run has one; unit: the patient where the data name any, else the row.
    """

    kind: str
    label: Floats
    score: Floats
    time: Floats | None
    risk: Floats | None
    horizon: float | None
    client: NDArray[np.str_]
    unit: NDArray[np.int64]
    weight: Floats | None

    @property
    def probability(self) -> Floats:
        """Of the event, or of class 1."""
        return self.score if self.risk is None else self.risk

    def of(self, rows: NDArray[np.bool_]) -> Stored:
        made: dict[str, Any] = {k: v[rows] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **made)

    def evaluate(self, w: Floats, names: tuple[str, ...]) -> dict[str, float | None]:
        """`names` of the rows with weights w >= 0 [n]."""
        quick = {*metrics.names(self.kind, full=False)} >= {*names}
        asked = [float(n.rpartition("_")[2]) for n in names if n.startswith(metrics.NET_BENEFIT)]
        thresholds = list(dict.fromkeys(asked))
        found = metrics.evaluate(
            self.kind, self.label, self.score, w, not quick, self.time, thresholds, self._absolute()
        )
        return {name: found.get(name) for name in names}

    def _absolute(self) -> metrics.Absolute | None:
        if self.risk is None or self.horizon is None:
            return None
        with np.errstate(divide="ignore"):
            hazard = np.log(-np.log1p(-self.risk)) - self.score
        return metrics.Absolute(np.array([self.horizon]), hazard[:, None], np.arange(len(hazard)))


def read(run: Run, advice: str) -> pa.Table:
    """Its predictions as they are stored. Raises RequestError, with `advice`, where it kept none."""
    try:
        # pq.read_table would import pyarrow.dataset, and with it pandas.
        with pq.ParquetFile(run.folder / "predictions.parquet") as file:
            return file.read(use_threads=False)
    except (OSError, pa.ArrowInvalid):
        raise RequestError(f"run {run.id} kept no predictions, or they are damaged; {advice}") from None


def load(run: Run, which: str) -> Stored:
    """A run's predictions of the set `which`.

    Raises:
      RequestError: it kept none, or they are of several classes.
    """
    table = read(run, "run it with evaluate.predictions=true")
    table = table.filter(pc.equal(table.column("set"), which))
    score, names = table.column("score"), table.column_names
    require(
        pa.types.is_floating(score.type),
        f"run {run.id} predicts several classes, and stored predictions are looked at of two classes, times "
        "and quantities; leave it out",
    )

    def numbers(name: str) -> Any:
        return table.column(name).to_numpy().astype(np.float64) if name in names else None

    survival = "time" in names
    label = table.column("event" if survival else "label")
    kind = "survival" if survival else "binary" if pa.types.is_integer(label.type) else "regression"
    whose = numbers("patient") if "patient" in names else numbers("row")
    many = np.arange(len(label), dtype=np.float64)
    client = table.column("client").cast(pa.string()).to_pylist() if "client" in names else [""] * len(label)
    return Stored(
        kind=kind,
        label=label.to_numpy().astype(np.float64),
        score=numbers("score"),
        time=numbers("time"),
        risk=numbers("risk"),
        horizon=run.config.get("evaluate", {}).get("horizon") if "risk" in names else None,
        client=np.asarray(client, dtype=np.str_),
        unit=(many if whose is None else whose).astype(np.int64),
        weight=numbers("weight"),
    )
