"""The private oracle: Poisson lots, sums that are split as one likes, noise as told, and what it refuses."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedsim import config, keys, tasks
from fedsim.algorithms import ALGORITHMS
from fedsim.config import RecordPrivacy
from fedsim.local import Batches, Refused, Rows, Window, lots, plain, private
from fedsim.local.private import noise
from fedsim.model import Batch, Model, Spec
from fedsim.simulate.answers import count, counting
from fedsim.simulate.build import program_structure
from tests.golden.families import METHODS
from tests.golden.reference import Loop, Vector, clients_of
from tests.simulate import small
from tests.simulate.quick import jit
from tests.simulate.small import flat

# --- lots ------------------------------------------------------------------------------------


@cache
def drawn(count: int, expected: int, times: int) -> np.ndarray:
    """bool[times, count]: which units are in each of so many lots; every unit at most once."""
    room = lots.places(expected)
    key = jax.random.key(5)
    index, size = jit(
        jax.vmap(lambda i: lots.draw(jax.random.fold_in(key, i), jnp.int32(count), expected, room))
    )(jnp.arange(times, dtype=jnp.uint32))
    index, size = np.asarray(index, np.int64), np.asarray(size)
    used = np.arange(room) < size[:, None]
    assert (index[used] < count).all()
    assert (np.diff(index, axis=1)[used[:, 1:]] > 0).all()
    inside = np.zeros((times, count), bool)
    inside[np.nonzero(used)[0], index[used]] = True
    return inside


@pytest.mark.long
def test_every_unit_is_in_a_lot_by_itself() -> None:
    """Each with the same probability, any two independently, and so the size is binomial."""
    count, expected, times = 23, 4, 20_000
    inside, q = drawn(count, expected, times), 4 / 23
    off = (inside.mean(axis=0) - q) / np.sqrt(q * (1 - q) / times)
    assert np.abs(off).max() < 5
    together = np.cov(inside.T.astype(np.float64)) / (q * (1 - q))
    assert np.abs(together[~np.eye(count, dtype=bool)]).max() < 6 / np.sqrt(times)
    sizes = np.bincount(inside.sum(axis=1), minlength=count + 1)
    wanted = times * stats.binom(count, q).pmf(np.arange(count + 1))
    likely = wanted > 5
    assert (
        stats.chisquare(sizes[likely], wanted[likely] * sizes[likely].sum() / wanted[likely].sum()).pvalue
        > 1e-6
    )
    assert sizes[0] > 0  # lots without a unit are lots too


def test_a_small_client_is_in_whole() -> None:
    assert drawn(3, 4, 50).all()


@pytest.mark.parametrize("expected", [1, 4, 20, 256])
def test_lots_fit_their_places(expected: int) -> None:
    room = lots.places(expected)
    assert stats.poisson(expected).sf(room) <= lots.OVERFLOW < stats.poisson(expected).sf(room - 1)
    assert stats.poisson(expected).sf(lots.usual(expected)) < 0.1


# --- answers ---------------------------------------------------------------------------------

FEATURES, ROWS = 3, 21
RNG = np.random.default_rng(0)
TABLE = {
    "x": RNG.normal(size=(ROWS, FEATURES)).astype(np.float32),
    "y": RNG.integers(0, 2, ROWS).astype(np.int32),
    "patient": np.sort(RNG.integers(10, 17, ROWS)).astype(np.int32),
}
TASK = tasks.build(config.Logistic(init="normal", l2=0.1), Spec((FEATURES,), "binary", 2), "float32")


def batches(size: int, rows: int = ROWS) -> Batches:
    def take(window: Window, position: Any) -> dict[str, Any]:
        return {name: jnp.asarray(column)[position.astype(jnp.int32)] for name, column in TABLE.items()}

    zero = jnp.zeros((), jnp.int32)
    window = Window(zero, zero + rows, zero.astype(jnp.uint32), ())
    return Batches(Rows(take, jnp.float32), window, zero, size, jax.random.key(1), lots=True)


@cache
def answered(size: int, whole: bool = False, **options: Any) -> Any:
    """Compiled: (model, key, clip, multiplier) -> two answers to the same question."""

    def run(model: Model, key: Any, clip: Any, multiplier: Any) -> Any:
        cfg = RecordPrivacy(**options)
        for name, value in (("clip_norm", clip), ("noise_multiplier", multiplier)):
            object.__setattr__(cfg, name, value)
        oracle, mine = private(TASK, cfg, "fedavg"), batches(size)
        if whole:
            return tuple(oracle.full_gradient(model, mine, key) for _ in range(2))
        return tuple(oracle.gradient(model, mine.take(jnp.int32(0)), key)[0] for _ in range(2))

    return jit(run)


MODEL = Model({"head": {"kernel": jnp.float32([[0.3, -1.0, 0.5]]), "bias": jnp.float32([0.2])}}, ())
KEY = jax.random.key(7)
HUGE = jnp.float32(1e9)


@pytest.mark.long
def test_microbatches_add_up() -> None:
    """A lot is the same lot, however many of its rows are read at once."""
    whole, split = (
        answered(5, microbatch=m)(MODEL, KEY, jnp.float32(0.4), jnp.float32(0.0))[0] for m in (0, 2)
    )
    np.testing.assert_allclose(flat(split), flat(whole), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("size", "whole", "form"), [(ROWS, False, "vmap"), (4, True, "ghost")])
def test_without_clip_and_noise_an_answer_is_the_plain_one(size: int, whole: bool, form: str) -> None:
    """Of a lot of all rows, and of all rows."""
    expected = flat(plain(TASK).full_gradient(MODEL, batches(0), None))
    found, _ = answered(size, whole, form=form, microbatch=6)(MODEL, KEY, HUGE, jnp.float32(0.0))
    np.testing.assert_allclose(flat(found), expected, rtol=1e-5, atol=1e-7)


def test_the_sum_is_divided_by_what_a_lot_has_on_average() -> None:
    """Whatever this lot has: a unit's share does not tell how many others there are."""
    run = answered(5)
    found = np.stack(
        [flat(run(MODEL, jax.random.fold_in(KEY, i), HUGE, jnp.float32(0.0))[0]) for i in range(300)]
    )
    full = flat(plain(TASK).full_gradient(MODEL, batches(0), None))
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - full) < 5 * error).all()
    penalty = flat(jax.grad(lambda w: TASK.penalty(Model(w, ())))(MODEL.params))
    rows = [flat(plain(TASK).gradient(MODEL, _only(i), None)[0]) - penalty for i in range(ROWS)]
    index, size = lots.draw(
        jax.random.fold_in(keys.apart(KEY, 0), 0), jnp.int32(ROWS), 5, -(-lots.places(5) // 8) * 8
    )
    mine = [rows[int(i)] for i in index[: int(size)]]
    first, second = run(MODEL, KEY, HUGE, jnp.float32(0.0))
    np.testing.assert_allclose(flat(first), sum(mine) / 5 + penalty, rtol=1e-4, atol=1e-6)
    assert not np.allclose(flat(first), flat(second))  # a lot of its own for every answer


def _only(i: int) -> Batch:
    return {name: jnp.asarray(x[i : i + 1]) for name, x in TABLE.items()} | {"mask": jnp.ones(1, bool)}


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    tree = {"a": jnp.zeros((100, 90), jnp.float32), "b": jnp.zeros(1000, jnp.float32)}
    cfg = RecordPrivacy(clip_norm=3.0, noise_multiplier=0.5)
    x = flat(noise(tree, cfg, KEY)) / 1.5
    n = len(x)
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / n)
    assert stats.kstest(x, "norm").pvalue > 1e-6
    y = flat(noise(tree, cfg, jax.random.fold_in(KEY, 1))) / 1.5
    assert abs(np.mean(x * y)) < 5 / np.sqrt(n)
    assert abs(np.mean(x[1:] * x[:-1])) < 5 / np.sqrt(n)


