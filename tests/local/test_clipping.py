"""Clipped sums: both forms agree, one unit moves them by no more than it may, and nothing else counts."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import config, tasks
from fedsim.local.clipping import Clip, Clipped, ghost, per_unit
from fedsim.model import Model, Spec, Task
from tests.simulate.quick import jit
from tests.simulate.small import flat

UNITS, BOUND = 6, 0.7
FORMS = {"ghost": ghost, "vmap": per_unit}


@cache
def task_of(name: str) -> tuple[Task, Spec]:
    """Small models of every kind of layer."""
    pictures = Spec((6, 6), "multiclass", 3)
    rows = Spec((4,), "multiclass", 3)
    made: dict[str, tuple[Any, Spec]] = {
        "logistic": (config.Logistic(init="normal"), rows),
        "mlp": (config.Mlp(hidden=(5,)), rows),
        "cnn": (config.Cnn(channels=(2, 3), dense=4, dropout=(0.0, 0.0)), pictures),
    }
    cfg, spec = made[name]
    return tasks.build(cfg, spec, "float32"), spec


def batch_of(spec: Spec, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(rows, *spec.shape)).astype(np.float32) * 3,
        "y": rng.integers(0, spec.classes, rows).astype(np.int32),
        "weight": rng.uniform(0.5, 2, rows).astype(np.float32),
        "mask": rng.random(rows) < 0.9,
    }


@cache
def summed(form: str, name: str, rows: int, layered: bool) -> Any:
    """Compiled: (model, batch, units in use, bound) -> the clipped sum."""
    task, _ = task_of(name)

    def run(model: Model, batch: Any, used: Any, bound: Any) -> Clipped:
        return FORMS[form](task, model, batch, None, used, Clip(bound, rows, layered))

    return jit(run)


@cache
def model_of(name: str) -> Model:
    return jax.tree.map(lambda x: x + 0.1, jit(task_of(name)[0].init)(jax.random.key(1)))


def by_hand(name: str, batch: dict[str, np.ndarray], used: np.ndarray, rows: int, layered: bool) -> Any:
    """The definition: every unit's gradient of its rows' summed loss, clipped, added up in float64."""
    task, _ = task_of(name)
    model = model_of(name)
    grad = jit(partial(_gradient, task))
    total = jax.tree.map(lambda x: np.zeros(x.shape), model.params)
    for u in np.flatnonzero(used):
        own = {key: x[u * rows : (u + 1) * rows] for key, x in batch.items()}
        g = jax.tree.map(lambda x: np.asarray(x, np.float64), grad(model, own))
        parts = _layers(g)
        for part in parts if layered else [[leaf for layer in parts for leaf in layer]]:
            norm = np.sqrt(sum((leaf**2).sum() for _, leaf in part))
            bound = BOUND / np.sqrt(len(parts)) if layered else BOUND
            for path, leaf in part:
                there = total
                for step in path[:-1]:
                    there = there[step]
                there[path[-1]] += leaf * bound / max(norm, bound)
    return total


def _gradient(task: Task, model: Model, batch: Any) -> Any:
    def loss(params: Any) -> Any:
        losses, _ = task.loss(Model(params, model.state), batch, None)
        return jnp.sum(jnp.where(batch["mask"], losses * batch["weight"], 0))

    return jax.grad(loss)(model.params)


def _layers(tree: Any) -> list[list[tuple[Any, np.ndarray]]]:
    found: dict[Any, list[Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        keys = tuple(step.key for step in path)
        found.setdefault(keys[:-1], []).append((keys, leaf))
    return list(found.values())


@pytest.mark.parametrize(("name", "rows", "layered"), [
    ("logistic", 1, False), ("mlp", 1, False), ("mlp", 3, False), ("mlp", 1, True), ("cnn", 2, True),
])  # fmt: skip
def test_both_forms_are_the_sum_of_clipped_gradients(name: str, rows: int, layered: bool) -> None:
    _, spec = task_of(name)
    batch, used = batch_of(spec, UNITS * rows), np.arange(UNITS) != 2
    expected = flat(by_hand(name, batch, used, rows, layered))
    for form in FORMS:
        found = summed(form, name, rows, layered)(model_of(name), batch, used, jnp.float32(BOUND))
        np.testing.assert_allclose(flat(found.total), expected, rtol=2e-5, atol=1e-6, err_msg=form)
        assert found.lost == 0


def norm(tree: Any) -> float:
    return float(np.linalg.norm(flat(tree)))


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 1.0, 1e6, 1e18]), unit=st.integers(0, 5))
def test_one_unit_moves_the_sum_by_its_bound(form: str, seed: int, scale: float, unit: int) -> None:
    """Removed by C, replaced by 2 C, however large its numbers are."""
    _, spec = task_of("mlp")
    run, model = summed(form, "mlp", 1, False), model_of("mlp")
    batch, every = batch_of(spec, UNITS, seed), np.ones(UNITS, bool)
    batch["mask"][:] = True
    batch["x"][unit] *= np.float32(scale)
    other = {key: x.copy() for key, x in batch.items()}
    other["x"][unit], other["y"][unit] = batch_of(spec, 1, seed + 1)["x"][0] * 50, 2
    full, without, replaced = (
        run(model, *given, jnp.float32(BOUND)).total
        for given in ((batch, every), (batch, np.arange(UNITS) != unit), (other, every))
    )
    difference = jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, full, without)
    assert norm(difference) <= BOUND * (1 + 1e-4)
    assert (
        norm(jax.tree.map(lambda a, b: np.asarray(a, np.float64) - b, full, replaced)) <= 2 * BOUND * 1.0001
    )
    # What is left is what was there: the others do not depend on it.
    alone = run(model, batch, np.arange(UNITS) == unit, jnp.float32(BOUND)).total
    np.testing.assert_allclose(flat(difference), flat(alone), atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_a_gradient_that_is_not_finite_adds_nothing_and_is_counted(form: str, bad: float) -> None:
    _, spec = task_of("mlp")
    run, model = summed(form, "mlp", 1, False), model_of("mlp")
    batch, every = batch_of(spec, UNITS), np.ones(UNITS, bool)
    batch["mask"][:] = True
    poisoned = {key: x.copy() for key, x in batch.items()}
    poisoned["x"][3] = bad
    found = run(model, poisoned, every, jnp.float32(BOUND))
    expected = run(model, batch, np.arange(UNITS) != 3, jnp.float32(BOUND))
    np.testing.assert_array_equal(flat(found.total), flat(expected.total))
    assert (found.lost, expected.lost) == (1, 0)


@pytest.mark.parametrize("form", FORMS)
def test_places_without_a_unit_do_not_count(form: str) -> None:
    """Whatever lies in them; and with none in use the sum is zero."""
    _, spec = task_of("mlp")
    run, model = summed(form, "mlp", 1, False), model_of("mlp")
    batch, used = batch_of(spec, UNITS), np.arange(UNITS) < 4
    other = {key: x.copy() for key, x in batch.items()}
    other["x"][4:], other["y"][4:] = np.nan, 1
    first, second = (run(model, b, used, jnp.float32(BOUND)) for b in (batch, other))
    np.testing.assert_array_equal(flat(first.total), flat(second.total))
    assert second.lost == 0
    assert not flat(run(model, other, np.zeros(UNITS, bool), jnp.float32(BOUND)).total).any()


def test_statistics_of_batches_have_no_ghost() -> None:
    spec = Spec((4,), "binary", 2)
    assert tasks.build(config.Mlp(hidden=(3,), batch_norm=True), spec, "float32").backprops is None
