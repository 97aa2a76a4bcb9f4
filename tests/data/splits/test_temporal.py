"""What comes later is tested: by a moment for all, or by each client's own latest rows."""

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.data.federation import gather
from fedsim.data.partition import partitions
from fedsim.data.splits import assign


def federation(when, owner, external=()):
    n = len(when)
    return gather(
        list(owner),
        {"x": np.arange(n, dtype=np.float32)[:, None], "y": (np.arange(n) % 2).astype(np.int32)},
        kind="binary",
        classes=2,
        external=external,
        calendar=np.asarray(when, np.float64),
        licence="-",
        source="test",
    )


def split(fed, seed=0, **options):
    cfg = config.Temporal(**options)
    (part,) = partitions(fed, assign(fed, cfg, seed), cfg, seed)
    return part


def test_a_moment_parts_everybodys_rows():
    fed = federation([3, 1, 2, 5, 4, 9, 2, 7], "bbbbaaaa", external=("a",))
    part = split(fed, cut=3)
    rows, client = part.part("test")
    assert sorted(fed.calendar[rows[client == 1]]) == [3, 5]
    assert sorted(fed.calendar[part.part("train")[0]]) == [1, 2]
    assert (client == 0).sum() == 4  # outside, all rows are tested


def test_the_latest_share_never_shares_a_moment_with_training():
    rng = np.random.default_rng(0)
    fed = federation(rng.integers(0, 30, 200), np.where(np.arange(200) % 3, "a", "b"))
    part = split(fed, test=0.25, valid=0.1)
    for k in range(2):
        (train, test, valid) = (part.part(w)[0][part.part(w)[1] == k] for w in ("train", "test", "valid"))
        assert max(fed.calendar[train].max(), fed.calendar[valid].max()) < fed.calendar[test].min()
        size = fed.sizes[k]
        tied = (fed.calendar[fed.client_of_row() == k] == fed.calendar[train].max()).sum()
        assert 0.25 * size - tied <= len(test) <= np.ceil(0.25 * size)
    assert split(federation([5, 5, 5, 5, 1, 2], "aaaabb"), test=0.5).test.tolist() == [0, 1]


def test_the_seed_has_no_say():
    fed = federation(np.arange(40) % 17, "ab" * 20)
    parts = [split(fed, seed, test=0.3) for seed in (0, 1)]
    one, other = (np.sort(part.part("test")[0]) for part in parts)
    np.testing.assert_array_equal(one, other)


def test_dates_are_days():
    fed = federation([18_261, 18_262, 18_263, 18_264], "aabb")  # from the last day of 2019
    part = split(fed, cut="2020-01-01")
    assert sorted(fed.calendar[part.part("train")[0]]) == [18_261]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cut": "soon"}, "split.cut must be a number or a date such as 2024-12-31, got 'soon'"),
        ({"cut": 0}, "split.cut=0 leaves 0 rows to train on and 4 to test, of rows recorded from 1 to 4"),
        ({"cut": 99}, "leaves 4 rows to train on and 0 to test"),
        ({"folds": 3}, "split.folds must be 0"),
        ({"clients": 3}, "keeps the 2 clients"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(RequestError, match=words):
        split(federation([1, 2, 3, 4], "aabb"), **({"cut": 2} | options))


def test_a_source_must_know_when(make_federation):
    fed = make_federation(["a"] * 4, np.array([0, 1, 0, 1]))
    with pytest.raises(RequestError, match=r"data.calendar=COLUMN"):
        assign(fed, config.Temporal(), 0)
