"""How many units a client has."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.data.federation import Federation, gather
from fedsim.data.partition import partitions, pool
from fedsim.data.splits import assign
from fedsim.data.units import units

OWNER = ["A"] * 6 + ["B"] * 5
PATIENT = np.array([3, 3, 1, 1, 1, 2, 7, 5, 5, 5, 5])


def federation() -> Federation:
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=(11, 2)).astype(np.float32), "y": np.arange(11, dtype=np.int32) % 2}
    return gather(
        OWNER, columns, kind="binary", classes=2, patient_of_row=PATIENT, licence="none", source="test"
    )


def test_rows_and_patients_of_the_training_part() -> None:
    fed = federation()
    cfg = config.Natural(test=0.0)
    (whole,) = partitions(fed, assign(fed, cfg, 0), cfg, 0)
    assert units(fed, whole, "record").tolist() == [6, 5]
    assert units(fed, whole, "patient").tolist() == [3, 2]
    cfg = config.Natural(test=0.5)
    (half,) = partitions(fed, assign(fed, cfg, 0), cfg, 0)
    assert fed.columns is not None and half.rows is not None
    for k, found in enumerate(units(fed, half, "patient")):
        codes = fed.columns["patient"][half.rows[half.offsets[k] :][: half.train[k]]]
        assert found == codes.max() - codes.min() + 1  # one between, all of whose rows test, counts too
    assert units(fed, replace(half, late=frozenset({1})), "record").tolist() == [3, 0]


def test_what_has_no_patients_in_order_is_refused() -> None:
    fed = federation()
    cfg = config.Natural(test=0.0)
    (whole,) = partitions(fed, assign(fed, cfg, 0), cfg, 0)
    assert fed.columns is not None
    bare = replace(fed, columns={key: x for key, x in fed.columns.items() if key != "patient"})
    with pytest.raises(RequestError, match=r"data\.patient=COLUMN"):
        units(bare, whole, "patient")
    assert whole.rows is not None
    mixed = replace(whole, rows=whole.rows[::-1].copy())
    with pytest.raises(RequestError, match="in order of their patients"):
        units(fed, mixed, "patient")
    assert units(fed, pool(whole), "patient").tolist() == [5]  # clients one after another
