# mypy: disable-error-code="arg-type, index, union-attr"
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.base import RequestError
from fedsim.config import Blobs, Dirichlet, Iid, Natural, Published
from fedsim.data import load
from fedsim.data.partition import hold_out, partitions, pool
from fedsim.data.splits import assign

PARTS = ("train", "valid", "test")


def cut(fed, cfg, seed=0):
    return partitions(fed, assign(fed, cfg, seed), cfg, seed)


def check(part, rows):
    """Every row once; counts and offsets agree; rows rise inside a part."""
    assert sorted(part.rows.tolist()) == list(range(rows))
    assert part.rows.dtype == np.int32 and part.offsets.dtype == np.int64
    assert np.array_equal(part.train + part.valid + part.test, np.diff(part.offsets))
    listed = [part.part(which) for which in PARTS]
    assert sorted(np.concatenate([found for found, _ in listed]).tolist()) == list(range(rows))
    for k in range(part.clients):
        block = part.rows[part.offsets[k] : part.offsets[k + 1]]
        mine = np.concatenate([found[owner == k] for found, owner in listed])
        assert np.array_equal(block, mine)
        assert all((np.diff(found[owner == k]) > 0).all() for found, owner in listed)


@st.composite
def populations(draw):
    """(owner, label): some clients tiny, some labels rare."""
    rows = draw(st.integers(12, 80))
    owner = draw(st.lists(st.sampled_from("abcd"), min_size=rows, max_size=rows))
    label = draw(st.lists(st.sampled_from([0, 0, 0, 0, 1, 1, 2]), min_size=rows, max_size=rows))
    return owner, label


@given(data=populations(), seed=st.integers(0, 2**60), test=st.sampled_from([0.0, 0.2, 0.5, 0.8]))
def test_shares(make_federation, data, seed, test):
    fed = make_federation(*data)
    cfg = Natural(test=test, valid=0.15)
    (part,) = cut(fed, cfg, seed)
    check(part, fed.rows)
    sizes = fed.sizes
    assert np.array_equal(np.diff(part.offsets), sizes)
    assert (part.train >= 1).all()
    assert np.array_equal(part.test, np.minimum(np.floor(test * sizes + 0.5), sizes - 1))
    again = cut(fed, cfg, seed)[0]
    assert np.array_equal(part.rows, again.rows)


@given(data=populations(), seed=st.integers(0, 2**60))
def test_shares_are_stratified(make_federation, data, seed):
    fed = make_federation(*data)
    (part,) = cut(fed, Natural(test=0.3), seed)
    rows, owner = part.part("test")
    for k in range(fed.clients):
        held = fed.columns["y"][fed.client_of_row() == k]
        tested = fed.columns["y"][rows[owner == k]]
        counts = np.bincount(held, minlength=3)
        # Within one row of its share, or a row that stays in training because it is alone.
        short = counts * (part.test[k] / len(held)) - np.bincount(tested, minlength=3)
        assert (np.abs(short) < 1 + 1e-9).all()


def test_the_only_row_of_a_label_trains(make_federation):
    fed = make_federation(["a"] * 13, [0] * 10 + [1, 2, 3])
    for seed in range(20):
        rows, _ = cut(fed, Natural(test=0.2), seed)[0].part("test")
        assert (fed.columns["y"][rows] == 0).all() and len(rows) == 3


def test_different_seeds_test_different_rows(hospitals):
    first, second = (set(cut(hospitals, Natural(), s)[0].part("test")[0].tolist()) for s in (0, 1))
    assert len(first) == len(second) == 61 + 59 + 40 + 25
    assert len(first & second) < 80  # 20 % of 185 expected


def test_train_valid_and_test_have_the_same_labels(hospitals):
    (part,) = cut(hospitals, Natural(test=0.25, valid=0.25))
    y = hospitals.columns["y"]
    for k in range(4):
        shares = [y[rows[owner == k]].mean() for rows, owner in map(part.part, PARTS)]
        assert max(shares) - min(shares) < 0.03


@given(data=populations(), seed=st.integers(0, 2**60), folds=st.integers(2, 6))
def test_folds_test_every_row_once(make_federation, data, seed, folds):
    fed = make_federation(*data)
    found = cut(fed, Natural(folds=folds, valid=0.2), seed)
    assert [part.fold for part in found] == list(range(folds))
    tested = np.zeros(fed.rows, np.int64)
    table = np.zeros((folds, fed.clients, 3), np.int64)
    for f, part in enumerate(found):
        check(part, fed.rows)
        rows, owner = part.part("test")
        tested[rows] += 1
        np.add.at(table, (f, owner, fed.columns["y"][rows]), 1)
        trained = np.diff(part.offsets) - part.test
        assert ((part.train >= 1) | (trained == 0)).all()
        assert np.array_equal(
            part.valid, np.clip(np.floor(0.2 * trained + 0.5), 0, np.maximum(trained - 1, 0))
        )
    assert (tested == 1).all()
    for counts in (table, table.sum(axis=2), table.sum(axis=(1, 2))):  # by label, by client, by fold
        assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1


