"""A stored model as functions of prepared rows: linear ones in float64, networks by their task, in JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import optimize

from fedsim import tasks
from fedsim.base import require
from fedsim.config import Experiment
from fedsim.data.federation import Federation
from fedsim.model import Model, Spec, Task
from fedsim.simulate.worker import named
from fedsim.validation.logistic import Floats
from fedsim.validation.rows import Scorer

_SLICE = 4096  # rows scored at a time
_STEPS = 500  # of L-BFGS at most


class Network(NamedTuple):
    """score, represent, refine: as in `rows.Frozen`; weights: [F] of a linear model on prepared rows."""

    score: Scorer
    weights: Floats | None
    represent: Scorer | None = None
    refine: Any = None


def network(
    experiment: Experiment, federation: Federation, arrays: dict[str, np.ndarray], run: str
) -> Network:
    """The model whose named arrays were stored.

    Raises:
      RequestError: the arrays are not those of one model of the experiment's task: clients' own, for example.
    """
    task = tasks.build(
        experiment.task,
        Spec(federation.shape, federation.kind, federation.classes),
        experiment.numerics.dtype,
    )
    model = _filled(task, arrays, run, experiment)
    if task.coefficients is not None:
        weights, intercept = (
            np.zeros(()) if part is None else np.asarray(part, np.float64)  # Cox's is in the baseline
            for part in task.coefficients(model)
        )
        return Network(lambda x: x @ weights + intercept, weights)
    made = _Fitted(task, experiment.numerics.dtype, federation.kind == "survival")
    if made.timed:
        return Network(made.scorer(model), None)
    features = task.features
    represent = None
    if features is not None:
        read = jax.jit(lambda model, x: features(model, {"x": x}, None))

        def represent(x: Floats) -> Floats:
            return _in_slices(lambda piece: read(model, piece), x, experiment.numerics.dtype)

    return Network(made.scorer(model), None, represent, lambda x, y, ridge: made.refined(model, x, y, ridge))


def _filled(task: Task, arrays: dict[str, np.ndarray], run: str, experiment: Experiment) -> Model:
    """The task's model with the stored arrays in the place of its parameters and statistics."""
    empty = jax.eval_shape(task.init, jax.random.key(0))
    leaves, tree = jax.tree.flatten(empty)
    names = list(named(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), empty)))
    fits = set(names) == set(arrays) and all(
        arrays[name].shape == leaf.shape for name, leaf in zip(names, leaves, strict=True)
    )
    require(
        fits,
        f"run {run} (algorithm={experiment.algorithm.name}) stores no single model that could be validated "
        "elsewhere; take an algorithm with one for all, such as algorithm=fedavg",
    )
    filled: Model = jax.tree.unflatten(tree, [jnp.asarray(arrays[name]) for name in names])
    return filled


@dataclass(frozen=True)
class _Fitted:
    """A network's logits, or (timed) log relative risks, and all its parameters fitted again."""

    task: Task
    dtype: str
    timed: bool

    def scorer(self, model: Model) -> Scorer:
        run = jax.jit(self._logits)
        return lambda x: _in_slices(lambda piece: run(model, piece), x, self.dtype)

    def refined(self, model: Model, x: Floats, y: Floats, ridge: float) -> Scorer:
        """Minimise the sum of losses + ridge / 2 |parameters - frozen ones|^2 by L-BFGS from the frozen ones.

        In evaluation mode: no dropout, and batch statistics stay.
        """
        start, unravel = ravel_pytree(model.params)
        rows = {
            "x": jnp.asarray(x, self.dtype),
            "y": jnp.asarray(y, jnp.int32),
            "mask": jnp.ones(y.size, bool),
        }

        @jax.jit
        def value(flat: jax.Array) -> tuple[jax.Array, jax.Array]:
            def total(flat: jax.Array) -> jax.Array:
                losses, _ = self.task.loss(Model(unravel(flat), model.state), rows, None)
                return losses.sum() + 0.5 * ridge * jnp.sum(jnp.square(flat - start))

            return jax.value_and_grad(total)(flat)

        def asked(flat: Floats) -> tuple[float, Floats]:
            found, slope = value(jnp.asarray(flat, start.dtype))
            return float(found), np.asarray(slope, np.float64)

        end = optimize.minimize(
            asked, np.asarray(start, np.float64), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
        )
        return self.scorer(Model(unravel(jnp.asarray(end.x, start.dtype)), model.state))

    def _logits(self, model: Model, x: jax.Array) -> jax.Array:
        p = self.task.predict(model, {"x": x})
        if self.timed:
            return p
        tiny = jnp.finfo(p.dtype).eps  # where p is 1 in this precision its logit is not infinite
        p = jnp.clip(p, tiny, 1 - tiny)
        return jnp.log(p) - jnp.log1p(-p)


def _in_slices(score: Any, x: Floats, dtype: str) -> Floats:
    """`score` of some rows at a time, in a fixed shape, so that it is compiled once."""
    length = min(_SLICE, 1 << max(len(x) - 1, 0).bit_length())
    parts = []
    for start in range(0, len(x), length):
        piece = x[start : start + length]
        full = np.zeros((length, x.shape[1]), dtype)
        full[: len(piece)] = piece
        parts.append(np.asarray(score(full), np.float64)[: len(piece)])
    found: Floats = np.concatenate(parts)
    return found
