"""The two-part model of amounts that are often 0, such as costs: whether there is any, and how much then.

Source: Duan, Manning, Morris, Newhouse, "A Comparison of Alternative Models for the Demand for Medical Care",
Journal of Business & Economic Statistics 1983; the second part, in place of their log-normal one, is Mullahy,
"Much Ado about Two", Journal of Health Economics 1998, with a gamma likelihood.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedsim.config import TwoPart
from fedsim.model import Array, Key, Spec, Task
from fedsim.tasks.gamma import half_deviance, needs_amounts
from fedsim.tasks.glm import ZEROS, glm
from fedsim.tasks.heads import Likelihood
from fedsim.tasks.layers import wide


def two_part(cfg: TwoPart, spec: Spec, dtype: str) -> Task:
    """Build both parts, with coefficients of their own: of the logit of P(y > 0), and of log E(y | y > 0).

    What is predicted is the mean over both, the product of the two. A row's loss is that of logistic
    regression, and half the gamma deviance where there is an amount.

    Raises:
      RequestError: the label is no amount.
    """
    needs_amounts("two_part", spec)

    def begin(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        log_typical = jnp.log(jnp.asarray(cfg.typical, dtype))
        return jnp.stack([jnp.zeros((), dtype), log_typical]).astype(dtype)

    def losses(out: Array, batch: dict[str, Array]) -> Array:
        out, y = out.astype(wide(out.dtype)), batch["y"]
        some = jax.nn.softplus(jnp.where(y > 0, -out[:, 0], out[:, 0]))
        return some + half_deviance(out[:, 1], y)

    def means(out: Array) -> Array:
        out = out.astype(wide(out.dtype))
        return jnp.exp(jax.nn.log_sigmoid(out[:, 0]) + out[:, 1])

    return glm((ZEROS, begin), cfg, spec, dtype, Likelihood(losses, means), outputs=2)