def test_repeats_of_folds_differ(hospitals):
    a, b = (cut(hospitals, Natural(folds=5), seed)[0].part("test")[0] for seed in (0, 1))
    assert not np.array_equal(a, b)
    assert np.array_equal(a, cut(hospitals, Natural(folds=5), 0)[0].part("test")[0])


def test_leave_one_out(make_federation):
    fed = make_federation(list("aaabbbbccz"), [0, 1] * 5, external=["z"])
    found = cut(fed, Natural(leave_one_out=True, valid=0.5))
    assert len(found) == 3
    for k, part in enumerate(found):
        check(part, fed.rows)
        assert part.train[k] == part.valid[k] == 0 and part.test[k] == fed.sizes[k]
        others = [i for i in range(3) if i != k]
        assert (part.train[others] >= 1).all() and (part.test[others] == 0).all()
        assert part.test[3] == 1 and part.train[3] == 0


@pytest.mark.parametrize(
    "cfg", [Natural(valid=0.2), Natural(test=0.0), Natural(folds=2, valid=0.2), Iid(clients=2)]
)
def test_external_clients_are_tested_only(make_federation, cfg):
    fed = make_federation(list("aaaabbbbzzzz"), [0, 1] * 6, external=["z"])
    for part in cut(fed, cfg):
        check(part, fed.rows)
        assert part.external == {2} and part.names[2] == "z"
        assert (part.train[2], part.valid[2], part.test[2]) == (0, 0, 4)
        assert part.train[:2].min() >= 1


def test_published_test_rows_are_tested(make_federation):
    known = np.arange(30) % 3 == 0
    fed = make_federation(["b"] * 10 + ["a"] * 20, np.arange(30) % 2, test=known)
    cfg = Published(test=0.5, valid=0.1)
    (part,) = partitions(fed, assign(fed, cfg, 5), cfg, 5)
    rows, client = part.part("test")
    # Clients are sorted by name, and the mask went with their rows.
    values = fed.columns["x"][rows, 0].astype(int)
    assert sorted(values) == np.flatnonzero(known).tolist()
    assert np.array_equal(client == 1, values < 10)
    assert part.valid.tolist() == [1, 1]
    assert set(part.part("train")[0]).isdisjoint(rows)
    without = make_federation(["a"] * 10, np.arange(10) % 2)
    with pytest.raises(RequestError, match="names none, use split=natural"):
        assign(without, cfg, 5)
    with pytest.raises(RequestError, match=r"split.folds must be 0"):
        Published(folds=5)


def test_works_on_other_splits(hospitals):
    cfg = Dirichlet(clients=6, alpha=0.5, test=0.25)
    assignment = assign(hospitals, cfg, 3)
    (part,) = partitions(hospitals, assignment, cfg, 3)
    check(part, 920)
    for k in range(6):
        block = part.rows[part.offsets[k] : part.offsets[k + 1]]
        assert (assignment.client[block] == k).all()
    assert np.array_equal(part.ids, assignment.ids)


def test_quantities_are_not_stratified(make_federation):
    fed = make_federation(["a"] * 20, np.linspace(0, 1, 20))
    (part,) = cut(fed, Natural(test=0.25))
    check(part, 20)
    assert part.test.tolist() == [5]
    assert hold_out(part, fed.columns["y"], 0.2, 0).valid.tolist() == [3]


@given(data=populations(), seed=st.integers(0, 2**60))
def test_hold_out_moves_a_share_of_the_training_rows(make_federation, data, seed):
    fed = make_federation(*data)
    part = cut(fed, Natural(folds=3, valid=0.1), seed)[1]
    held = hold_out(part, fed.columns["y"], 0.25, seed)
    check(held, fed.rows)
    moved = np.minimum(np.floor(0.25 * part.train + 0.5), np.maximum(part.train - 1, 0))
    assert np.array_equal(held.train, part.train - moved) and np.array_equal(held.valid, part.valid + moved)
    assert np.array_equal(held.part("test")[0], part.part("test")[0])
    assert set(part.part("valid")[0]) <= set(held.part("valid")[0])
    assert np.array_equal(held.rows, hold_out(part, fed.columns["y"], 0.25, seed).rows)
    rows, owner = held.part("train")
    before, before_owner = part.part("train")
    for k in range(fed.clients):
        was = np.bincount(fed.columns["y"][before[before_owner == k]], minlength=3)
        now = np.bincount(fed.columns["y"][rows[owner == k]], minlength=3)
        share = part.train[k] and moved[k] / part.train[k]
        assert (np.abs(was * (1 - share) - now) < 1 + 1e-9).all()


