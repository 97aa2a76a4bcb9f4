"""What tests of channels and mechanisms share: a message, its clients side by side, and declarations.

VARIANTS and IDENTITIES are by (group, name), and a member of the registries without either fails.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np

from fedsim import trees
from fedsim.base import build_choice
from fedsim.channel import CHANNELS
from fedsim.privacy import MECHANISMS
from fedsim.quantise import padded
from fedsim.stage import Stage
from tests.simulate.quick import jit

Tree = Any
Options = dict[str, Any]
REGISTRIES: dict[str, dict[str, Callable[..., Stage]]] = {"channel": CHANNELS, "privacy": MECHANISMS}
# Mechanisms that clip whole messages and add noise at the server.
CENTRAL = ("adaptive_clip", "banded", "blt", "gaussian", "tree")
# Strategies that need not be found first.
BANDS: Options = {"bands": 3, "coefficients": [4.0, 2.0, 1.5]}
BUFFERS: Options = {"decay": [0.9, 0.3], "scale": [0.2, 0.4], "rounds": 6}
# Mechanisms that send whole numbers of a ring, and all whose clients add noise.
RINGS = ("discrete_gaussian", "skellam")
NOISY = (*RINGS, "local_gaussian")
CLIPPING = (*CENTRAL, *NOISY)
SHAPES: dict[str, tuple[int, ...]] = {"w": (6, 9), "k": (3, 3, 2, 5), "b": (5,), "s": ()}

# Every way through the code of every stage.
VARIANTS: dict[tuple[str, str], list[Options]] = {
    ("channel", "direct"): [{}],
    ("channel", "ef21"): [{"keep": 0.3}],
    ("channel", "powersgd"): [{"rank": 2}],
    ("channel", "qsgd"): [{"levels": 4, "bucket": 7}, {"levels": 1, "bucket": 0}],
    ("channel", "randomk"): [
        {"keep": 0.3, "shared": False, "feedback": False},
        {"keep": 0.3, "shared": True, "feedback": False},
        {"keep": 0.3, "shared": False, "feedback": True},
    ],
    ("channel", "rotation"): [{"levels": 5}],
    ("channel", "sign"): [{}],
    ("channel", "topk"): [
        {"keep": 0.3, "scope": "leaf", "feedback": True},
        {"keep": 0.3, "scope": "message", "feedback": True},
        {"keep": 0.3, "scope": "leaf", "feedback": False},
    ],
    ("privacy", "none"): [{}],
    ("privacy", "gaussian"): [{"clip_norm": 0.5, "noise_multiplier": 1.0}],
    ("privacy", "adaptive_clip"): [{"clip_norm": 0.5, "noise_multiplier": 1.0}],
    ("privacy", "banded"): [
        {"clip_norm": 0.5, "noise_multiplier": 1.0} | BANDS,
        {"clip_norm": 0.5, "noise_multiplier": 1.0, "bands": 1, "coefficients": [1.0]},
    ],
    ("privacy", "blt"): [{"clip_norm": 0.5, "noise_multiplier": 1.0} | BUFFERS],
    ("privacy", "tree"): [
        {"clip_norm": 0.5, "noise_multiplier": 1.0, "restart": 0},
        {"clip_norm": 0.5, "noise_multiplier": 1.0, "restart": 4},
    ],
    ("privacy", "record"): [{}],
    ("privacy", "discrete_gaussian"): [{"contributors": 3.0, "noise_multiplier": 1.0}],
    ("privacy", "skellam"): [{"contributors": 3.0, "noise_multiplier": 1.0}],
    ("privacy", "local_gaussian"): [{"clip_norm": 0.5, "noise_multiplier": 1.0}],
    ("privacy", "randomised_response"): [{}],
    ("privacy", "randomised_counts"): [{}],
}


@dataclass(frozen=True)
class Kept:
    """With `this` a message arrives as it is sent, within `bound` for every unit of a leaf's norm; with
    `but` it does not.

    but: other options, of another member where they name one; values: what becomes of the numbers first.
    """

    this: Options
    but: Options
    bound: float = 0.0
    values: Callable[[np.ndarray], np.ndarray] = lambda x: x


FINE: Options = {"contributors": 64.0, "clip_norm": 16.0, "scale": 2**12, "bits": 24}

IDENTITIES: dict[tuple[str, str], Kept] = {
    ("channel", "direct"): Kept({}, {"name": "topk", "keep": 0.5}),
    ("channel", "ef21"): Kept({"keep": 1.0}, {"keep": 0.9}),
    ("channel", "powersgd"): Kept({"rank": 5}, {"rank": 2}),
    ("channel", "qsgd"): Kept({"levels": 2**20}, {"levels": 15}, 2.0**-20 + 1e-6),
    ("channel", "randomk"): Kept({"keep": 1.0}, {"keep": 0.9}),
    ("channel", "rotation"): Kept({"levels": 2**20}, {"levels": 16}, 16 * 2.0**-20 + 1e-6),
    # A sign says nothing of a number's size, and all it needs to where all are alike.
    ("channel", "sign"): Kept(
        {}, {"name": "rotation", "levels": 2}, 1e-6, lambda x: np.where(x < 0, -0.7, 0.7)
    ),
    ("channel", "topk"): Kept({"keep": 1.0}, {"keep": 0.9}),
    ("privacy", "none"): Kept({}, {"name": "gaussian", "clip_norm": 0.5}),
    # What protects records is done before there is a message.
    ("privacy", "record"): Kept({}, {"name": "gaussian", "clip_norm": 0.5}),
    ("privacy", "gaussian"): Kept({"clip_norm": 1e6, "noise_multiplier": 0.0}, {"clip_norm": 0.5}),
    ("privacy", "adaptive_clip"): Kept({"clip_norm": 1e6, "noise_multiplier": 0.0}, {"clip_norm": 0.5}),
    ("privacy", "banded"): Kept(
        {"clip_norm": 1e6, "noise_multiplier": 0.0} | BANDS, {"clip_norm": 0.5} | BANDS
    ),
    ("privacy", "blt"): Kept(
        {"clip_norm": 1e6, "noise_multiplier": 0.0} | BUFFERS, {"clip_norm": 0.5} | BUFFERS
    ),
    ("privacy", "tree"): Kept({"clip_norm": 1e6, "noise_multiplier": 0.0}, {"clip_norm": 0.5}),
    # A rounding moves a number by less than a step of the ring, and 256 of them by less than 16.
    ("privacy", "discrete_gaussian"): Kept(FINE | {"noise_multiplier": 0.0}, FINE, 16 * 16 / 2**12),
    ("privacy", "skellam"): Kept(FINE | {"noise_multiplier": 0.0}, FINE, 16 * 16 / 2**12),
    ("privacy", "local_gaussian"): Kept({"clip_norm": 1e6, "noise_multiplier": 0.0}, {"clip_norm": 0.5}),
    # Messages it leaves alone: it exchanges labels.
    ("privacy", "randomised_response"): Kept({}, {"name": "gaussian", "clip_norm": 0.5}),
    # And here, what they are weighted by.
    ("privacy", "randomised_counts"): Kept({}, {"name": "gaussian", "clip_norm": 0.5}),
}


def every(group: str) -> list[Options]:
    """Every variant of a group's members, as options."""
    return [{"name": n} | options for (g, n), found in VARIANTS.items() if g == group for options in found]


