# mypy: disable-error-code="arg-type, index, union-attr"
import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fedsim.base import RequestError
from fedsim.config import Blobs, Natural, Preprocess
from fedsim.data import load
from fedsim.data.federation import gather
from fedsim.data.partition import partitions
from fedsim.data.preprocess import fit
from fedsim.data.splits import assign


def features(rows, seed=0):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(rows, 4)) * [1, 50, 0.01, 1] + [0, 1000, 5, 0]).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 3] = 7.0  # never varies, never missing
    return x


@pytest.fixture(scope="module")
def case(make_federation):
    """A federation with an external client z, and its partition."""
    owner = list("a" * 60 + "b" * 40 + "z" * 20)
    fed = make_federation(owner, [0, 1] * 60, features(120), external=["z"])
    cfg = Natural(test=0.25)
    return fed, partitions(fed, assign(fed, cfg, 0), cfg, 0)[0]


def apply(constants, x, owner):
    i = constants.of_client[owner]
    filled = np.where(np.isnan(x), constants.impute[i], x)
    return (filled - constants.shift[i]) * constants.scale[i]


@pytest.mark.parametrize("scope", ["federated", "pooled"])
@pytest.mark.parametrize("impute", ["mean", "median", "zero"])
def test_shared_constants_are_those_of_all_training_rows(case, scope, impute):
    fed, part = case
    constants = fit(fed.columns["x"], part, Preprocess(scope=scope, impute=impute))
    assert constants.impute.shape == (1, 4) and constants.impute.dtype == np.float32
    assert constants.of_client.tolist() == [0, 0, 0]
    strategy = {"strategy": "constant", "fill_value": 0.0} if impute == "zero" else {"strategy": impute}
    model = make_pipeline(SimpleImputer(**strategy), StandardScaler())
    rows, owner = part.part("train")
    x = fed.columns["x"].astype(np.float64)
    model.fit(x[rows])
    everyone = fed.client_of_row()
    np.testing.assert_allclose(apply(constants, x, everyone), model.transform(x), rtol=2e-4, atol=2e-4)
    assert len(rows) == 45 + 30 and 2 not in owner


def test_federated_and_pooled_constants_are_the_same_numbers(case):
    fed, part = case
    federated, pooled = (fit(fed.columns["x"], part, Preprocess(scope=s)) for s in ("federated", "pooled"))
    for name in ("impute", "shift", "scale"):
        np.testing.assert_allclose(getattr(federated, name), getattr(pooled, name), rtol=1e-6)


