"""Layers that a simulator of many small clients needs in another form than Flax has them.

Dropout whose bits depend on the key alone, batch norm to which padding rows are invisible, and a
convolution made of matrix products, because XLA's own is slow inside loops and under `vmap` on CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.custom_derivatives import SymbolicZero

from fedsim.environment import backend_started
from fedsim.model import Array, Key

Initializer = Callable[..., Array]


def wide(dtype: jnp.dtype) -> jnp.dtype:
    """`dtype`, or float32 where that is wider: for losses, sums and running statistics."""
    return jnp.promote_types(dtype, jnp.float32)


def dropout(x: Array, rate: float, key: Key) -> Array:
    """Zero each element with probability `rate`, scale the rest so that the mean stays.

    The rate is rounded to a multiple of 2**-16, and each word drawn serves two elements of a row, which
    takes half the time of `jax.random.bernoulli`; that one also draws other bits in 64-bit mode.
    """
    if rate == 0:
        return x
    kept = min(max(round((1 - rate) * 2**16), 1), 2**16 - 1)
    words = jax.random.bits(key, (*x.shape[:-1], (x.shape[-1] + 1) // 2), jnp.uint32)
    halves = jnp.concatenate([words >> 16, words & 0xFFFF], axis=-1)[..., : x.shape[-1]]
    return jnp.where(halves < kept, x * (2**16 / kept), jnp.zeros((), x.dtype))


# On CPU, XLA's kernel takes A B two to three times as fast as A B^T and A^T B, so that every factor that
# would need it is turned in memory first: 20 rows through 64 x 64 kernels run at the speed of A B in all
# three products. Where outputs are few, a kernel lies outputs first: the slope is then what is turned,
# and the kernel's long axis is the inner one. (The rules say so for tangents; gradients transpose them.)
def _kept(x: Array) -> Array:
    """x, written out rather than merged with what comes next; so is its cotangent."""
    return lax.optimization_barrier(x) if _one_by_one() else x


@jax.custom_jvp
def inputs_first(x: Array, kernel: Array) -> Array:
    """[B, inputs] times [inputs, outputs]."""
    return x @ kernel


@partial(inputs_first.defjvp, symbolic_zeros=True)
def _inputs_first_tangent(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = inputs_first(x, kernel)
    total = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        total = lax.dot_general(dx, _kept(kernel.T), (((1,), (1,)), ((), ())))
    if not isinstance(dkernel, SymbolicZero):
        total = total + lax.dot_general(_kept(x.T), dkernel, (((0,), (0,)), ((), ())))
    return y, total


@jax.custom_jvp
def outputs_first(x: Array, kernel: Array) -> Array:
    """[B, inputs] times [outputs, inputs], both along their inner axis."""
    return lax.dot_general(x, kernel, (((1,), (1,)), ((), ())))


@partial(outputs_first.defjvp, symbolic_zeros=True)
def _outputs_first_tangent(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (x, kernel), (dx, dkernel) = primals, tangents
    y = outputs_first(x, kernel)
    total = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        total = outputs_first(dx, kernel)
    if not isinstance(dkernel, SymbolicZero):
        total = total + _kept(outputs_first(dkernel, x)).T
    return y, total


class Tapped(nnx.Module):
    """A layer whose outputs, before a bias, can be differentiated by: a `tap` of zeros is added to them, and
    what the layer read is kept in `inputs`."""

    dense = True  # whether inputs and outputs of a row are vectors, and the kernel a matrix
    tap: Array | None = None
    inputs: Array | None = None
    kernel: Any
    bias: Any

    @staticmethod
    def apply(x: Array, kernel: Array) -> Array:
        """The outputs before the bias."""
        raise NotImplementedError

    def linear(self, x: Array) -> Array:
        """The same of the layer's own kernel, and a tap."""
        y = self.apply(x, self.kernel[...])
        if self.tap is None:
            return y
        assert self.inputs is None, "a layer that is passed twice cannot be tapped"
        self.inputs = x
        return y + self.tap


class Dense(Tapped):
    """An affine map that computes in the type it is kept in: [B, inputs] -> [B, features].

    kernel: [inputs, features]; bias: zeros at first.
    """

    @staticmethod
    def apply(x: Array, kernel: Array) -> Array:
        return inputs_first(x, kernel)

    def __init__(self, inputs: int, features: int, init: Initializer, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kernel = nnx.Param(init(rngs.params(), (inputs, features), dtype))
        self.bias = nnx.Param(jnp.zeros((features,), dtype))

    def __call__(self, x: Array) -> Array:
        return self.linear(x) + self.bias[...]


class Narrow(Tapped):
    """`Dense` for few features of many inputs, perhaps without bias; kernel: [features, inputs]."""

    @staticmethod
    def apply(x: Array, kernel: Array) -> Array:
        return outputs_first(x, kernel)

    def __init__(
        self,
        inputs: int,
        features: int,
        init: Initializer,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        bias: bool = True,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (inputs, features), dtype).T)
        self.bias = nnx.Param(jnp.zeros((features,), dtype)) if bias else None

    def __call__(self, x: Array) -> Array:
        y = self.linear(x)
        return y if self.bias is None else y + self.bias[...]