def named(options: Options) -> str:
    return "-".join(str(v) for v in options.values())


def stage(options: Options, group: str = "channel") -> Stage:
    return REGISTRIES[group][options["name"]](build_choice(group, options, group))


def handed_on(s: Stage, update: Tree) -> Tree:
    """What a client half makes of messages like `update`: the shapes."""
    if s.ring is None:
        return update
    return jax.ShapeDtypeStruct((padded(trees.size(update)),), np.int32)


def message(seed: int = 0, dtype: Any = np.float32) -> Tree:
    """Matrices, a kernel, a vector, a number, and a leaf that is none. NumPy, as eager JAX compiles."""
    rng = np.random.default_rng(seed)
    leaves = {name: np.asarray(rng.normal(size=shape)).astype(dtype) for name, shape in SHAPES.items()}
    return leaves | {"state": ()}


def remembered_at_first(options: Options, update: Tree, group: str = "channel") -> Tree:
    """What a client remembers before its first message: zeros."""
    shapes = jax.eval_shape(stage(options, group).init_memory, update)
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


@cache
def compiled(said: str, group: str) -> Any:
    """Three clients of a round side by side, in one program for all tests."""
    s = stage(json.loads(said), group)

    def three(updates: Tree, memories: Tree, keys: Any, rnd: Any) -> tuple[Tree, Tree]:
        told = s.announce(s.init(jax.tree.map(lambda x: x[0], updates)), jax.random.key(1000 + rnd))
        return jax.vmap(lambda u, m, k: s.client(u, m, told, jax.random.key(k)))(updates, memories, keys)

    return jit(three)


def side_by_side(
    options: Options, clients: list[tuple[Tree, Tree, int]], rnd: int = 0, group: str = "channel"
) -> list[Tree]:
    """(what is handed on, what is kept) of three clients with an update, a memory and a key."""
    updates, memories = (jax.tree.map(lambda *x: np.stack(x), *[c[i] for c in clients]) for i in (0, 1))
    run = compiled(json.dumps(options), group)
    out = jax.device_get(run(updates, memories, np.array([c[2] for c in clients]), np.int32(rnd)))
    return [jax.tree.map(lambda x, i=i: x[i], out) for i in range(3)]


def send(
    options: Options, update: Tree, memory: Tree = None, key: int = 0, rnd: int = 0, group: str = "channel"
) -> tuple[Tree, Tree]:
    """What one client, beside two that have nothing, hands on and keeps; at first it remembers nothing."""
    first = remembered_at_first(options, update, group)
    nothing = jax.tree.map(np.zeros_like, update), first, 0
    clients = [(update, first if memory is None else memory, key), nothing, nothing]
    found: tuple[Tree, Tree] = side_by_side(options, clients, rnd, group)[0]
    return found


def sent(options: Options, update: Tree, key: int = 0, rnd: int = 0) -> Tree:
    return send(options, update, None, key, rnd)[0]


def both(a: Tree, b: Tree) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.asarray(x, np.float64), np.asarray(y, np.float64))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