def test_hold_out_depends_on_seed_and_fold(hospitals):
    found = cut(hospitals, Natural(folds=2))
    y = hospitals.columns["y"]
    valid = [hold_out(p, y, 0.25, s).part("valid")[0].tolist() for p, s in ((found[0], 0), (found[0], 1))]
    assert valid[0] != valid[1]
    with pytest.raises(RequestError, match=r"must be in \(0, 1\), got 1"):
        hold_out(found[0], y, 1.0, 0)


def test_pool_holds_everyones_rows(make_federation):
    fed = make_federation(list("aaaabbbbbzz"), [0, 1] * 5 + [0], external=["z"])
    (part,) = cut(fed, Natural(test=0.25, valid=0.25))
    one = pool(part)
    assert one.clients == 1 and one.names == ("pooled",) and len(one.ids) == 1
    for which in PARTS:
        assert np.array_equal(one.part(which)[0], part.part(which)[0])
    assert one.train[0] == part.train.sum()


def test_generated_rows_keep_their_order():
    cfg = Blobs(clients=9, rows_min=1, rows_max=9, test_rows=0)
    fed = load(Blobs(**{**vars(cfg), "mode": "generated"}))
    for split in (Natural(test=0.3, valid=0.2), Natural(test=0.0), Natural(leave_one_out=True)):
        found, resident = cut(fed, split), cut(load(cfg), split)
        assert len(found) == len(resident) == (9 if split.leave_one_out else 1)
        for part, other in zip(found, resident, strict=True):
            assert part.rows is None and other.rows is None
            assert all(np.array_equal(getattr(part, w), getattr(other, w)) for w in PARTS)
            assert np.array_equal(part.train + part.valid + part.test, fed.sizes)
            rows, owner = part.part("test")
            position = rows - fed.offsets[owner]
            assert (position >= part.train[owner] + part.valid[owner]).all()
            assert len(rows) == part.test.sum()
    (part,) = cut(fed, Natural(test=0.3))
    assert (part.train >= 1).all()
    held = hold_out(part, None, 0.5, 0)
    assert held.rows is None and held.valid.sum() > 0 and (held.train >= 1).all()
    assert len(pool(part).rows) == fed.rows
    with pytest.raises(RequestError, match=r"split.folds=3 needs the rows in memory"):
        cut(fed, Natural(folds=3))
    check(cut(load(cfg), Natural(folds=3))[0], fed.rows)


@pytest.mark.parametrize(("late", "count"), [(0.01, 1), (0.3, 2), (0.5, 3), (0.99, 5)])
def test_late_clients_are_drawn_by_seed(make_federation, late, count):
    """Of those that hold rows and are not external; some join late, some do not; rows stay as they were."""
    fed = make_federation(list("aabbccddeeffgg"), [0, 1] * 7, external=["c"])
    found = {}
    for seed in range(20):
        folds = cut(fed, Natural(folds=2, late=late), seed)
        assert len(folds) == 2 and folds[0].late == folds[1].late
        for part, other in zip(folds, cut(fed, Natural(folds=2), seed), strict=True):
            assert np.array_equal(part.rows, other.rows) and np.array_equal(part.train, other.train)
            assert np.array_equal(
                part.federated == 0, (part.train == 0) | np.isin(np.arange(7), [*part.late])
            )
        found[seed] = folds[0].late
    assert {len(drawn) for drawn in found.values()} == {count}
    assert set().union(*found.values()) == set(range(7)) - {2}
    (part,) = cut(fed, Natural(test=0.5, late=late))
    assert hold_out(part, fed.columns["y"], 0.5, 0).late == part.late and not pool(part).late
    made = load(Blobs(clients=9, rows_min=3, rows_max=8, shape=[4], test_rows=0, mode="generated"))
    (part,) = cut(made, Natural(late=late))
    assert part.rows is None and len(part.late) == min(max(1, round(9 * late)), 8)


def test_late_clients_that_cannot_be_are_refused(make_federation):
    fed = make_federation(list("aab"), [0, 1, 1], external=["b"])
    with pytest.raises(RequestError, match=r"split.late=0.5 needs two clients .* got 1; set split.late=0"):
        cut(fed, Natural(late=0.5))
    with pytest.raises(RequestError, match=r"split.late must be in \[0, 1\), got 1"):
        Natural(late=1)
    with pytest.raises(RequestError, match=r"split.test=0 leaves none; raise split.test, or set split.folds"):
        Natural(late=0.5, test=0)
    with pytest.raises(RequestError, match=r"split.late and split.leave_one_out exclude each other"):
        Natural(late=0.5, leave_one_out=True)


