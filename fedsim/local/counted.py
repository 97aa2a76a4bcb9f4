"""Counts made deep inside a client's work, and carried out of it whatever the algorithm does between.

An oracle answers within loops of algorithms that know nothing of what it counts. It leaves a note, a call by
a name of its own; whoever runs the client's work traces it, and follows it with one more number that every
loop carries. A loop over clients side by side then counts each to its own end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

Tree = Any
Array = jax.Array
_NOTE = "counted_here"


def note(count: Array) -> None:
    """Adds `count`, i32, to what `counted` finds; does nothing elsewhere."""

    def counted_here(count: Array) -> Array:
        return count

    counted_here.__name__ = _NOTE
    jax.jit(counted_here)(count)


def counted(work: Callable[[], Tree]) -> tuple[Tree, Array]:
    """(work(), the sum of what was noted on the way: i32 scalar)."""
    traced, shape = jax.make_jaxpr(work, return_shape=True)()
    results, total = _follow(traced, [])
    return jax.tree.unflatten(jax.tree.structure(shape), results), total


def _follow(traced: Any, values: Sequence[Any]) -> tuple[list[Any], Array]:
    """(results, sum of notes) of what was traced, at `values`."""
    known: dict[Any, Any] = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    known |= dict(zip(traced.jaxpr.invars, values, strict=True))
    total = jnp.zeros((), jnp.int32)
    for eqn in traced.jaxpr.eqns:
        given = [v.val if isinstance(v, jex.Literal) else known[v] for v in eqn.invars]
        if _notes(eqn):
            results, count = _equation(eqn, given)
            total = total + count
        else:
            results = _same(eqn, given)
        known |= dict(zip(eqn.outvars, results, strict=True))
    ends = [v.val if isinstance(v, jex.Literal) else known[v] for v in traced.jaxpr.outvars]
    return ends, total


def _inner(eqn: Any) -> list[Any]:
    """What was traced of an equation's branches or bodies."""
    found = [x for value in eqn.params.values() for x in (value if isinstance(value, tuple) else (value,))]
    return [x for x in found if isinstance(x, jex.ClosedJaxpr)]


def _notes(eqn: Any) -> bool:
    """Whether something is noted in it."""
    if eqn.params.get("name") == _NOTE:
        return True
    return any(_notes(inner) for traced in _inner(eqn) for inner in traced.jaxpr.eqns)


def _same(eqn: Any, given: list[Any]) -> list[Any]:
    """An equation as it stands: a function of one line."""
    of = {v: x for v, x in zip(eqn.invars, given, strict=True) if not isinstance(v, jex.Literal)}
    about = jex.DebugInfo("counted", eqn.primitive.name, None, None)
    line = jex.Jaxpr((), list(of), eqn.outvars, [eqn], eqn.effects, about)
    return list(jex.jaxpr_as_fun(jex.ClosedJaxpr(line, ()))(*of.values()))


def _equation(eqn: Any, given: list[Any]) -> tuple[list[Any], Array]:
    """An equation in which something is noted: (its results, how much)."""
    name, inner = eqn.primitive.name, eqn.params
    nothing = jnp.zeros((), jnp.int32)
    if inner.get("name") == _NOTE:
        return given, jnp.sum(given[0], dtype=jnp.int32)
    if name == "while":
        asked, does = inner["cond_jaxpr"], inner["body_jaxpr"]
        of_asked, rest = _cut(given, inner["cond_nconsts"])
        of_does, carry = _cut(rest, inner["body_nconsts"])

        def again(held: tuple[list[Any], Array]) -> Array:
            more: Array = jex.jaxpr_as_fun(asked)(*of_asked, *held[0])[0]
            return more

        def once(held: tuple[list[Any], Array]) -> tuple[list[Any], Array]:
            results, count = _follow(does, [*of_does, *held[0]])
            return results, held[1] + count

        ends: tuple[list[Any], Array] = jax.lax.while_loop(again, once, (carry, nothing))
        return ends
    if name == "scan":
        constant, rest = _cut(given, inner["num_consts"])
        carry, along = _cut(rest, inner["num_carry"])

        def step(held: tuple[list[Any], Array], x: list[Any]) -> tuple[tuple[list[Any], Array], list[Any]]:
            results, count = _follow(inner["jaxpr"], [*constant, *held[0], *x])
            new, out = _cut(results, inner["num_carry"])
            return (new, held[1] + count), out

        (last, total), stacked = jax.lax.scan(
            step, (carry, nothing), along, inner["length"], inner["reverse"], inner["unroll"]
        )
        return [*last, *stacked], total
    if name == "cond":
        ways = [lambda *values, way=way: _follow(way, values) for way in inner["branches"]]
        results, total = jax.lax.switch(given[0], ways, *given[1:])
        return results, total
    (traced,) = _inner(eqn)  # a function that was called: what calls do beside is for derivatives
    return _follow(traced, given)


def _cut(values: Sequence[Any], at: int) -> tuple[list[Any], list[Any]]:
    return list(values[:at]), list(values[at:])
