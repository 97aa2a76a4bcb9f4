"""What an oracle notes is counted, whatever lies between: loops, branches, clients side by side."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.data.federation import Federation
from fedsim.local.counted import counted, note
from fedsim.simulate.structure import LOST, counters
from tests.simulate import small
from tests.simulate.quick import jit

ROUNDS, EPOCHS = 3, 2
AT = "site 1"  # of 4 training rows: one lot a step, with all of them in it
BAD = 2  # rows whose gradient is too long for its type


def noted(n: Any) -> Any:
    note(n)
    return n


def test_notes_come_out_of_loops_and_branches() -> None:
    def work(n: Any) -> Any:
        note(jnp.int32(1000))
        called = jax.jit(noted)(n)  # n
        looped = jax.lax.while_loop(lambda c: c < n, lambda c: noted(c) + 1, 0)  # n (n - 1) / 2
        _, scanned = jax.lax.scan(
            lambda c, x: (noted(c) + x, c), 0, jnp.arange(4, dtype=jnp.int32)
        )  # 0 0 1 3
        chosen = jax.lax.cond(n > 3, lambda x: noted(10 * x), lambda x: x, n)
        beside = jax.vmap(noted)(jnp.ones(7, jnp.int32))
        return called, looped, scanned, chosen, beside

    each = np.arange(6, dtype=np.int32)
    results, counts = jit(jax.vmap(lambda n: counted(lambda: work(n))))(each)
    small.assert_same_bits(results, jit(jax.vmap(work))(each))
    assert counts.tolist() == [1000 + n + n * (n - 1) // 2 + 4 + 10 * n * (n > 3) + 7 for n in each]


@cache
def spoiled() -> Federation:
    """Rows with numbers that are finite, and make a gradient whose norm is not, among those trained on."""
    fed = small.federation()
    part = small.partition(fed, small.experiment().split, small.experiment().seed)
    assert fed.columns is not None and part.rows is not None
    x = np.nan_to_num(fed.columns["x"])
    first = part.offsets[list(fed.names).index(AT)]
    x[part.rows[first : first + BAD]] = 1e30
    return replace(fed, columns=fed.columns | {"x": x})


def trained(algorithm: str, **changes: Any) -> small.Trained:
    e = small.experiment(
        algorithm=algorithm,
        data={"preprocess": {"impute": "zero", "standardise": False}},
        privacy={"name": "record", "noise_multiplier": 1.0},
        optimizer={"epochs": EPOCHS},
        world="all",
        rounds=ROUNDS,
        **changes,
    )
    return small.train([small.lane(e, spoiled())], spoiled())


@pytest.mark.parametrize(
    "algorithm",
    [
        "fedavg",
        # Questions of all rows, of a survey, in loops in loops, without a message, without a server.
        *(pytest.param(a, marks=pytest.mark.long) for a in ("scaffold", "mime", "pfedme", "local", "dpsgd")),
    ],
)
def test_gradients_that_are_not_finite_are_counted(algorithm: str) -> None:
    """Other clients take more steps in the same block; each of them has rows that count for nothing."""
    done = trained(algorithm)
    answers = done.engine.traits.answers
    assert answers is not None
    from_lots, from_all = answers.of(EPOCHS)  # at q = 1 both are of all rows
    assert done.engine.measures(done.handles)[0][LOST] == ROUNDS * (from_lots + from_all) * BAD > 0
    assert np.isfinite(small.flat(done.models[0][0])).all()


@pytest.mark.long
def test_a_secure_sum_hides_who_lost_gradients_and_not_how_many() -> None:
    masked = trained("fedavg", secure="bonawitz")
    assert masked.engine.measures(masked.handles)[0][LOST] == ROUNDS * EPOCHS * BAD


def test_nothing_is_counted_without_record_privacy() -> None:
    assert counters(small.experiment()) == {}
    assert list(counters(small.experiment(privacy="record"))) == [LOST]