def test_every_answer_has_noise_of_its_own_on_the_sum() -> None:
    """Two to one question with one key, in one program; other keys; and both with deviation z C / lot."""
    run = answered(5)
    clip, z = jnp.float32(1e-4), jnp.float32(1e4)
    penalty = flat(jax.grad(lambda w: TASK.penalty(Model(w, ())))(MODEL.params))
    found = (
        np.array(
            [[flat(a) - penalty for a in run(MODEL, jax.random.fold_in(KEY, i), clip, z)] for i in range(400)]
        )
        * 5
    )
    values = found.reshape(-1)
    assert len(np.unique(values)) == len(values)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / len(values)) + 1e-3
    assert abs(np.mean(found[:, 0] * found[:, 1])) < 5 / np.sqrt(found[:, 0].size)


# --- patients --------------------------------------------------------------------------------


def test_a_patient_is_in_a_lot_with_all_rows_or_none() -> None:
    codes = TABLE["patient"]
    most = int(np.bincount(codes).max())
    mine = batches(3)
    units = lots.units(mine, most)
    assert (units.number, units.first) == (codes.max() - codes.min() + 1, codes.min())
    used = np.array([True, False, True, True])
    index = jnp.uint32([0, 1, 3, int(units.number) - 1])
    batch = lots.read(mine, units, index, jnp.asarray(used))
    mask, rows = np.asarray(batch["mask"]), np.asarray(batch["x"])
    for u, (number, there) in enumerate(zip(np.asarray(index), used, strict=True)):
        here = slice(u * most, (u + 1) * most)
        wanted = TABLE["x"][codes == codes.min() + number] if there else TABLE["x"][:0]
        np.testing.assert_array_equal(rows[here][mask[here]], wanted)
    few = lots.read(mine, lots.units(mine, 1), index, jnp.asarray(used))  # the first row of each
    firsts = [
        np.flatnonzero(codes == codes.min() + int(i)) for i, there in zip(index, used, strict=True) if there
    ]
    np.testing.assert_array_equal(
        np.asarray(few["x"])[np.asarray(few["mask"])], TABLE["x"][[at[0] for at in firsts if len(at)]]
    )