class BatchNorm(nnx.BatchNorm):
    """Batch norm over all axes but the last, whose statistics come from the rows of the mask alone.

    Running statistics have momentum 0.9 and at least 32 bits; a batch without rows leaves them.
    """

    def __init__(self, features: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        # The variance in two passes: E[x^2] - E[x]^2 loses all digits where the mean is large.
        super().__init__(
            features, momentum=0.9, use_fast_variance=False, dtype=dtype, param_dtype=dtype, rngs=rngs
        )
        self.mean = nnx.BatchStat(jnp.zeros((features,), wide(dtype)))
        self.var = nnx.BatchStat(jnp.ones((features,), wide(dtype)))

    def __call__(self, x: Array, rows: Array | None) -> Array:  # type: ignore[override]
        """x: [B, ..., features]; rows: bool[B], the real rows in training, None in evaluation."""
        if rows is None:
            return super().__call__(x, use_running_average=True)
        mean, var, some = self.mean[...], self.var[...], jnp.any(rows)
        mask = jnp.where(some, rows, True).reshape((-1,) + (1,) * (x.ndim - 1))
        y = super().__call__(x, use_running_average=False, mask=mask)
        self.mean[...] = jnp.where(some, self.mean[...], mean)
        self.var[...] = jnp.where(some, self.var[...], var)
        return y


class Conv3x3(Tapped):
    """A 3 x 3 convolution without padding, and a 2 x 2 maximum where `pool` is set.

    [B, H, W, C] -> [B, H - 2, W - 2, features], or [B, (H - 2) // 2, (W - 2) // 2, features].
    """

    dense = False

    @staticmethod
    def apply(x: Array, kernel: Array) -> Array:
        return conv3x3(x, kernel)

    def __init__(
        self, channels: int, features: int, kernel_init: Initializer, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.kernel = nnx.Param(kernel_init(rngs.params(), (3, 3, channels, features), dtype))
        self.bias = nnx.Param(jnp.zeros((features,), dtype))

    def __call__(self, x: Array, pool: bool = False) -> Array:
        y = self.linear(x)
        # Adding the bias after the maximum gives the same bits with a quarter of the additions.
        return (max_pool(y) if pool else y) + self.bias[...]


# The fastest of 20 forms on CPU, by 25 % over what autodiff makes of patches and one product: patches are
# made again in the backward pass instead of kept, images go one by one (their patches stay in the L2
# cache), and the kernel's gradient is (g^T patches)^T, which XLA:CPU does 1.7 times as fast as patches^T g.
# The price: no forward-mode derivatives.
@jax.custom_vjp
def conv3x3(x: Array, kernel: Array) -> Array:
    """Valid cross-correlation of [B, H, W, C] with [3, 3, C, K]: [B, H - 2, W - 2, K]."""
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def one(image: Array) -> Array:
        return _patches(image) @ matrix

    return lax.map(one, x) if _one_by_one() else one(x)


def _conv3x3_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return conv3x3(x, kernel), (x, kernel)


def _conv3x3_backward(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    matrix = kernel.reshape(-1, kernel.shape[-1])
    sums = wide(x.dtype)

    def one(image: Array, g: Array) -> tuple[Array, Array]:
        return (
            jnp.matmul(_flat(g).T, _flat(_patches(image)), preferred_element_type=sums),
            _scatter(g @ matrix.T, image.shape),
        )

    if _one_by_one():
        zero = jnp.zeros(matrix.T.shape, sums)

        def add(total: Array, pair: tuple[Array, Array]) -> tuple[Array, Array]:
            dkernel, dimage = one(*pair)
            return total + dkernel, dimage

        dkernel, dx = lax.scan(add, zero, (x, g))
    else:
        dkernel, dx = one(x, g)
    return dx, dkernel.T.reshape(kernel.shape).astype(kernel.dtype)


conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)


def _one_by_one() -> bool:
    # Where shapes alone are wanted, as on Ray's driver, either form will do and no device is opened.
    return not backend_started() or jax.default_backend() == "cpu"


def _patches(x: Array) -> Array:
    """[..., H, W, C] -> [..., H - 2, W - 2, 9 C], in the order of a kernel's first three axes."""
    h, w = x.shape[-3] - 2, x.shape[-2] - 2
    return jnp.concatenate([x[..., i : i + h, j : j + w, :] for i in range(3) for j in range(3)], axis=-1)


def _scatter(patches: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `_patches`: every element of a patch is added to where it came from."""
    c, still = shape[-1], ((0, 0),) * (len(shape) - 3)
    total = jnp.zeros(shape, patches.dtype)
    for n in range(9):
        i, j = divmod(n, 3)
        part = patches[..., n * c : (n + 1) * c]
        total = total + jnp.pad(part, (*still, (i, 2 - i), (j, 2 - j), (0, 0)))
    return total


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def max_pool(x: Array) -> Array:
    """Maximum of each 2 x 2 square: [B, H, W, C] -> [B, H // 2, W // 2, C]."""
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    top = jnp.maximum(x[:, 0::2, 0::2], x[:, 0::2, 1::2])
    return jnp.maximum(top, jnp.maximum(x[:, 1::2, 0::2], x[:, 1::2, 1::2]))
