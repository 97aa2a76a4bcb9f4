# mypy: disable-error-code="arg-type, index, union-attr"
import dataclasses
import errno
import pickle
import shutil
import tracemalloc
from importlib import import_module
from multiprocessing import get_context

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.config import Blobs, Digits, Natural, Synthetic
from fedsim.data import load
from fedsim.data.blobs import BlobRows, materialise, stored
from fedsim.data.partition import partitions
from fedsim.data.splits import assign

FLOATS = Blobs(clients=50, shape=(7,), classes=3, separation=2.0, seed=5)
PICTURES = Blobs(clients=20, shape=(4, 4, 3), classes=10, dtype="uint8", seed=2**40 + 3)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def keys(cfg, count=512):
    rng = np.random.default_rng(0)
    return rng.integers(0, cfg.clients, count, np.uint32), rng.integers(0, 2**32, count, np.uint32)


@pytest.mark.parametrize("cfg", [FLOATS, PICTURES])
def test_numpy_and_compiled_programs_make_the_same_bits(cfg):
    rows = BlobRows(cfg)
    client, position = keys(cfg)
    host = rows.rows(np, client, position)
    made = jax.jit(lambda c, p: rows.rows(jnp, c, p))(client, position)
    for key, value in host.items():
        assert made[key].dtype == value.dtype and np.array_equal(made[key], value)
    assert host["x"].shape == (512, *cfg.shape) and host["x"].dtype == cfg.dtype
    assert host["y"].dtype == np.int32


@pytest.mark.parametrize("cfg", [FLOATS, PICTURES])
def test_bits_survive_vmap_and_fusion(cfg):
    """Rows made one at a time, inside a loop over steps, next to arithmetic that invites fusing."""
    rows = BlobRows(cfg)
    client, position = keys(cfg, 64)
    host = rows.rows(np, client, position)

    def one(c, p):
        def step(i, carry):
            total, _ = carry
            row = rows.rows(jnp, c, p)
            x = row["x"].astype(jnp.float32)
            return total * np.float32(0.5) + x * np.float32(1.7) + row["y"], row["x"]

        zero = jnp.zeros(cfg.shape, jnp.float32), jnp.zeros(cfg.shape, rows.dtype)
        total, x = jax.lax.fori_loop(0, 3, step, zero)
        return total, x, rows.rows(jnp, c, p)["y"]

    _, x, y = jax.jit(jax.vmap(one))(client, position)
    assert np.array_equal(x, host["x"]) and np.array_equal(y, host["y"])


def test_modes_agree(cache):
    resident = load(FLOATS)
    generated, streamed = (load(dataclasses.replace(FLOATS, mode=m)) for m in ("generated", "streamed"))
    assert isinstance(streamed.columns["x"], np.memmap) and streamed.fingerprint == resident.fingerprint
    assert generated.columns is None and generated.fingerprint == resident.fingerprint
    assert np.array_equal(generated.ids, resident.ids) and resident.ids.tolist() == list(range(51))
    assert np.array_equal(generated.offsets, resident.offsets)
    k = resident.client_of_row().astype(np.uint32)
    position = (np.arange(resident.rows) - resident.offsets[k]).astype(np.uint32)
    made = generated.generate.rows(np, k, position)
    for key in ("x", "y"):
        assert np.array_equal(made[key], resident.columns[key])
        assert np.array_equal(streamed.columns[key], resident.columns[key])
    some = np.random.default_rng(0).integers(0, resident.rows, 1000)
    assert np.array_equal(generated.labels_of(some), resident.labels_of(some))
    assert np.array_equal(resident.labels_of(some), resident.columns["y"][some])
    again = pickle.loads(pickle.dumps(generated.generate))
    assert again == generated.generate and hash(again) == hash(generated.generate)


def test_chunks_and_files_hold_the_same_rows(tmp_path, monkeypatch):
    whole = materialise(BlobRows(FLOATS))
    folder = tmp_path / "rows"
    monkeypatch.setattr(import_module("fedsim.data.blobs"), "CHUNK_VALUES", 97)
    rows = BlobRows(FLOATS)
    found = stored(rows, folder)
    assert isinstance(found["x"], np.memmap)
    assert sorted(p.name for p in folder.iterdir()) == ["lock", "x.npy", "y.npy"]
    written = (folder / "x.npy").stat().st_mtime_ns
    stored(rows, folder)
    assert (folder / "x.npy").stat().st_mtime_ns == written
    offsets = np.concatenate([[0], np.cumsum(rows.sizes)])
    part = materialise(rows, range(10, 20))
    for key in ("x", "y"):
        assert np.array_equal(found[key], whole[key])
        assert np.array_equal(part[key], whole[key][offsets[10] : offsets[20]])


def test_one_of_many_writers_writes(cache):
    """Two processes ask at once: all see whole files, and no leftover remains."""
    with get_context("spawn").Pool(2) as pool:
        sums = set(pool.map(_sum_of_stored, [FLOATS] * 2))
    assert sums == {float(load(FLOATS).columns["x"].sum(dtype=np.float64))}
    assert not list(cache.rglob("*.partial"))


def _sum_of_stored(cfg):
    fed = load(dataclasses.replace(cfg, mode="streamed"))
    return float(fed.columns["x"].sum(dtype=np.float64))


