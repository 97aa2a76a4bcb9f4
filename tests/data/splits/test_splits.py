# mypy: disable-error-code="arg-type, index, union-attr"
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import config
from fedsim.base import RequestError
from fedsim.config import (
    Blobs,
    Dirichlet,
    FeatureShift,
    Iid,
    Natural,
    Quantity,
    Shards,
)
from fedsim.data import load
from fedsim.data.federation import gather
from fedsim.data.splits import assign

SPLITS = config.MEMBERS["split"]


def federation(rows=400, classes=4, external=(), seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    owner = rng.choice(["a", "b", "z"], rows)
    owner[:3] = ["a", "b", "z"]
    x = rng.normal(size=(rows, 3)) * [1, 10, 100]
    return gather(
        owner.tolist(),
        {
            "x": np.clip(x + 100, 0, 255).astype(dtype) if dtype == np.uint8 else x.astype(dtype),
            "y": (np.arange(rows) % classes).astype(np.int32),
        },
        kind="binary" if classes == 2 else "multiclass",
        classes=classes,
        external=external,
        licence="none",
        source="test",
    )


def test_natural_leaves_rows_where_they_are():
    fed = federation(external=("z",))
    found = assign(fed, Natural(), 0)
    assert found.client is None and found.names == fed.names and found.external == fed.external
    with pytest.raises(RequestError, match=r"split.clients=5, but split=natural keeps the 2 clients"):
        assign(fed, Natural(clients=5), 0)


@pytest.mark.parametrize("name", ["dirichlet", "classes", "prevalence", "concept"])
def test_times_to_an_event_are_no_classes(name):
    columns = {"x": np.ones((20, 1), np.float32), "y": (np.arange(20) % 2).astype(np.int32)}
    columns["time"] = np.arange(1, 21, dtype=np.float32)
    fed = gather(["a", "b"] * 10, columns, kind="survival", classes=2, licence="none", source="test")
    with pytest.raises(RequestError, match=rf"split={name}.*(time|survival).*use split="):
        assign(fed, SPLITS[name](clients=7), 0)


def test_clients_default_to_the_natural_number():
    assert assign(federation(), Iid(), 0).names == ("client_000", "client_001", "client_002")
    assert assign(federation(external=("z",)), Iid(), 0).names == ("client_000", "client_001", "z")


def label_skew(fed, cfg, seed=0):
    """Mean total variation distance between a client's labels and everyone's."""
    found = assign(fed, cfg, seed)
    table = np.zeros((len(found.names), fed.classes))
    np.add.at(table, (found.client, fed.columns["y"]), 1)
    everyone = table.sum(axis=0) / table.sum()
    return np.abs(table / table.sum(axis=1, keepdims=True) - everyone).sum(axis=1).mean() / 2


def test_severity_is_real():
    fed = federation(4000)
    skews = [label_skew(fed, Dirichlet(clients=10, alpha=a, min_rows=1)) for a in (0.1, 0.5, 5, 1000)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.5 and skews[-1] < 0.06
    assert label_skew(fed, Iid(clients=10)) < 0.06
    assert label_skew(fed, Shards(clients=10, shards=1)) > 0.6
    assert label_skew(fed, Shards(clients=10, shards=1)) > label_skew(fed, Shards(clients=10, shards=20))
    assert label_skew(fed, Quantity(clients=10, alpha=5)) < 0.1


def test_dirichlet_shares_have_the_moments_of_the_distribution():
    """Shares of one label over K clients: mean 1 / K, variance (K - 1) / (K^2 (K alpha + 1))."""
    fed = federation(4000, classes=2)
    shares = []
    for seed in range(200):
        found = assign(fed, Dirichlet(clients=4, alpha=1.0, min_rows=0), seed)
        shares.append(np.bincount(found.client[fed.columns["y"] == 0], minlength=4) / 2000)
    assert np.mean(shares) == pytest.approx(0.25)
    assert np.var(shares) == pytest.approx(3 / (16 * 5), rel=0.15)


@given(seed=st.integers(0, 2**32), least=st.integers(0, 40))
def test_every_client_gets_min_rows(seed, least):
    fed = federation(400)
    for cfg in (Dirichlet(clients=5, alpha=0.5, min_rows=least), Quantity(clients=5, min_rows=least)):
        assert np.bincount(assign(fed, cfg, seed).client, minlength=5).min() >= max(least, 1)


def test_shards_give_few_labels_to_each_client():
    fed = federation(400, classes=4)  # 100 rows a label
    found = assign(fed, Shards(clients=4, shards=1), 0)
    assert [len(set(fed.columns["y"][found.client == k])) for k in range(4)] == [1, 1, 1, 1]
    found = assign(fed, Shards(clients=10, shards=2), 0)
    assert max(len(set(fed.columns["y"][found.client == k])) for k in range(10)) <= 2
    assert np.bincount(found.client).tolist() == [40] * 10


def test_quantity_power_law():
    fed = federation(4000)
    sizes = np.bincount(assign(fed, Quantity(clients=10, law="power", exponent=1.0), 0).client)
    expected = 4000 / np.arange(1, 11) / (1 / np.arange(1, 11)).sum()
    np.testing.assert_allclose(sizes, expected, atol=5)
    listed = np.bincount(assign(fed, Quantity(law="listed", shares=(3.0, 1.0, 4.0), min_rows=0), 0).client)
    wanted = np.array([3, 1, 4]) / 8 * listed.sum()
    assert np.abs(listed - wanted).max() <= 3  # a row for each client first, then the shares
    flat = np.bincount(assign(fed, Quantity(clients=10, law="power", exponent=0.0), 0).client)
    assert flat.max() - flat.min() <= 1
    spread = [np.bincount(assign(fed, Quantity(clients=10, alpha=a), 3).client).std() for a in (0.2, 2, 200)]
    assert spread == sorted(spread, reverse=True)


def test_feature_shift_blurs_by_client():
    fed = federation(9000)
    before, deviation = fed.columns["x"], fed.columns["x"].std(axis=0)
    found = assign(fed, FeatureShift(clients=3, noise=0.8), 0)
    for k, level in enumerate((0.0, 0.4, 0.8)):
        held = found.client == k
        moved = (found.x[held] - before[held]) / deviation
        np.testing.assert_allclose(moved.std(axis=0), level, atol=0.05)
    assert np.array_equal(fed.columns["x"], before) and found.x is not before

    scaled = assign(fed, FeatureShift(clients=3, noise=0.0, scale=0.5), 0)
    factors = [
        np.unique(np.round(scaled.x[scaled.client == k] / before[scaled.client == k], 3)) for k in range(3)
    ]
    assert all(len(f) <= 2 for f in factors) and len({f[0] for f in factors}) == 3


def test_feature_shift_keeps_what_it_must():
    pictures = federation(300, dtype=np.uint8)
    found = assign(pictures, FeatureShift(clients=3, noise=5.0, scale=1.0), 0)
    assert found.x.dtype == np.uint8 and found.x.min() == 0 and found.x.max() == 255
    fed = federation(300, external=("z",))
    fed.columns["x"][5, 1] = np.nan
    found = assign(fed, FeatureShift(clients=3, noise=5.0), 0)
    assert np.isnan(found.x).sum() == 1 and np.isnan(found.x[5, 1])
    outside = fed.client_of_row() == 2
    assert np.array_equal(found.x[outside], fed.columns["x"][outside])
    assert np.isfinite(assign(federation(50), FeatureShift(clients=1), 0).x).all()


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (Iid(clients=500), r"split.clients must be in \[1, 400\].*got 500"),
        (Dirichlet(clients=50), "split.min_rows=10 for 50 clients needs 500 rows, but there are 400"),
        (Dirichlet(clients=20, alpha=0.01), r"no shares .* in 1000 draws \(split.alpha=0.01\)"),
        (Shards(clients=40, shards=20), "makes 800 shards of 400 rows"),
        (Quantity(clients=50, min_rows=10), "needs 500 rows, but there are 400"),
    ],
)
def test_what_cannot_be_dealt_is_refused(cfg, message):
    with pytest.raises(RequestError, match=message):
        assign(federation(400), cfg, 0)


def test_splits_that_need_rows_or_classes_say_so():
    with pytest.raises(RequestError, match=r"split=iid needs the rows in memory"):
        assign(load(Blobs(mode="generated")), Iid(), 0)
    columns = {"x": np.zeros((4, 1), np.float32), "y": np.arange(4, dtype=np.float32)}
    shape = {"kind": "regression", "classes": 0, "licence": "none", "source": "test"}
    with pytest.raises(RequestError, match="the label is a quantity"):
        assign(gather(list("aabb"), columns, **shape), Dirichlet(min_rows=1), 0)
    clash = gather(["client_000", "b", "b", "b"], columns, external=["client_000"], **shape)
    with pytest.raises(RequestError, match="rename it"):
        assign(clash, Iid(clients=2), 0)