@pytest.mark.parametrize("impute", ["mean", "median"])
def test_each_client_its_own_constants(case, impute):
    fed, part = case
    constants = fit(fed.columns["x"], part, Preprocess(scope="client", impute=impute))
    assert constants.of_client.tolist() == [0, 1, 2]
    x, owner = fed.columns["x"].astype(np.float64), fed.client_of_row()
    for k in range(3):
        rows, of = part.part("train")
        # The external client has no training rows: all its rows, but none of its labels.
        own = x[rows[of == k]] if k < 2 else x[owner == 2]
        model = make_pipeline(SimpleImputer(strategy=impute), StandardScaler()).fit(own)
        mine = owner == k
        expected = model.transform(x[mine])
        np.testing.assert_allclose(apply(constants, x[mine], owner[mine]), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("impute", ["mean", "median", "zero"])
def test_a_feature_that_a_client_lacks_takes_the_federated_constants(make_federation, impute):
    x = features(60)
    x[:30, 0] = np.nan  # client a never measures it
    fed = make_federation(list("a" * 30 + "b" * 30), [0, 1] * 30, x)
    (part,) = partitions(fed, assign(fed, Natural(), 0), Natural(test=0.0), 0)
    own = fit(x, part, Preprocess(scope="client", impute=impute))
    shared = fit(x, part, Preprocess(impute=impute))
    for name in ("impute", "shift", "scale"):
        assert getattr(own, name)[0, 0] == getattr(shared, name)[0, 0]
        assert np.isfinite(getattr(own, name)).all()
    assert own.shift[0, 1] != shared.shift[0, 1]


@pytest.mark.parametrize("scope", ["federated", "client", "pooled"])
def test_what_is_kept_missing_has_no_say(case, scope):
    """Missing values stay, and the others have mean 0 and deviation 1 by themselves."""
    fed, part = case
    constants = fit(fed.columns["x"], part, Preprocess(scope=scope, impute="keep"))
    assert np.isnan(constants.impute).all()
    x, (rows, of), owner = fed.columns["x"].astype(np.float64), part.part("train"), fed.client_of_row()
    for k in range(2):
        own = x[rows[of == k]] if scope == "client" else x[rows]
        expected = StandardScaler().fit(own).transform(x[owner == k])
        made = apply(constants, x[owner == k], owner[owner == k])
        np.testing.assert_allclose(made, expected, rtol=2e-4, atol=2e-4)  # NaN in the same places
    assert np.isnan(made).any() and not np.isnan(made).all()


@pytest.mark.parametrize("scope", ["federated", "client", "pooled"])
def test_constant_and_absent_features_come_out_as_zero(make_federation, scope):
    x = features(40)
    x[:, 0] = np.nan
    x[:, 2] = np.float32(0.1)  # whose mean is not exact in binary
    fed = make_federation(list("a" * 20 + "b" * 20), [0, 1] * 20, x)
    (part,) = partitions(fed, assign(fed, Natural(), 0), Natural(), 0)
    constants = fit(x, part, Preprocess(scope=scope))
    made = apply(constants, x, fed.client_of_row())
    assert np.abs(made[:, [0, 2, 3]]).max() < 1e-6
    assert (constants.scale[:, [0, 2, 3]] == 1).all()


def test_only_training_rows_count(case):
    fed, part = case
    before = fit(fed.columns["x"], part, Preprocess())
    changed = fed.columns["x"].copy()
    changed[part.part("test")[0]] = 1e6
    after = fit(changed, part, Preprocess())
    assert np.array_equal(before.shift, after.shift) and np.array_equal(before.scale, after.scale)
    changed[part.part("train")[0][0]] = 1e6
    assert not np.array_equal(before.shift, fit(changed, part, Preprocess()).shift)


def test_impute_or_standardise_alone(case):
    fed, part = case
    only = fit(fed.columns["x"], part, Preprocess(standardise=False))
    assert (only.shift == 0).all() and (only.scale == 1).all()
    rows, _ = part.part("train")
    np.testing.assert_allclose(only.impute[0], np.nanmean(fed.columns["x"][rows], axis=0), rtol=1e-5)
    x = np.nan_to_num(fed.columns["x"])
    plain = fit(x, part, Preprocess(impute="none"))
    np.testing.assert_allclose(plain.shift[0], x[rows].mean(axis=0, dtype=np.float64), rtol=1e-5)
    assert fit(x, part, Preprocess(impute="none", standardise=False)) is None


def test_chunks_do_not_change_the_constants(case, monkeypatch):
    fed, part = case
    whole = [fit(fed.columns["x"], part, Preprocess(scope=s)) for s in ("federated", "client", "pooled")]
    monkeypatch.setattr("fedsim.data.preprocess.CHUNK_VALUES", 28)
    for scope, one in zip(("federated", "client", "pooled"), whole, strict=True):
        again = fit(fed.columns["x"], part, Preprocess(scope=scope))
        np.testing.assert_allclose(again.scale, one.scale, rtol=1e-6)
        np.testing.assert_allclose(again.shift, one.shift, rtol=1e-6)


def test_pictures_and_generated_rows():
    cfg = Blobs(clients=5, shape=(3, 3), dtype="uint8")
    fed = load(cfg)
    (part,) = partitions(fed, assign(fed, Natural(), 0), Natural(), 0)
    assert fit(fed.columns["x"], part, Preprocess(standardise=False)) is None
    constants = fit(fed.columns["x"], part, Preprocess())
    assert constants.shift.shape == (1, 3, 3)
    rows, _ = part.part("train")
    made = apply(constants, fed.columns["x"][rows].astype(np.float32), np.zeros(len(rows), int))
    np.testing.assert_allclose(made.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(made.std(axis=0), 1, atol=1e-3)
    made = load(Blobs(clients=5, shape=(3, 3), dtype="uint8", mode="generated"))
    assert made.columns is None and fit(made.x, part, cfg.preprocess) is None
    again = fit(made.x, part, Preprocess())
    for name in ("impute", "shift", "scale"):
        np.testing.assert_array_equal(getattr(again, name), getattr(constants, name))
    with pytest.raises(RequestError, match=r"impute=median needs all rows at once, and data.mode=generated"):
        fit(load(Blobs(clients=5, mode="generated")).x, part, Preprocess(impute="median"))


def bisected(values, client):
    """The median of float32 values, NaN apart, when clients only ever send how many of theirs lie at or
    below a threshold, which is bisected in the values' own order: 33 rounds."""
    mine = [
        v[~np.isnan(v)].view(np.int32).astype(np.int64) for v in (values[client == c] for c in set(client))
    ]
    mine = [np.where(bits < 0, -(bits + 2**31), bits) for bits in mine]
    n, found = sum(map(len, mine)), []
    for rank in ((n - 1) // 2, n // 2):
        low, high = -(2**31), 2**31
        while low < high:
            middle = (low + high) >> 1
            enough = sum(int((order <= middle).sum()) for order in mine) > rank
            low, high = (low, middle) if enough else (middle + 1, high)
        found.append(np.array(-low - 2**31 if low < 0 else low).astype(np.int32).view(np.float32))
    return np.float32(np.mean(np.array(found, np.float64)))


def test_medians_are_what_counts_below_thresholds_give():
    """For negative, repeated, tiny and missing values, and for both zeros; and np.nanmedian's value."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(101, 6)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1])
    x[:, 2] *= np.float32(1e-40)  # subnormal
    x[:, 3] = -np.abs(x[:, 3]) * 1e30
    x[rng.random(x.shape) < 0.3] = np.nan
    x[:, 4] = np.where(x[:, 4] > 1, x[:, 4], np.float32(-0.0))
    x[:, 5] = np.nan
    fed = gather(
        [f"c{i % 3}" for i in range(101)],
        {"x": x, "y": np.arange(101, dtype=np.int32) % 2},
        kind="binary", classes=2, licence="", source="made", metadata={},
    )  # fmt: skip
    part = partitions(fed, assign(fed, Natural(test=0.0), 0), Natural(test=0.0), 0)[0]
    constants = fit(fed.columns["x"], part, Preprocess(impute="median", standardise=False))
    counted = [bisected(x[:, i], np.arange(101) % 3) for i in range(5)]
    np.testing.assert_array_equal(constants.impute[0, :5].view(np.int32), np.array(counted).view(np.int32))
    expected = np.nanmedian(x[:, :5].astype(np.float64), axis=0)
    np.testing.assert_allclose(constants.impute[0, :5], expected.astype(np.float32), rtol=1e-7)
    assert constants.impute[0, 5] == 0
