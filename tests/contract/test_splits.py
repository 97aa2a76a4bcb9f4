# mypy: disable-error-code="arg-type, index, union-attr"
"""Laws that every split obeys, found by listing, and what each declares: who stays, or what severity does."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import config
from fedsim.config.split import GradedSplit
from fedsim.data.names import client_ids
from fedsim.data.splits import SPLITS as BUILDERS
from fedsim.data.splits import assign
from fedsim.data.splits.assignment import Assignment
from tests.contract.splits import CHANGES, OPTIONS, SPLITS, STAYS, WHOLE, federation, measured

DEALT = sorted(SPLITS.keys() - set(STAYS))
GRADED = sorted(CHANGES)


def same(a: Assignment, b: Assignment) -> bool:
    return (
        np.array_equal(a.client, b.client)
        and (a.time is None or np.array_equal(a.time, b.time))
        and (a.x is None or np.array_equal(a.x, b.x, equal_nan=True))
        and (a.y is None or np.array_equal(a.y, b.y))
    )


def test_every_split_declares_what_it_does() -> None:
    assert SPLITS.keys() == BUILDERS.keys()
    graded = {name for name, cls in SPLITS.items() if issubclass(cls, GradedSplit)}
    assert graded == CHANGES.keys() == SPLITS.keys() - {*STAYS, "iid"}


# --- rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEALT)
@given(seed=st.integers(0, 2**62), rows=st.integers(140, 300), outside=st.booleans())
def test_no_row_is_lost_and_none_is_doubled(name: str, seed: int, rows: int, outside: bool) -> None:
    """Nor dealt by anything but the seed."""
    fed = federation(2 if name == "prevalence" else 4, rows, ("z",) if outside else ())
    cfg = SPLITS[name](clients=7, **OPTIONS.get(name, {}))
    found = assign(fed, cfg, seed)
    assert found.client.shape == (rows,) and found.client.dtype == np.int32
    sizes = np.bincount(found.client, minlength=len(found.names))
    assert sizes.sum() == rows and sizes.min() >= 1
    assert tuple(found.names[:7]) == tuple(f"client_00{i}" for i in range(7))
    assert np.array_equal(found.ids, client_ids(found.names))
    if outside:
        assert found.external == {7} and found.names[7:] == ("z",)
        mine = fed.client_of_row() == 1
        assert np.array_equal(found.client == 7, mine)
        for made, column in ((found.x, fed.columns["x"]), (found.y, fed.columns["y"])):
            assert made is None or (made.dtype == column.dtype and np.array_equal(made[mine], column[mine]))
    else:
        assert found.external == frozenset() and len(found.names) == 7
    assert same(found, assign(fed, cfg, seed))
    assert not same(found, assign(fed, cfg, seed + 1))


@pytest.mark.parametrize("name", SPLITS)
def test_rows_stay_where_that_is_declared_and_only_there(name: str) -> None:
    fed = replace(federation(2, 400, ("z",)), test=np.arange(400) % 3 == 0)  # the published test rows
    fed = replace(fed, calendar=np.arange(400.0))
    found = assign(fed, SPLITS[name](clients=1 if name in STAYS else 4), 0)
    stays = found.client is None and found.names == fed.names and found.x is None and found.y is None
    assert stays == (name in STAYS)
    assert not stays or found.external == fed.external


# --- severity --------------------------------------------------------------------------------


def iid(which: str, draws: int = 10) -> float:
    """The largest of a measure over IID deals."""
    return max(measured(federation(), config.Iid(clients=8), seed, which) for seed in range(draws))


@pytest.mark.parametrize("name", GRADED)
def test_zero_is_iid_and_more_is_more(name: str) -> None:
    fed, steps = federation(), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    found = [measured(fed, SPLITS[name](clients=8, severity=s)) for s in steps]
    # Nothing of it at IID, up to chance.
    assert found[0] <= 1.1 * iid(CHANGES[name])
    assert all(a <= b for a, b in pairwise(found))
    if name not in WHOLE:  # here 1 and 2 classes
        assert all(a < b for a, b in pairwise(found[:4]))
    assert found[-1] > 2 * found[0] + 0.05


def test_iid_shares_are_equal() -> None:
    def sizes(cfg: Any) -> np.ndarray:
        return np.bincount(assign(federation(), cfg, 0).client)

    assert np.ptp(sizes(config.Iid(clients=7))) <= 1 < np.ptp(sizes(config.Quantity(clients=7, severity=0.2)))
    assert np.ptp(sizes(config.Quantity(clients=7, severity=0.0))) <= 1