def test_what_a_killed_writer_left_is_written_again(tmp_path):
    rows = BlobRows(FLOATS)
    whole = materialise(rows)
    np.save(tmp_path / "x.npy", whole["x"])
    (tmp_path / "x.partial").write_bytes(b"half")
    (tmp_path / "y.partial").write_bytes(b"half")
    found = stored(rows, tmp_path)
    assert np.array_equal(found["y"], whole["y"]) and not list(tmp_path.glob("*.partial"))


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    module = import_module("fedsim.data.blobs")
    room = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda folder: room)
        with pytest.raises(RequestError, match=r"needs 0.0 GB in .* left; free some, set XDG_CACHE_HOME"):
            stored(BlobRows(FLOATS), tmp_path)

    def full(*arguments):
        yield 0, {"y": np.zeros(3, np.int32)}
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_pieces", full)
    with pytest.raises(RequestError, match="No space left on device; free some"):
        stored(BlobRows(FLOATS), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock"]


@pytest.mark.parametrize("mode", ["resident", "streamed", "generated"])
def test_holdout_is_an_external_client_after_the_last(cache, mode):
    fed = load(dataclasses.replace(FLOATS, mode=mode))
    assert fed.clients == 51 and fed.external == {50} and fed.names[50] == "holdout"
    assert fed.sizes[50] == 1000 and fed.names[:2] == ("client_000", "client_001")
    beyond = BlobRows(FLOATS).rows(np, np.array([50], np.uint32), np.array([999], np.uint32))
    assert fed.labels_of(np.array([fed.rows - 1])) == beyond["y"]
    if fed.columns is not None:
        assert np.array_equal(fed.columns["x"][-1:], beyond["x"])
    part = partitions(fed, assign(fed, Natural(test=0.2), 0), Natural(test=0.2), 0)[0]
    assert part.external == {50} and (part.train[50], part.test[50]) == (0, 1000)
    none = load(dataclasses.replace(FLOATS, mode=mode, test_rows=0))
    assert none.clients == 50 and none.external == frozenset() and none.names[-1] == "client_049"
    assert none.fingerprint != fed.fingerprint


@pytest.mark.parametrize("source", [Digits(mode="generated"), Synthetic(mode="generated")])
def test_stored_rows_are_not_generated(source):
    with pytest.raises(RequestError, match=r"data.mode=generated needs a source that makes its rows"):
        load(source)


def test_features_are_unit_gaussians_around_the_centres():
    cfg = Blobs(clients=400, rows_min=100, rows_max=100, shape=(5,), classes=4, separation=3.0, test_rows=0)
    rows = BlobRows(cfg)
    made = materialise(rows)
    np.testing.assert_allclose(np.bincount(made["y"]) / 40_000, 0.25, atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(rows.tables[0], axis=1), 3.0, rtol=1e-6)
    for c in range(4):
        x = made["x"][made["y"] == c]
        np.testing.assert_allclose(x.mean(axis=0), rows.tables[0][c], atol=0.05)
        np.testing.assert_allclose(np.cov(x.T), np.eye(5), atol=0.06)
    noise = made["x"] - rows.tables[0][made["y"]]
    nearby = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]  # neighbours in one client
    assert abs(nearby) < 0.01
    assert abs(np.mean(noise**3)) < 0.02 and np.mean(noise**4) == pytest.approx(3.0, abs=0.1)


def test_pictures_have_their_mean_and_deviation():
    x = materialise(BlobRows(PICTURES))["x"].astype(np.float64)
    assert x.mean() == pytest.approx(128, abs=2) and x.std() == pytest.approx(32, abs=2)


def test_no_two_rows_of_a_large_population_agree():
    rows = BlobRows(Blobs(clients=50_000, rows_min=20, rows_max=20, shape=(4,), test_rows=0))
    x = materialise(rows)["x"]
    assert len(np.unique(x.view([("", x.dtype)] * 4))) == 1_000_000


def test_another_seed_makes_other_rows():
    client, position = keys(FLOATS)
    first = BlobRows(FLOATS).rows(np, client, position)["x"]
    for seed in (6, 5 + 2**32):
        other = BlobRows(Blobs(**{**vars(FLOATS), "seed": seed}))
        assert (other.rows(np, client, position)["x"] == first).mean() < 0.01
        assert not np.array_equal(other.sizes, BlobRows(FLOATS).sizes)


def test_sizes_follow_their_law():
    flat = BlobRows(Blobs(clients=100_000, rows_min=10, rows_max=19, test_rows=0)).sizes
    assert flat.dtype == np.int32
    np.testing.assert_allclose(np.bincount(flat, minlength=20)[10:] / 1e5, 0.1, atol=0.005)
    skewed = BlobRows(Blobs(clients=100_000, rows_min=10, rows_max=1000, skew=1.5, test_rows=0)).sizes
    assert skewed.min() >= 10 and skewed.max() <= 1000
    n = np.arange(10, 1001)
    expected = (n * n**-1.5).sum() / (n**-1.5).sum()
    assert skewed.mean() == pytest.approx(expected, rel=0.02)


def test_a_million_clients_cost_nothing():
    tracemalloc.start()
    fed = load(Blobs(clients=1_000_000, mode="generated", rows_min=10, rows_max=60, shape=(30,)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40e6  # bytes, so 40 a client: numbers, and no row, name or object of it
    assert fed.clients == 1_000_001 and fed.names[999_999] == "client_999999"


def test_bad_requests_are_refused():
    with pytest.raises(RequestError, match=r"data.classes must be <= 65536"):
        BlobRows(Blobs(classes=70_000))
