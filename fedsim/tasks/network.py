"""A task out of a Flax nnx network: the only place where modules become plain trees and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fedsim.config import TaskConfig
from fedsim.model import Array, Backprop, Batch, Key, Model, Penalty, Spec, Task, Tree
from fedsim.tasks import heads
from fedsim.tasks.layers import Tapped, wide

Path = tuple[Any, ...]


def network_task(
    make: Callable[[nnx.Rngs], Any],
    cfg: TaskConfig,
    spec: Spec,
    flops: float,
    coefficients: Callable[[Model], tuple[Array, Array | None]] | None = None,
    represents: bool = False,
    likelihood: heads.Likelihood | None = None,
    joint: int = 0,
) -> Task:
    """Build a task from a network.

    Args:
      make: builds the nnx module from its random streams. Called as `module(x, rows, key)`, with x
        [B, *shape], it gives [B, heads.outputs(spec)], or what `likelihood` takes; `rows` bool[B]
        (the real ones) and `key` are None in evaluation, and `key` is all the randomness it may use in
        training. Weights that the ridge penalty covers are called `kernel`; only nnx.Param and
        nnx.BatchStat are kept.
      represents: the module is `module.head(module.features(x, rows, key))`.
      cfg: `cfg.l2` may be traced.
      flops: of one example forward.
      coefficients: for linear models, as in `Task`; joint: as in `Task`.
      likelihood: None for that of the kind of label.
    """
    likelihood = likelihood or heads.of(spec)
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(params=0))))

    def kept(net: Any, kind: type) -> dict[Any, Any]:
        return nnx.to_pure_dict(nnx.state(net, kind))

    def init(key: Key) -> Model:
        net = make(nnx.Rngs(params=key))
        return Model(kept(net, nnx.Param), kept(net, nnx.BatchStat) or ())

    def module(model: Model) -> Any:
        # copy: without it a second merge would see the first one's variables.
        return nnx.merge(graph, nnx.State(model.params), nnx.State(model.state or {}), copy=True)

    def state_of(net: Any, model: Model) -> Tree:
        # Running statistics must not widen: they are carried through loops.
        state = kept(net, nnx.BatchStat) or ()
        return jax.tree.map(lambda new, old: new.astype(old.dtype), state, model.state)

    def loss(model: Model, batch: Batch, key: Key | None) -> tuple[Array, Tree]:
        net = module(model)
        out = net(batch["x"], _real(batch, key), key)
        return likelihood.losses(out, batch), state_of(net, model)

    def features(model: Model, batch: Batch, key: Key | None) -> Array:
        found: Array = module(model).features(batch["x"], _real(batch, key), key)
        return found

    def penalised(model: Model, batch: Batch, key: Key | None, penalty: Penalty) -> tuple[Array, Tree]:
        net = module(model)
        found = net.features(batch["x"], _real(batch, key), key)
        losses = likelihood.losses(net.head(found), batch)
        return losses + penalty(found, batch).astype(losses.dtype), state_of(net, model)

    def predict(model: Model, batch: Batch) -> Array:
        return likelihood.predictions(module(model)(batch["x"], None, None))

    def penalty(model: Model) -> Array:
        kernels = [
            leaf.astype(wide(leaf.dtype))
            for path, leaf in jax.tree.leaves_with_path(model.params)
            if path[-1] == jax.tree_util.DictKey("kernel")
        ]
        total = sum(jnp.sum(jnp.square(k)) for k in kernels)
        return jnp.asarray(0.5 * cfg.l2 * total, kernels[0].dtype)

    def backprops(model: Model, batch: Batch, key: Key | None) -> dict[Path, Backprop]:
        layers = tapped(nnx.eval_shape(lambda: make(nnx.Rngs(params=0))))

        def total(taps: dict[Path, Array]) -> tuple[Array, dict[Path, Any]]:
            net = module(model)
            inside = tapped(net)
            for path, tap in taps.items():
                inside[path].tap = tap
            losses = likelihood.losses(net(batch["x"], _real(batch, key), key), batch)
            if "weight" in batch:
                losses = losses * batch["weight"].astype(losses.dtype)
            losses = jnp.where(batch["mask"], losses, jnp.zeros((), losses.dtype))
            return jnp.sum(losses), {path: inside[path].inputs for path in taps}

        def kernel(path: Path) -> Array:
            found = model.params
            for step in path:
                found = found[step]
            return found["kernel"]

        scalars = {path: jnp.zeros((), kernel(path).dtype) for path in layers}
        read = jax.eval_shape(total, scalars)[1]
        taps = {}
        for path, layer in layers.items():
            made = jax.eval_shape(layer.apply, read[path], kernel(path))
            taps[path] = jnp.zeros(made.shape, made.dtype)
        slopes, inputs = jax.grad(total, has_aux=True)(taps)
        return {
            path: Backprop(layer.apply, inputs[path], slopes[path], layer.bias is not None, layer.dense)
            for path, layer in layers.items()
        }

    def curve(model: Model, batch: Batch) -> Array:
        assert likelihood.curve is not None
        return likelihood.curve(module(model)(batch["x"], None, None))

    def hazards(model: Model, batch: Batch) -> Array:
        out = module(model)(batch["x"], None, None)
        return out.astype(wide(out.dtype))

    task = Task(init, loss, predict, penalty, float(flops), coefficients, joint=joint)
    if likelihood.curve is not None:
        task = replace(task, curve=curve, hazards=hazards)
    if _all_tapped(nnx.eval_shape(lambda: make(nnx.Rngs(params=0)))):
        task = replace(task, backprops=backprops)
    return replace(task, features=features, penalised=penalised) if represents else task


def tapped(net: Any) -> dict[Path, Tapped]:
    """By path, the layers that can be differentiated by their outputs."""
    return {path: node for path, node in nnx.iter_graph(net) if isinstance(node, Tapped)}


def _all_tapped(net: Any) -> bool:
    """Whether nothing but such layers has parameters or statistics."""
    owners = {path[:-1] for path, node in nnx.iter_graph(net) if isinstance(node, nnx.Param | nnx.BatchStat)}
    return owners <= tapped(net).keys()


def _real(batch: Batch, key: Key | None) -> Array | None:
    """The real rows in training, None in evaluation."""
    return None if key is None else batch["mask"]
