"""How many records or patients each client trains on. NumPy only."""

from __future__ import annotations

import numpy as np

from fedsim.base import require
from fedsim.data.federation import Federation
from fedsim.data.partition import Partition


def units(federation: Federation, partition: Partition, unit: str) -> np.ndarray:
    """int64[K]: training rows of each client; or, with unit=patient, the patients a lot is drawn from, all
    from the first training row's to the last's. 0 for clients that do not train.

    Raises:
      RequestError: patients are not known, or a client's rows do not lie in their order.
    """
    rows = partition.federated.astype(np.int64)
    if unit == "record":
        return rows
    require(
        federation.columns is not None and "patient" in federation.columns and partition.rows is not None,
        "privacy.unit=patient needs to know whose each row is; use data=table with data.patient=COLUMN and "
        "data.mode=resident or streamed, or set privacy.unit=record",
    )
    assert federation.columns is not None and partition.rows is not None
    patient = federation.columns["patient"]
    found = np.zeros(len(rows), np.int64)
    for k in np.flatnonzero(rows):
        codes = patient[partition.rows[partition.offsets[k] :][: rows[k]]]
        require(
            bool((np.diff(codes) >= 0).all()),
            "privacy.unit=patient needs each client's rows in order of their patients, and here rows were "
            "pooled, or lie in the order of time; use another split or algorithm, or set privacy.unit=record",
        )
        found[k] = int(codes[-1]) - int(codes[0]) + 1
    return found
