"""Cox regression, and its network DeepSurv: the log hazard ratio as a linear map or a perceptron.

Sources: Cox, "Regression Models and Life-Tables", JRSS B 1972, and "Partial Likelihood", Biometrika 1975,
eq. 4; ties: Breslow, Biometrics 1974, and Efron, JASA 1977, section 5; Katzman et al., "DeepSurv", BMC
Medical Research Methodology 2018, eq. 4.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import lax

from fedsim.base import require
from fedsim.config import Cox
from fedsim.model import Array, Spec, Task
from fedsim.tasks.glm import slopes
from fedsim.tasks.heads import Likelihood
from fedsim.tasks.layers import wide
from fedsim.tasks.mlp import risk_network
from fedsim.tasks.network import network_task
from fedsim.tasks.second_order import cox_second_order


def cox(cfg: Cox, spec: Spec, dtype: str) -> Task:
    """Build Cox regression: negative log partial likelihood of the rows seen together, over their number.

    The likelihood of an event is one among the rows that are still at risk: other rows of the batch, or,
    where a method asks for all of a client's rows, of the client. Over clients that is the likelihood
    stratified by client. It is no sum over slices of rows, so all of a client's are read as one of
    `task.rows`, and a client that holds more is refused.

    Raises:
      RequestError: the label is no time to an event.
    """
    require(
        spec.kind == "survival",
        f"task=cox needs the time to an event, and this data's label is not one ({spec.kind}); name the "
        "column with data.time, or use task=logistic, linear or mlp",
    )

    def losses(out: Array, batch: dict[str, Array]) -> Array:
        return partial_losses(
            out[:, 0].astype(wide(out.dtype)), batch["time"], batch["y"] > 0, batch["mask"],
            batch.get("weight"), cfg.ties == "efron",
        )  # fmt: skip

    widths = [math.prod(spec.shape), *cfg.hidden, 1]
    task = network_task(
        lambda rngs: risk_network(cfg, widths, jnp.dtype(dtype), rngs),
        cfg,
        spec,
        flops=sum(2 * a * b for a, b in pairwise(widths)),
        coefficients=None if cfg.hidden else lambda model: (slopes(model.params, True), None),
        likelihood=Likelihood(losses, lambda out: out[:, 0].astype(wide(out.dtype))),
        represents=cfg.hidden != (),
        joint=cfg.rows,
    )
    if cfg.hidden or not spec.times:
        return task
    return replace(task, second_order=cox_second_order(spec, cfg.ties == "efron", jnp.dtype(dtype)))


def partial_losses(
    risk: Array, time: Array, event: Array, mask: Array, weight: Array | None, efron: bool
) -> Array:
    """What each row adds to the negative log partial likelihood; 0 without an event. All arrays: [B].

    A weighted sum of it is the weighted likelihood, in which tied events weigh their mean. Risk sets are
    running sums over rows in falling order of time, so that n rows cost n log n.
    """
    n = len(risk)
    weight = jnp.ones(n, risk.dtype) if weight is None else weight.astype(risk.dtype)
    counted = mask & (weight > 0)
    # Rows that do not count come last, where no sum reaches another's.
    order = jnp.argsort(jnp.where(counted, -time, jnp.inf), stable=True)
    risk, time, weight, counted = (x[order] for x in (risk, time, weight, counted))
    event = event[order] & counted
    here = jnp.arange(n, dtype=jnp.int32)
    starts = (jnp.roll(time, 1) != time) | (here == 0)  # of runs of equal times
    run = jnp.cumsum(starts.astype(jnp.int32), dtype=jnp.int32) - 1

    def over_run(x: Array) -> Array:
        return jax.ops.segment_sum(jnp.where(event, x, jnp.zeros((), x.dtype)), run, n)[run]

    last = jax.ops.segment_max(jnp.where(counted, here, 0), run, n)[run]
    log_weight = jnp.log(jnp.where(counted, weight, jnp.ones((), weight.dtype)))
    at_risk = lax.cumlogsumexp(risk + log_weight)[last]
    if efron:
        one = event.astype(jnp.int32)
        before = jnp.cumsum(one, dtype=jnp.int32) - one
        before = before - jax.ops.segment_min(before, run, n)[run]
        count = jnp.maximum(over_run(jnp.ones(n, risk.dtype)), 1)
        # The k-th of d tied events sees k / d of them gone. Other rows of the run see none gone: with all
        # of a risk set gone, their slope would be infinite, though their loss counts for nothing.
        gone = jnp.where(event, before, 0).astype(risk.dtype) / count
        tied = over_run(jnp.exp(jnp.where(event, risk + log_weight - at_risk, jnp.zeros((), risk.dtype))))
        at_risk = over_run(at_risk + jnp.log1p(-gone * tied)) / count
    loss = jnp.where(event, at_risk - risk, jnp.zeros((), risk.dtype))
    return jnp.zeros(n, risk.dtype).at[order].set(loss)
