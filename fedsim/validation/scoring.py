"""A stored model as functions of prepared rows: linear ones in float64, networks by their task, in JAX."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy import optimize

from fedsim import tasks
from fedsim.base import require
from fedsim.config import Experiment, SurvivalDiscrete
from fedsim.data.federation import Federation
from fedsim.model import Model, Spec, Task, Tree
from fedsim.simulate.worker import named
from fedsim.tasks.survival_discrete import intervals, last_layer
from fedsim.validation.logistic import Floats
from fedsim.validation.rows import Periods, Refine, Rows, Scorer

_SLICE = 4096  # rows scored at a time
_STEPS = 500  # of L-BFGS at most


class Network(NamedTuple):
    """score, represent, refine, refine_head: as in `rows.Frozen`; weights: [F] of a linear model on prepared
    rows, whose effects are the same at all times."""

    score: Scorer
    weights: Floats | None
    represent: Scorer | None = None
    refine: Refine | None = None
    refine_head: Refine | None = None

    def until(self, m: int) -> Network:
        """A discrete-time model's first m intervals."""

        def cut(score: Scorer) -> Scorer:
            return lambda x: score(x)[:, :m]

        def refined(refine: Refine | None) -> Refine | None:
            return None if refine is None else lambda rows, ridge: cut(refine(rows, ridge))

        return self._replace(
            score=cut(self.score), refine=refined(self.refine), refine_head=refined(self.refine_head)
        )


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
    if isinstance(experiment.task, SurvivalDiscrete):
        return _in_intervals(experiment.task, task, model, experiment.numerics.dtype)
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

    return Network(made.scorer(model), None, represent, lambda rows, ridge: made.refined(model, rows, ridge))


def _in_intervals(cfg: SurvivalDiscrete, task: Task, model: Model, dtype: str) -> Network:
    made = _Fitted(task, dtype, True)

    def refine(rows: Rows, ridge: float) -> Scorer:
        return made.refined(model, rows, ridge)

    def refine_head(rows: Rows, ridge: float) -> Scorer:
        return made.refined(model, rows, ridge, last_layer(model.params))

    if task.coefficients is None:
        return Network(made.scorer(model), None, refine=refine, refine_head=refine_head)
    weights, baseline = (np.asarray(part, np.float64) for part in task.coefficients(model))
    columns = weights.reshape(len(weights), -1)  # one for all intervals, or one for each
    linear = Network(lambda x: x @ columns + baseline, weights if cfg.proportional else None)
    return linear if cfg.proportional else linear._replace(refine=refine)


def periods_of(cfg: SurvivalDiscrete, time: Floats, y: Floats, logits: Floats) -> Periods:
    """Rows in the first intervals, as many as logits [n, m] has: as the task's loss counts them."""
    found = _in_slices(lambda rows: _counted(cfg, rows), np.column_stack([time, y]), "float32") > 0
    m = logits.shape[1]
    return Periods(logits, found[:, :m], found[:, cfg.bins :][:, :m])


@partial(jax.jit, static_argnums=0)
def _counted(cfg: SurvivalDiscrete, rows: jax.Array) -> jax.Array:
    """1 for intervals that were survived and, behind these, failed [n, 2 bins]; of times, events [n, 2]."""
    return jnp.concatenate(intervals(cfg, rows[:, 0], rows[:, 1] > 0), axis=1).astype(jnp.float32)


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
    """A network's logits, of hazards too, or (timed) log relative risks; and its parameters fitted again."""

    task: Task
    dtype: str
    timed: bool

    def scorer(self, model: Model) -> Scorer:
        run = jax.jit(self._logits)
        return lambda x: _in_slices(lambda piece: run(model, piece), x, self.dtype)

    def refined(self, model: Model, rows: Rows, ridge: float, moving: Tree | None = None) -> Scorer:
        """Minimise the sum of losses + ridge / 2 |parameters - frozen ones|^2 by L-BFGS from the frozen ones.

        In evaluation mode: no dropout, and batch statistics stay. moving: 1 for parameters that are fitted,
        0 for those that stay; None: all are.
        """
        start, unravel = ravel_pytree(model.params)
        moves = jnp.ones_like(start) if moving is None else ravel_pytree(moving)[0]
        batch = {
            "x": jnp.asarray(rows.x, self.dtype),
            "y": jnp.asarray(rows.y, jnp.int32),
            "mask": jnp.ones(rows.y.size, bool),
        }
        if rows.time is not None:
            batch["time"] = jnp.asarray(rows.time, jnp.float32)

        @jax.jit
        def value(flat: jax.Array) -> tuple[jax.Array, jax.Array]:
            def total(flat: jax.Array) -> jax.Array:
                moved = start + moves * (flat - start)
                losses, _ = self.task.loss(Model(unravel(moved), model.state), batch, None)
                return losses.sum() + 0.5 * ridge * jnp.sum(jnp.square(moved - start))

            return jax.value_and_grad(total)(flat)

        def asked(flat: Floats) -> tuple[float, Floats]:
            found, slope = value(jnp.asarray(flat, start.dtype))
            return float(found), np.asarray(slope, np.float64)

        end = optimize.minimize(
            asked, np.asarray(start, np.float64), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
        )
        return self.scorer(Model(unravel(jnp.asarray(end.x, start.dtype)), model.state))

    def _logits(self, model: Model, x: jax.Array) -> jax.Array:
        if self.task.hazards is not None:
            return self.task.hazards(model, {"x": x})
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
