# mypy: disable-error-code="arg-type, index, union-attr"
"""Constants from sums with noise: what they are without it, what a unit adds, how much noise there is."""

import itertools

import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.config import Blobs, Natural, Preprocess
from fedsim.data import load, preprocess, private_moments
from fedsim.data.federation import gather
from fedsim.data.partition import partitions
from fedsim.data.private_moments import Protection, Statistics, _sums, clipped, fit
from fedsim.data.splits import assign

RECORD = Protection("record", "region", 0)
UNIT_BOX = (np.full(3, -1.0), np.full(3, 1.0))


def made(rows=120, seed=0, patients=None):
    """Clients a, b and, outside, z; features on [-4, 4], the last without variation, a fifth missing."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.normal(size=(rows, 4)), -4, 4).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 3] = 1.0
    owner = np.array(["a", "b", "z"])[np.arange(rows) * 3 // rows]
    fed = gather(
        list(owner), {"x": x, "y": np.arange(rows, dtype=np.int32) % 2}, kind="binary", classes=2, licence="",
        source="made", metadata={}, external=["z"], features=("f", "g", "h", "i"), patient_of_row=patients,
    )  # fmt: skip
    cfg = Natural(test=0.25)
    return fed, partitions(fed, assign(fed, cfg, 0), cfg, 0)[0]


@pytest.mark.parametrize(("impute", "standardise"), [("mean", True), ("mean", False), ("zero", True)])
def test_without_noise_they_are_the_exact_constants(impute, standardise):
    fed, part = made()
    cfg = Preprocess(impute=impute, standardise=standardise)
    exact = preprocess.fit(fed.columns["x"], part, cfg)
    noised = fit(fed, part, Preprocess(impute=impute, standardise=standardise, noise_multiplier=1e-12,
                                       range=(-4, 4)), RECORD)  # fmt: skip
    for name in ("impute", "shift", "scale"):
        one, other = getattr(noised, name), getattr(exact, name)
        assert one.shape == other.shape and one.dtype == np.float32
        np.testing.assert_allclose(one[:, :3], other[:, :3], rtol=2e-6, atol=2e-6)
    assert noised.of_client.tolist() == exact.of_client.tolist()


def test_values_outside_the_public_range_count_as_its_ends():
    fed, part = made()
    cfg = Preprocess(noise_multiplier=1e-12, range=(-4, 4), ranges={"g": [-0.5, 0.5]})
    clipped_x = fed.columns["x"].copy()
    clipped_x[:, 1] = np.clip(clipped_x[:, 1], -0.5, 0.5)
    exact = preprocess.fit(clipped_x, part, Preprocess())
    np.testing.assert_allclose(fit(fed, part, cfg, RECORD).scale[0, :3], exact.scale[0, :3], rtol=1e-5)


@pytest.mark.parametrize(("seen", "squares"), list(itertools.product([False, True], repeat=2)))
def test_no_record_moves_the_sums_by_more_than_the_bound(seen, squares):
    """All rows of corners, middles and missing values, and one that reaches the bound."""
    what = Statistics(3, seen, squares, *UNIT_BOX)
    rows = np.array(list(itertools.product([-9.0, -1.0, -0.3, 0.0, 1.0, np.nan], repeat=3)))
    norms = np.linalg.norm(clipped(what.of_rows(rows), what), axis=1)
    assert norms.max() <= what.bound * (1 + 1e-12)
    assert norms.max() == pytest.approx(what.bound)
    np.testing.assert_array_equal(clipped(what.of_rows(rows), what), what.of_rows(rows))


@pytest.mark.parametrize("chunk", [1 << 22, 50])
@pytest.mark.parametrize("unit", ["record", "patient", "client"])
def test_removing_a_unit_moves_the_sums_by_the_bound_at_most(unit, chunk, monkeypatch):
    """Every unit of a small federation is taken out, one at a time."""
    monkeypatch.setattr(private_moments, "CHUNK_VALUES", chunk)
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, (40, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    client = np.repeat([0, 1], 20)
    code = {"record": np.arange(40), "patient": np.arange(40) // 7, "client": np.zeros(40, int)}[unit]
    what = Statistics(3, True, True, *UNIT_BOX)

    def total(kept):
        rows = np.flatnonzero(kept)
        return _sums(x, (rows, client[rows], code[rows]), 2, what, False)

    whole = total(np.ones(40, bool))
    moved = []
    for k, u in {*zip(client.tolist(), code.tolist(), strict=True)}:
        change = total(~((client == k) & (code == u))) - whole
        assert not change[1 - k].any()  # the other region's sums stay
        moved.append(np.linalg.norm(change))
    assert max(moved) <= what.bound * (1 + 1e-9)
    if unit != "record":  # several rows come to more, were they not clipped as one
        assert max(moved) == pytest.approx(what.bound)


def test_a_patients_rows_are_clipped_together():
    """With a patient for every row, patients are records; with one for all, the sums are one row's."""
    fed, part = made(patients=np.arange(120))
    cfg = Preprocess(noise_multiplier=1e-9, range=(-4, 4))
    by_row = fit(fed, part, cfg, RECORD)
    by_patient = fit(fed, part, cfg, Protection("patient", "region", 0))
    np.testing.assert_array_equal(by_row.scale, by_patient.scale)
    doubled, part = made(patients=np.arange(120) // 4)
    other = fit(doubled, part, cfg, Protection("patient", "region", 0))
    assert np.abs(other.shift - by_row.shift).max() > 1e-4
    np.testing.assert_allclose(other.scale[0, :3], by_row.scale[0, :3], rtol=0.3)


def test_the_noise_is_as_large_as_it_is_said_to_be(monkeypatch):
    """What is added to the sums, over 300 seeds: the deviation of one draw a region, or one at the server.

    The sample deviation of 300 x 13 normals is within 5 of its own deviations, 1 / sqrt(2 n), of the truth.
    """
    fed, part = made()
    cfg = Preprocess(noise_multiplier=0.7, range=(-4, 4))
    totals = []
    kept = private_moments.from_sums

    def spy(total, what, noise, fill_zero):
        totals.append((total, noise, what.bound))
        return kept(total, what, noise, fill_zero)

    monkeypatch.setattr(private_moments, "from_sums", spy)
    for where, draws in (("region", 2), ("server", 1)):
        totals.clear()
        for seed in range(300):
            fit(fed, part, cfg, Protection("record", where, seed))
        added = np.stack([t for t, _, _ in totals])
        added = added - added.mean(axis=0)
        said, bound = totals[0][1:]
        assert bound == pytest.approx(np.sqrt(13)) and said == pytest.approx(0.7 * bound * np.sqrt(draws))
        assert added.std() == pytest.approx(said, rel=5 / np.sqrt(2 * added.size))
        correlation = np.corrcoef(added.T) - np.eye(13)
        assert np.abs(correlation).max() < 5 / np.sqrt(300)


def test_noise_follows_from_seed_fold_region_and_rows_alone():
    fed, part = made()
    cfg = Preprocess(noise_multiplier=1.0, range=(-4, 4))
    first, again = fit(fed, part, cfg, RECORD), fit(fed, part, cfg, RECORD)
    np.testing.assert_array_equal(first.shift, again.shift)
    assert (fit(fed, part, cfg, Protection("record", "region", 1)).shift != first.shift).all()
    two = partitions(fed, assign(fed, Natural(folds=2), 0), Natural(folds=2), 0)
    drawn = [private_moments._normals(RECORD, p, "a", 30, 9) for p in two]
    drawn += [private_moments._normals(RECORD, two[0], name, n, 9) for name, n in (("b", 30), ("a", 29))]
    assert len({tuple(d) for d in drawn}) == 4


def test_guards_keep_constants_finite_under_much_noise():
    """Counts that noise makes negative, variances that it makes negative: the public range decides."""
    fed, part = made()
    for seed in range(50):
        found = fit(
            fed, part, Preprocess(noise_multiplier=50.0, range=(-4, 4)), Protection("record", "region", seed)
        )
        assert np.isfinite([found.impute, found.shift, found.scale]).all()
        assert (np.abs(found.shift) <= 4).all()
        assert (found.scale >= 1 / 4).all()
        np.testing.assert_array_equal(found.impute, found.shift)
    what = Statistics(3, True, True, np.array([0.0, 0, 0]), np.array([10.0, 10, 10]))
    #                 rows   seen          sums          squares
    total = np.array([100.0, 100, -3, 100, 20, 7, 100, 30, 2, 100])
    moments = private_moments.from_sums(total, what, 2.0, False)
    np.testing.assert_allclose(moments.fill, [6, 5, 10])
    # 0.3 - 0.2^2; unknown; no variation but what noise may hide.
    np.testing.assert_allclose(moments.deviation, 5 * np.sqrt([0.26, 1.0, 0.02]))


def test_one_hot_features_have_a_range_and_all_others_need_one():
    cfg = Preprocess(noise_multiplier=1.0, ranges={"age": [20, 90]})
    low, high = private_moments.ranges(("age", "cp=none"), 2, cfg)
    assert (low.tolist(), high.tolist()) == ([20, 0], [90, 1])
    with pytest.raises(RequestError, match=r"chol has none; set data\.preprocess\.ranges"):
        private_moments.ranges(("age", "chol"), 2, cfg)
    with pytest.raises(RequestError, match=r"ranges\.age names no feature"):
        private_moments.ranges(("sex",), 1, cfg)


def test_pictures_have_a_common_range_and_generated_rows_none():
    fed = load(Blobs(clients=5, shape=(3, 3), dtype="uint8"))
    (part,) = partitions(fed, assign(fed, Natural(), 0), Natural(), 0)
    cfg = Preprocess(noise_multiplier=1e-9, range=(0, 255))
    exact = preprocess.fit(fed.columns["x"], part, Preprocess())
    np.testing.assert_allclose(fit(fed, part, cfg, RECORD).scale, exact.scale, rtol=1e-5)
    generated = load(Blobs(clients=5, mode="generated"))
    with pytest.raises(RequestError, match="needs the rows in memory"):
        fit(generated, part, cfg, RECORD)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_multiplier": 0.0}, r"noise_multiplier must be in \(0, inf\), got 0"),
        ({"impute": "median"}, "33 rounds of counts.*set data.preprocess.impute=mean"),
        ({"scope": "pooled"}, "set data.preprocess.scope=federated"),
        ({"scope": "client"}, "set data.preprocess.scope=federated"),
        ({"judged": "client"}, "data.preprocess.judged=same"),
        ({"range": (1, 0)}, r"range must be two numbers.*write data.preprocess.range=\[0, 1\]"),
        ({"ranges": {"age": [3]}}, "ranges.age must be two numbers"),
    ],
)
def test_what_noise_does_not_fit_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        Preprocess(**{"noise_multiplier": 1.0} | options)
