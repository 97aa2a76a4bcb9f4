"""What every algorithm says it is under conditions, and when it is not (tests/golden/identity.py)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedsim.algorithms import ALGORITHMS
from fedsim.data.federation import Federation, gather
from tests.golden.families import IDENTITIES
from tests.golden.identity import ONE_STEP, TWINS
from tests.simulate import small


def judged(algorithm: dict[str, Any], changes: dict[str, Any], sizes: Any) -> np.ndarray:
    """What an algorithm comes to: its model, or the first client's own."""
    changes = dict(changes)
    rounds = changes.pop("rounds", 3)
    e = small.experiment(**({"algorithm": algorithm} | changes))
    if sizes == TWINS:
        fed = small.federation((8,) * 6)
        assert fed.columns is not None
        tiled = {name: np.tile(x[:8], (6,) + (1,) * (x.ndim - 1)) for name, x in fed.columns.items()}
        fed = replace(fed, columns=tiled)
        e = replace(e, split=replace(e.split, test=0.0))
    else:
        fed = small.federation(sizes)
    trained = small.train([small.lane(e, fed, rounds=rounds)], fed)
    own = small.own(trained, 0)
    if own:
        return small.flat(own[0].params)
    return small.flat(trained.models[0][0].params)


def test_every_algorithm_declares_an_identity() -> None:
    declared = {name.split(":")[0] for name in IDENTITIES}
    assert declared == set(ALGORITHMS)
    assert all(i.this["name"] == name.split(":")[0] for name, i in IDENTITIES.items())


every_identity = pytest.mark.parametrize(
    ("algorithm", "name"), [(name.split(":")[0], name) for name in sorted(IDENTITIES)], ids=sorted(IDENTITIES)
)


@every_identity
def test_identity(algorithm: str, name: str) -> None:
    law = IDENTITIES[name]
    expected = judged(law.other, law.both, law.sizes)
    np.testing.assert_allclose(judged(law.this, law.both, law.sizes), expected, rtol=1e-5, atol=2e-6)


@every_identity
def test_identity_can_be_violated(algorithm: str, name: str) -> None:
    law = IDENTITIES[name]
    but = dict(law.but)
    sizes, this = but.pop("sizes", law.sizes), but.pop("algorithm", law.this)
    changes = dict(law.both)
    for group, change in but.items():
        both = changes.get(group)
        changes[group] = {**both, **change} if isinstance(both, dict) and isinstance(change, dict) else change
    other = changes if "world" in but or "rounds" in but or sizes != law.sizes else law.both
    assert np.max(np.abs(judged(this, changes, sizes) - judged(law.other, other, sizes))) > 1e-4


def named(names: Sequence[str], order: Sequence[int]) -> Federation:
    """The rows of `small.federation`, its clients called by other names and read in another order."""
    fed = small.federation()
    assert fed.columns is not None
    rows = [np.arange(*fed.offsets[k : k + 2]) for k in order]
    client = [names[k] for k in order for _ in range(fed.sizes[k])]
    columns = {name: column[np.concatenate(rows)] for name, column in fed.columns.items()}
    return gather(client, columns, kind=fed.kind, classes=fed.classes, licence="none", source="test")


def test_the_order_in_which_clients_are_read_changes_no_bit() -> None:
    fed = small.federation()
    again = named(fed.names, (3, 0, 5, 4, 1, 2))
    assert again.names == fed.names and again.fingerprint == fed.fingerprint
    small.assert_same_bits(again.columns, fed.columns)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_names_of_clients_change_the_last_digits_at_most(algorithm: str) -> None:
    """Other names are another order, in which clients are summed and packed. On whole clients, whose
    batches no name shuffles."""
    part: dict[str, Any] = {"split": {"test": 0.0}, **ONE_STEP}
    # A sample of rows is drawn by name.
    whole: Any = {"name": "fedala", "share": 1.0} if algorithm == "fedala" else algorithm
    e = small.experiment(**({"algorithm": whole} | part))
    came_to = []
    for names in ("abcdef", "fedcba"):
        fed = named(names, range(6))
        trained = small.train([small.lane(e, fed)], fed)
        own = small.own(trained, 0)
        clients = [own[fed.names.index(name)].params for name in names] if len(own) == 6 else []
        came_to.append(small.flat((trained.models[0][0].params, clients)))
    np.testing.assert_allclose(came_to[1], came_to[0], rtol=1e-5, atol=2e-6)
