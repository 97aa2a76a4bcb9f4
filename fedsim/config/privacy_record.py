"""Mechanisms that protect the records of a region before anything leaves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedsim.base import number, require
from fedsim.config.privacy import Accounted, require_clip


@dataclass(frozen=True, kw_only=True)
class RecordPrivacy(Accounted):
    """Record or patient level, at each region: every gradient a sum of clipped gradients and Gaussian noise
    (Abadi et al. 2016, Alg. 1). `optimizer.batch_size` is then how many units a step draws on average, each
    on its own; 0 takes all.

    unit: whose presence is hidden, one row or all rows of one patient (`data.patient`).
    clipping: each unit's gradient as one vector, or each of its L layers to clip_norm / sqrt(L).
    form: how norms are found, from what goes into and comes back to each layer (ghost) or from each unit's
      gradient (vmap); auto: ghost where the model has only layers that allow it.
    microbatch: units whose gradients are computed side by side; 0 follows from the batch and the model.
    rows_per_patient: rows that a patient contributes at most, the first ones.
    """

    unit: Literal["record", "patient"] = "record"
    clip_norm: float = number(1.0)
    clipping: Literal["global", "per_layer"] = "global"
    form: Literal["auto", "ghost", "vmap"] = "auto"
    microbatch: int = 0
    rows_per_patient: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_clip(self.clip_norm)
        require(self.microbatch >= 0, f"privacy.microbatch must be >= 0, got {self.microbatch}")
        require(
            self.rows_per_patient >= 1,
            f"privacy.rows_per_patient must be >= 1, got {self.rows_per_patient}",
        )
        require(
            self.unit == "patient" or self.rows_per_patient == 1,
            f"privacy.rows_per_patient={self.rows_per_patient} needs patients, and the unit here is "
            "a row; set privacy.unit=patient",
        )


MEMBERS: dict[str, type] = {"record": RecordPrivacy}
