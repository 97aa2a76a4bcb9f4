"""What a round's training costs a client: how often it passes an example through the model.

Found by tracing a client's half of the algorithm with an oracle that leaves a mark where a question is
asked, and walking through what was traced. Loops are followed as often as they run, as far as rows, steps
and the experiment's numbers decide it; a loop that asks the data how long it goes on is followed once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from fedsim import keys, trees
from fedsim.local import Oracle, Whole
from fedsim.simulate.exchanged import exchanged, stand_in
from fedsim.simulate.structure import Structure, bind

Tree = Any
_MARK = "asked_of_rows"


class Undecided(Exception):
    """How often a question is asked follows from more than is known, or it is about several models."""


_FORWARD, _BACKWARD = 1.0, 3.0  # a pass back is worth two forward
_OUTER = 1.0  # x x' of a row is worth a pass forward for each of its features


class Work(NamedTuple):
    """Passes forward of one example: `step` of each that a local step visits, `once` of every row of the
    client in a round; `survey` of every row in the first of two exchanges, not in `once`."""

    step: float
    once: float
    survey: float = 0.0


def work(s: Structure) -> Callable[[Mapping[str, float]], Work]:
    """The work of a lane with these numbers, by their paths. Traces now, once for all lanes."""
    batch = s.experiment.optimizer.batch_size

    training, asking = traced(s, marking)
    rows = 16 * batch or 64  # no batch is short, and no slice of rows

    def of(numbers: Mapping[str, float]) -> Work:
        def passes(jaxpr: Any, steps: int) -> float:
            values = [np.asarray(numbers[path], s.number_dtype) for path in s.paths]
            known = [*values, np.int32(rows), np.int32(steps)]
            rest = [None] * (len(jaxpr.in_avals) - len(known))
            return walk(jaxpr.jaxpr, jaxpr.consts, [*known, *rest])[1]

        once = passes(training, 0)
        step = passes(training, 1) - once
        first = passes(asking, 0) if asking else 0.0
        return Work(step / (batch or rows), once / rows, first / rows)

    return of


def traced(s: Structure, watched: Callable[[Oracle], Oracle]) -> tuple[Any, Any]:
    """A client's half of a round, and of its survey, or None, with an oracle that is `watched`: functions of
    (the lane's numbers, rows, local steps, key) as they were traced."""

    def client(survey: bool, numbers: list[Any], rows: Any, steps: Any, key: Any) -> Any:
        parts, _ = bind(s, numbers, jnp.zeros((), jnp.int32), watched)
        model = parts.task.init(key)
        start = parts.algorithm.send(parts.algorithm.init(model))
        batches = stand_in(s, parts, rows, steps)
        if parts.algorithm.survey:
            if survey:
                return parts.algorithm.survey.answer(start, batches, key)
            start = start, exchanged(s, parts, start, model).found
        return parts.algorithm.client_update(start, parts.algorithm.init_memory(model), batches, key)

    scalars = [jax.ShapeDtypeStruct((), s.number_dtype) for _ in s.paths]
    whole = jax.ShapeDtypeStruct((), jnp.int32)
    key = jax.eval_shape(lambda: keys.run_key(jnp.zeros(2, jnp.uint32), keys.INIT))

    def of(survey: bool) -> Any:
        return jax.make_jaxpr(partial(client, survey))(scalars, whole, whole, key)

    return of(False), of(True) if s.widths.exchanges > 1 else None


# --- marks -----------------------------------------------------------------------------------


def marking(oracle: Oracle) -> Oracle:
    """The same answers, and a mark for each, at which so many examples times passes are counted."""

    def marked(name: str, passes: float) -> Callable[..., Any]:
        ask = getattr(oracle, name)

        def question(model: Any, batch: Any, *more: Any) -> Any:
            all_rows = name.startswith("full") or isinstance(batch, Whole)
            batches = batch.batches if isinstance(batch, Whole) else batch
            rows = batches.window.rows if all_rows else jnp.int32(batch["mask"].shape[0])
            if isinstance(batch, Whole) and batches.lots and batches.size:
                rows = jnp.int32(batches.size)  # on average
            mark(model, rows.astype(jnp.float32) * passes)
            return ask(model, batch, *more)

        return question

    once: dict[str, Any] = {name: marked(name, _FORWARD) for name in ("loss", "full_loss", "features")}
    slopes = ("gradient", "full_gradient", "penalised")
    thrice: dict[str, Any] = {name: marked(name, _BACKWARD) for name in slopes}

    def second(ask: Callable[..., Any], passes: float) -> Callable[..., Any]:
        """A question about all rows: `passes` forward, by every parameter."""

        def question(model: Any, batches: Any, *more: Any) -> Any:
            mark(model, batches.window.rows.astype(jnp.float32) * passes * trees.size(model.params))
            return ask(model, batches, *more)

        return question

    shared = oracle.shared
    if shared is not None:
        shared = shared._replace(
            survey=second(shared.survey, _OUTER), curvature=second(shared.curvature, _OUTER)
        )

    def histograms(model: Any, batches: Any, growing: Any) -> Any:
        mark(model, batches.window.rows.astype(jnp.float32) * _FORWARD)  # besides it is additions
        return oracle.histograms(model, batches, growing)

    curvature = second(oracle.curvature, _OUTER)
    return oracle._replace(**once, **thrice, curvature=curvature, shared=shared, histograms=histograms)


def mark(model: Any, passes: Any) -> None:
    """A call by a name of its own; under `vmap` over models it takes as many numbers as there are."""

    def asked_of_rows(number: Any, passes: Any) -> Any:
        return number, passes

    asked_of_rows.__name__ = _MARK
    jax.jit(asked_of_rows)(jax.lax.stop_gradient(jax.tree.leaves(model.params)[0].ravel()[0]), passes)


# --- walking through what was traced ---------------------------------------------------------


def _divided(a: Any, b: Any) -> Any:
    """Towards zero between integers, as XLA divides."""
    return (np.trunc(a / b) if np.issubdtype(np.result_type(a, b), np.integer) else a / b).astype(a.dtype)


# What numbers of steps and rows are made with; a result that other operations make is not known.
_KNOWN: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": _divided, "rem": np.fmod,
    "max": np.maximum, "min": np.minimum, "neg": np.negative, "sign": np.sign, "floor": np.floor,
    "ceil": np.ceil, "round": np.rint, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "or": np.logical_or, "not": np.logical_not,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "select_n": lambda which, *cases: cases[int(which)],
    "stop_gradient": lambda x: x, "copy": lambda x: x,
}  # fmt: skip