def test_all_patients_are_all_rows() -> None:
    most = int(np.bincount(TABLE["patient"]).max())
    run = answered(0, unit="patient", rows_per_patient=most)
    found, _ = run(MODEL, KEY, HUGE, jnp.float32(0.0))
    expected = flat(plain(TASK).full_gradient(MODEL, batches(0), None))
    penalty = flat(jax.grad(lambda w: TASK.penalty(Model(w, ())))(MODEL.params))
    patients = TABLE["patient"].max() - TABLE["patient"].min() + 1
    np.testing.assert_allclose(flat(found), (expected - penalty) * ROWS / patients + penalty, rtol=1e-5)


# --- in a run --------------------------------------------------------------------------------

NOISY = {"name": "record", "clip_norm": 0.8, "noise_multiplier": 0.5}
QUIET = {"name": "record", "clip_norm": 1e9, "noise_multiplier": 0.0}


class Private(Loop):
    """Local steps of DP-SGD, one row at a time; lots and normals are those of the run."""

    seen: list[float]

    def local(self, k: int, w: Vector, rnd: int, correct: Any = None) -> Vector:
        client, e = self.clients[k], self.e
        assert isinstance(e.privacy, RecordPrivacy)
        seed, b = jnp.asarray(keys.seed_words(e.seed)), e.optimizer.batch_size
        mine = keys.client_key(seed, keys.TRAIN, jnp.int32(rnd), jnp.asarray(client.ident))
        for step in range(-(-client.n // b) * e.optimizer.epochs):
            own = keys.apart(keys.step_key(mine, jnp.int32(step)), 0)
            index, size = _draw(jax.random.fold_in(own, 0), client.n, b)
            total = np.zeros_like(w)
            for i in index[:size]:
                z = client.x[i] @ w[:-1] + w[-1]
                g = np.append(client.x[i], 1.0) * (1 / (1 + np.exp(-z)) - client.y[i])
                total += g * min(1.0, e.privacy.clip_norm / np.linalg.norm(g))
            normals = np.asarray(
                jax.random.normal(jax.random.fold_in(own, 1), w.shape, jnp.float32), np.float64
            )
            self.seen.append(float(normals[0]))
            total += e.privacy.noise() * e.privacy.clip_norm * np.append(normals[1:], normals[0])
            w = w - self.step_size(rnd) * (total / min(b, client.n) + e.task.l2 * np.append(w[:-1], 0))
        return w


def _draw(key: Any, count: int, expected: int) -> tuple[np.ndarray, int]:
    m = lots.usual(expected)
    index, size = lots.draw(key, jnp.int32(count), expected, -(-lots.places(expected) // m) * m)
    return np.asarray(index), int(size)


@cache
def pair() -> tuple[list[Any], small.Trained]:
    lanes = [small.lane(small.experiment(privacy=p, world="all", rounds=2)) for p in (NOISY, QUIET)]
    return lanes, small.train(lanes)


def test_two_rounds_agree_with_a_loop_over_rows() -> None:
    lanes, trained = pair()
    columns = small.federation().columns
    assert columns is not None
    en = small.engine(lanes)
    first = small.weights(en.models(en.init())[0][0])
    for i, lane in enumerate(lanes):
        loop = Private(lane.experiment, clients_of(lane, columns))
        loop.seen = []
        expected = METHODS["fedavg"](loop, first).server
        np.testing.assert_allclose(small.weights(trained.models[i][0]), expected, rtol=1e-5, atol=1e-5)
        assert len(set(loop.seen)) == len(loop.seen) > 20  # of steps, clients and rounds


REFUSED = {
    "agnostic": "algorithm=agnostic asks for the loss of all rows",
    "boosting": "algorithm=boosting asks for histograms of derivatives",
    "fedala": "many steps on a share of a client's rows",
    "fedbn": "batch statistics mix rows",
    "ifca": "algorithm=ifca asks for the loss of all rows",
    "moon": "algorithm=moon asks for a penalty on the representation",
    "newton": "algorithm=newton asks for sums of second derivatives",
    "qfedavg": "algorithm=qfedavg asks for the loss of all rows",
}


# Gradients of a local step that are not one, and gradients of all rows besides.
ASKED = {
    "apfl": (2, 0),
    "ditto": (2, 0),
    "fedrep": (2, 0),
    "fedsam": (2, 0),
    "fedsgd": (0, 1),
    "mime": (2, 1),
    "mimelite": (1, 1),
    "perfedavg": (2, 0),
    "pfedme": (5, 0),
}


def traits(**changes: Any) -> Any:
    lane = small.lane(small.experiment(**{"privacy": NOISY} | changes))
    return program_structure(lane, small.federation(), "cpu")[1]


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_an_algorithm_works_or_is_refused_by_name(algorithm: str) -> None:
    """Found by tracing: no list of algorithms decides, nor says how much each asks."""
    if algorithm in REFUSED:
        with pytest.raises(Refused, match=REFUSED[algorithm]):
            traits(algorithm=algorithm)
    else:
        lots, full = ASKED.get(algorithm, (1, 0))
        assert traits(algorithm=algorithm).answers == ((lots, 0), (0, full))


def test_answers_are_counted_as_they_come() -> None:
    fedrep: Any = small.NEEDED["fedrep"]["algorithm"] | {"head_passes": 3}
    assert traits(algorithm=fedrep).answers == ((4, 0), (0, 0))
    assert traits(algorithm={"name": "scaffold", "option": 1}).answers == ((1, 0), (0, 1))
    assert traits(algorithm={"name": "pfedme", "inner_steps": 7}).answers.of(3) == (21, 0)
    assert traits(optimizer={"batch_size": 0}).answers == ((0, 0), (1, 0))
    assert traits(privacy="none").answers is None


def test_what_cannot_be_counted_is_refused() -> None:
    """One question about two models at once, whose answers would share their noise; and a number of steps
    that depends on the rows."""
    ask = counting(True)(plain(TASK)).gradient

    def twice(steps: Any) -> Any:
        both = jax.tree.map(lambda w: jnp.stack([w, w]), MODEL.params)
        return jax.vmap(lambda w: ask(Model(w, ()), batches(3).take(steps), KEY)[0])(both)

    def until(steps: Any) -> Any:
        return jax.lax.while_loop(
            lambda c: jnp.sum(c[1]["head"]["bias"]) < 3,
            lambda c: (c[0], ask(Model(c[1], ()), batches(3).take(c[0]), KEY)[0]),
            (steps, MODEL.params),
        )

    for asked in (twice, until):
        with pytest.raises(Refused, match="how many gradients a client answers"):
            count(jax.make_jaxpr(asked)(jnp.int32(0)), [np.int32(1)])