def test_requests_that_cannot_be_met_are_refused(make_federation):
    fed = make_federation(list("aab"), [0, 1, 1])
    with pytest.raises(RequestError, match=r"split.folds must be in \[2, 3\].*got 4"):
        cut(fed, Natural(folds=4))
    with pytest.raises(RequestError, match=r"needs 2 to 1000 of them, got 1"):
        cut(make_federation(list("aab"), [0, 1, 1], external=["b"]), Natural(leave_one_out=True))


def test_it_is_fast(hospitals):
    start = time.process_time()
    cfg = Natural(folds=5, valid=0.2)
    assert sum(len(cut(hospitals, cfg, seed)) for seed in range(30)) == 150
    assert time.process_time() - start < 0.6  # 0.05 s on a free core

    fed = load(Blobs(clients=1_000_000, rows_min=10, rows_max=60, mode="generated", test_rows=0))
    start = time.process_time()
    (part,) = cut(fed, Natural(test=0.0))
    assert part.clients == 1_000_000 and part.rows is None and part.names is fed.names
    assert time.process_time() - start < 1.0


# --- patients --------------------------------------------------------------------------------


@st.composite
def persons(draw):
    """(owner, label, person): persons with several rows, some of them at several clients."""
    owner, label = draw(populations())
    person = draw(st.lists(st.integers(0, 15), min_size=len(owner), max_size=len(owner)))
    return owner, label, np.array(person)


def apart(fed, part):
    """Nobody is in two parts; every listed row once."""
    found = [set(fed.person[part.part(which)[0]].tolist()) for which in PARTS]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    assert len(set(part.rows.tolist())) == len(part.rows)
    return found


@given(data=persons(), seed=st.integers(0, 2**60))
def test_patients_are_dealt_with_all_their_rows(make_federation, data, seed):
    owner, label, person = data
    fed = make_federation(owner, label, patient_of_row=person)
    everyone = set(fed.person.tolist())
    (part,) = cut(fed, Natural(test=0.3, valid=0.2, unit="patient"), seed)
    check(part, fed.rows)
    assert set.union(*apart(fed, part)) == everyone
    held = hold_out(part, fed.columns["y"], 0.5, seed)
    check(held, fed.rows)
    assert apart(fed, held)[2] == apart(fed, part)[2]

    folds = cut(fed, Natural(folds=2, valid=0.2, unit="patient"), seed) if len(everyone) > 1 else ()
    for part in folds:
        check(part, fed.rows)
        apart(fed, part)
    tested = [row for part in folds for row in part.part("test")[0].tolist()]
    assert sorted(tested) == (list(range(fed.rows)) if folds else [])


def test_patients_of_clients_outside_do_not_train(make_federation):
    owner, person = list("aaabbbcc"), np.array([1, 2, 3, 2, 4, 4, 3, 5])
    fed = make_federation(owner, [0, 1] * 4, patient_of_row=person, external=("c",))
    (part,) = cut(fed, Natural(test=0.0, unit="patient"))
    rows = fed.person[part.part("train")[0]].tolist()
    assert sorted(rows) == [0, 1, 1, 3, 3]  # who is at c too, is left out at a
    assert sorted(fed.person[part.part("test")[0]].tolist()) == [2, 4]

    fed = make_federation(owner, [0, 1] * 4, patient_of_row=person)
    for part, k in zip(cut(fed, Natural(leave_one_out=True, unit="patient")), range(3), strict=True):
        trained, tested = (set(fed.person[part.part(w)[0]].tolist()) for w in ("train", "test"))
        assert trained and not trained & tested
        assert (part.test > 0).tolist() == [i == k for i in range(3)]


def test_rows_of_one_patient_each_are_dealt_as_rows_are(make_federation, hospitals):
    alone = make_federation(
        np.array(hospitals.names)[hospitals.client_of_row()],
        hospitals.columns["y"],
        patient_of_row=np.arange(hospitals.rows),
    )
    for cfg in (Natural(test=0.3, valid=0.1), Natural(folds=5), Natural(leave_one_out=True)):
        for a, b in zip(cut(alone, cfg), cut(alone, replace(cfg, unit="patient")), strict=True):
            assert np.array_equal(a.rows, b.rows) and np.array_equal(a.test, b.test)


def test_patients_have_to_be_known(hospitals):
    with pytest.raises(RequestError, match=r"split.unit=patient needs .*data.patient=COLUMN"):
        cut(hospitals, Natural(unit="patient"))