def walk(jaxpr: Any, consts: Any, arguments: Any, strict: bool = False) -> tuple[list[Any], float]:
    """(results, passes that were marked). A value is a NumPy scalar, or None where it is not known.

    strict: raises Undecided where what is known does not decide how many marks are passed."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(_scalar, consts), strict=True))
    known |= dict(zip(jaxpr.invars, arguments, strict=True))
    total = 0.0
    for eqn in jaxpr.eqns:
        values = [_scalar(v.val) if isinstance(v, jex.Literal) else known.get(v) for v in eqn.invars]
        results, passes = _equation(eqn, values, strict)
        total += passes
        known |= dict(zip(eqn.outvars, results, strict=True))
    ends = [_scalar(v.val) if isinstance(v, jex.Literal) else known.get(v) for v in jaxpr.outvars]
    return ends, total


def _scalar(value: Any) -> Any:
    """A constant of the program, where it is one number."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return None
    return np.asarray(value)[()] if np.ndim(value) == 0 else None


def _equation(eqn: Any, values: list[Any], strict: bool) -> tuple[list[Any], float]:
    name, inner, nothing = eqn.primitive.name, eqn.params, [None] * len(eqn.outvars)
    if inner.get("name") == _MARK:
        if strict and eqn.invars[0].aval.shape:
            raise Undecided
        return nothing, float(values[1]) * math.prod(eqn.invars[0].aval.shape)
    if name == "while":
        return _loop(inner, values, strict)
    if name == "scan":
        held, carried = inner["num_consts"], inner["num_carry"]
        body = inner["jaxpr"]
        consts, carry, total = values[:held], values[held : held + carried], 0.0
        rest = [None] * (len(values) - held - carried)
        for _ in range(inner["length"]):
            results, passes = walk(body.jaxpr, body.consts, [*consts, *carry, *rest], strict)
            carry, total = results[:carried], total + passes
        return [*carry, *nothing[carried:]], total
    if name == "cond":  # the dearest branch, where it is not known which
        chosen = [inner["branches"][int(values[0])]] if values[0] is not None else inner["branches"]
        ways = [walk(way.jaxpr, way.consts, values[1:], strict) for way in chosen]
        return (ways[0][0] if len(ways) == 1 else nothing), max(passes for _, passes in ways)
    for of in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if of in inner:
            closed = inner[of]
            return walk(getattr(closed, "jaxpr", closed), getattr(closed, "consts", ()), values, strict)
    if name == "and":
        false = any(v is not None and not v for v in values)
        return [np.bool_(False) if false else None if None in values else np.logical_and(*values)], 0.0
    if name == "convert_element_type":
        return [None if values[0] is None else np.asarray(values[0]).astype(inner["new_dtype"])[()]], 0.0
    if name == "optimization_barrier":
        return values, 0.0
    if name not in _KNOWN or any(v is None for v in values):
        return nothing, 0.0
    return [_KNOWN[name](*values)], 0.0


def _loop(inner: Mapping[str, Any], values: list[Any], strict: bool) -> tuple[list[Any], float]:
    held, more = inner["cond_nconsts"], inner["body_nconsts"]
    asked, does = inner["cond_jaxpr"], inner["body_jaxpr"]
    of_cond, of_body, carry = values[:held], values[held : held + more], values[held + more :]
    total = 0.0
    while True:
        ((again,), _) = walk(asked.jaxpr, asked.consts, [*of_cond, *carry], strict)
        if again is not None and not again:
            return carry, total
        carry, passes = walk(does.jaxpr, does.consts, [*of_body, *carry], strict)
        total += passes
        if again is None:
            if strict and passes:
                raise Undecided
            return [None] * len(carry), total
