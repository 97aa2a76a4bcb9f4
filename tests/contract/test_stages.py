"""Laws that every channel and every mechanism obeys, found by listing, and when it changes nothing."""

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import pytest

from fedsim import config, trees
from fedsim.data.preprocess import Constants
from fedsim.model import Model
from fedsim.simulate.engine import Handles, simulate
from tests.contract.stages import (
    BANDS,
    BUFFERS,
    CLIPPING,
    IDENTITIES,
    NOISY,
    REGISTRIES,
    RINGS,
    SHAPES,
    VARIANTS,
    Tree,
    both,
    every,
    handed_on,
    message,
    named,
    remembered_at_first,
    send,
    side_by_side,
    stage,
)
from tests.golden import reference
from tests.simulate import small
from tests.simulate.quick import jit

MEMBERS = [(group, name) for group, registry in REGISTRIES.items() for name in sorted(registry)]
# Without memory and with it, without noise and with it, and what protects before there is a message.
SHORT = {"direct", "ef21", "none", "gaussian", "record"}
every_member = pytest.mark.parametrize(("group", "name"), MEMBERS, ids=["-".join(m) for m in MEMBERS])
every_variant = pytest.mark.parametrize(
    ("group", "options"),
    [(group, options) for group in REGISTRIES for options in every(group)],
    ids=lambda x: x if isinstance(x, str) else named(x),
)


def test_every_stage_is_here() -> None:
    assert VARIANTS.keys() == IDENTITIES.keys() == set(MEMBERS)
    for group, registry in REGISTRIES.items():
        assert registry.keys() == config.MEMBERS[group].keys()


# --- alone -----------------------------------------------------------------------------------


@every_variant
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_shapes_and_dtypes_are_kept(group: str, options: dict[str, Any], dtype: str) -> None:
    """Traced, side by side, with 64 bits where asked; at both ends."""
    with jax.enable_x64(dtype == "float64"):
        s = stage(options, group)
        update = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in SHAPES.items()} | {"state": ()}
        memory = jax.eval_shape(s.init_memory, update)

        def three(update: Tree, memory: Tree, keys: Any) -> tuple[Tree, Tree, Tree, Tree, Tree]:
            state = s.init(update)
            told = s.announce(state, jax.random.key(1))
            out = jax.vmap(lambda key: s.client(update, memory, told, key))(keys)
            came = update if s.ring is None else jax.numpy.sum(out[0], axis=0, dtype=np.int32)
            aggregate, new = s.server(came, state, jax.random.key(2), jax.numpy.float32(3))
            new = s.hear(new, s.report(update, told), jax.random.key(3), jax.numpy.float32(3))
            return *out, aggregate, new, state

        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
        after, kept, aggregate, new, old = jax.eval_shape(three, update, memory, keys)
    sent = handed_on(s, update)
    assert str(jax.tree.structure((after, kept))) == str(jax.tree.structure((sent, memory)))
    for x, y in zip(jax.tree.leaves((after, kept)), jax.tree.leaves((sent, memory)), strict=True):
        assert x.shape == (3, *y.shape) and x.dtype == y.dtype
        assert s.ring or x.dtype == dtype
    assert (aggregate, new) == (update, old)


@every_variant
def test_side_by_side_as_alone(group: str, options: dict[str, Any]) -> None:
    updates = [message(seed) for seed in range(3)]
    first = remembered_at_first(options, updates[0], group)
    memories = [jax.tree.map(lambda x, i=i: x + np.asarray(0.1 * i, x.dtype), first) for i in range(3)]
    clients = list(zip(updates, memories, range(3), strict=True))
    together = side_by_side(options, clients, 0, group)
    for client, found in zip(clients, together, strict=True):
        small.assert_same_bits(found, send(options, *client, 0, group))
    assert not np.array_equal(small.flat(together[0]), small.flat(together[1]))


@every_variant
def test_nothing_stays_nothing_and_what_diverges_is_seen(group: str, options: dict[str, Any]) -> None:
    zeros = jax.tree.map(np.zeros_like, message())
    quiet = {"noise_multiplier": 0.0} if options["name"] in NOISY else {}
    assert not small.flat(send(options | quiet, zeros, group=group)[0]).any()
    update = message()
    update["w"] = np.full_like(update["w"], np.nan)
    mechanism = stage(options, group).mechanism
    if mechanism is None or mechanism.unit == "label":
        assert np.isnan(small.flat(send(options, update, group=group)[0]["w"])).any()


SCALING = [(g, o) for g in REGISTRIES for o in every(g) if stage(o, g).scales]


def test_what_clips_and_no_more_is_declared_to_scale() -> None:
    assert {o["name"] for _, o in SCALING} == {
        "direct", "none", "randomised_counts", "record",  # which leave messages as they are
        "gaussian", "banded", "blt", "tree",
    }  # fmt: skip


@pytest.mark.parametrize(("group", "options"), SCALING, ids=lambda x: x if isinstance(x, str) else named(x))
def test_what_scales_knows_numbers_by_their_magnitudes(group: str, options: dict[str, Any]) -> None:
    update, rng = message(), np.random.default_rng(0)
    signs = jax.tree.map(lambda x: rng.choice(np.array([-1, 1], x.dtype), x.shape), update)
    turned = jax.tree.map(np.multiply, update, signs)
    one, other = send(options, update, group=group), send(options, turned, None, 7, group=group)
    small.assert_same_bits(jax.tree.map(np.multiply, one[0], signs), other[0])
    s = stage(options, group)
    told = s.announce(s.init(update), jax.random.key(1))
    small.assert_same_bits(s.report(update, told), s.report(turned, told))


@pytest.mark.parametrize("options", [o for o in every("privacy") if o["name"] in CLIPPING], ids=named)
def test_what_is_not_finite_is_clipped_to_nothing_and_counted(options: dict[str, Any]) -> None:
    s = stage(options, "privacy")

    @jit
    def heard(state: Tree, sent: Tree) -> Tree:
        reports = s.report(sent, s.announce(state, jax.random.key(1)))
        return s.hear(state, reports, jax.random.key(0), jax.numpy.float32(1))

    state = s.init(message())
    wrong = [{**message(), "s": np.float32(x)} for x in (np.nan, -np.inf, 1e30)]
    for count, sent in enumerate([message(), *wrong]):
        quiet = {"noise_multiplier": 0.0} if options["name"] in NOISY else {}
        clipped = small.flat(send(options | quiet, sent, group="privacy")[0])
        assert np.isfinite(clipped).all() and clipped.any() == (count == 0)
        state = heard(state, sent)
        assert s.measures(state)["nonfinite"] == count


@every_variant
def test_bytes_follow_from_shapes_and_are_never_fewer_in_a_wider_type(
    group: str, options: dict[str, Any]
) -> None:
    s, whole = stage(options, group), message()
    narrow, wide = s.nbytes(message(dtype=jax.numpy.bfloat16)), s.nbytes(whole)
    assert type(wide) is int and 0 < narrow <= wide <= trees.nbytes(whole) * 2
    assert wide == s.nbytes(jax.eval_shape(lambda: whole)) == s.nbytes(message(9))


def arrives(group: str, options: dict[str, Any], update: Tree) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the server makes of the mean of one client's messages, beside the message."""
    s = stage(options, group)
    out, _ = send(options, update, group=group)
    if group == "privacy":  # a mechanism adds to what arrives
        state = s.init(update)
        out, _ = jit(s.server)(out, state, jax.random.key(5), np.float32(1))
    return both(out, update)


@every_member
def test_identity(group: str, name: str) -> None:
    law = IDENTITIES[group, name]
    update = {k: law.values(x) if k != "state" else () for k, x in message().items()}
    update = jax.tree.map(lambda x: np.asarray(x, np.float32), update)
    for x, y in arrives(group, {"name": name} | law.this, update):
        assert np.abs(x - y).max() <= law.bound * np.linalg.norm(y)


@every_member
def test_identity_can_be_violated(group: str, name: str) -> None:
    law = IDENTITIES[group, name]
    apart = [np.abs(x - y).max() for x, y in arrives(group, {"name": name} | law.but, message())]
    assert max(apart) > 1e-3


# --- in the engine ---------------------------------------------------------------------------

# The only channel that needs a matrix to speak of; a mechanism's weights must not tell.
NEEDED: dict[str, dict[str, Any]] = {
    "powersgd": {"task": {"name": "mlp", "hidden": [8], "l2": 0.0}},
} | {
    name: {"algorithm": {"name": "fedavg", "weighting": "uniform"}}
    | ({"secure": "bonawitz"} if name in RINGS else {})
    for name in CLIPPING
}
# Mild, as 30 steps are to show that training goes on through each.
MILD: dict[str, dict[str, Any]] = {
    "ef21": {"keep": 0.4},
    "powersgd": {"rank": 1},
    "randomk": {"keep": 0.5, "shared": True},
    "topk": {"keep": 0.3},
    "gaussian": {"noise_multiplier": 0.02, "clip_norm": 3.0},
    "adaptive_clip": {"noise_multiplier": 0.02, "clip_norm": 3.0, "bit_noise": 0.1},
    "banded": {"noise_multiplier": 0.02, "clip_norm": 3.0} | BANDS,
    "blt": {"noise_multiplier": 0.02, "clip_norm": 3.0} | BUFFERS,
    "tree": {"noise_multiplier": 0.02, "clip_norm": 3.0, "restart": 4},
    "record": {"noise_multiplier": 0.02, "clip_norm": 3.0},
    "discrete_gaussian": {"noise_multiplier": 0.02, "clip_norm": 3.0, "contributors": 6.0},
    "skellam": {"noise_multiplier": 0.02, "clip_norm": 3.0, "contributors": 5.0},
    "local_gaussian": {"noise_multiplier": 0.02, "clip_norm": 3.0},
    "randomised_response": {"epsilon": 3.0},
    "randomised_counts": {"epsilon": 3.0, "places": 20},
}


def lane(group: str, name: str, **changes: Any) -> Any:
    member = {"name": name} | MILD.get(name, {})
    values: dict[str, Any] = {"world": "all", "rounds": 6, group: member} | NEEDED.get(name, {})
    return small.lane(small.experiment(**(values | changes)))


@cache
def trained(group: str, name: str) -> small.Trained:
    return small.train([lane(group, name)])


def loss(run: small.Trained, model: Model) -> float:
    """Mean log loss of a model, logistic or of one hidden layer, on all training rows."""
    (mine,), columns = run.engine.lanes, run.engine.federation.columns
    assert columns is not None
    clients = reference.clients_of(mine, columns)
    x, y = (np.concatenate(part) for part in ([c.x for c in clients], [c.y for c in clients]))
    if "dense" in model.params:
        first, last = (model.params["dense"][i] for i in (0, 1))
        x = np.maximum(x @ first["kernel"] + first["bias"], 0)
    else:
        last = model.params["head"]
    z = x @ last["kernel"][0] + last["bias"][0]
    return float(np.mean(np.logaddexp(0, z) - y * z))


@every_member
def test_training_goes_on(group: str, name: str) -> None:
    run = trained(group, name)
    ((before, _),) = run.engine.models(run.engine.init())
    assert loss(run, run.models[0][0]) < 0.75 * loss(run, before)
    assert all(r.finite.all() for r in run.rounds)


@pytest.mark.long  # compiles every variant
def test_no_two_stages_come_to_the_same() -> None:
    found = [(g, n) for g, n in MEMBERS if n not in ("powersgd", "none")]
    models = [small.weights(trained(*member).models[0][0]) for member in found]
    apart = [np.abs(a - b).max() for i, a in enumerate(models) for b in models[:i]]
    assert min(apart) > 1e-4


@every_member
def test_packing_and_empty_slots_keep_the_bits(group: str, name: str) -> None:
    """Beside another lane, and with the constants poisoned that an empty slot reads."""
    mine, other = lane(group, name), lane(group, name, seed=9, optimizer={"step_size": 0.1})
    state = trained(group, name).states[0]
    small.assert_same_bits(small.train([other, mine]).states[1], state)
    c: Constants = mine.constants
    poisoned = Constants(
        **{
            part: np.concatenate([np.full_like(getattr(c, part)[:1], np.nan), getattr(c, part)])
            for part in ("impute", "shift", "scale")
        },
        of_client=c.of_client + 1,
    )
    small.assert_same_bits(small.train([replace(mine, constants=poisoned)]).states[0], state)


@every_member
def test_resuming_keeps_the_bits(group: str, name: str) -> None:
    mine = lane(group, name)
    begun = small.train([mine], stops=[2])
    saved = begun.engine.fetch(begun.handles)
    en = small.engine([mine])
    for team, old in zip(en.teams, begun.engine.teams, strict=True):
        team.restore(np.concatenate(old.slots))
    handles = [Handles(en.place(t, jax.tree.map(np.array, state))) for t, state in enumerate(saved)]
    (handles,) = (h for h, _ in simulate(en, handles, [6], first=2))
    (state,) = small.by_lane(en, en.fetch(handles))
    small.assert_same_bits(state, trained(group, name).states[0])


def test_clients_of_a_round_share_what_is_announced() -> None:
    """Each sends three of five weights, in every round the same three for all."""
    mine = lane("channel", "randomk")
    en = small.engine([mine])
    models = [en.models(en.init()), *(en.models(h) for h, _ in simulate(en, en.init(), [1, 2, 3, 4]))]
    weights = [small.weights(model[0][0])[:-1] for model in models]
    moved = [np.flatnonzero(b - a).tolist() for a, b in pairwise(weights)]
    assert [len(m) for m in moved] == [3] * 4 and len({*map(tuple, moved)}) > 1


@every_member
def test_bytes_and_memory_are_those_of_the_stage(group: str, name: str) -> None:
    run = trained(group, name)
    model = run.models[0][0]
    member = stage({"name": name} | MILD.get(name, {}), group)
    if not member.ring:  # which a secure sum packs
        assert run.engine.traits.up_bytes == member.nbytes(model) + member.reported
    assert member.reported == (name == "adaptive_clip")
    memory = jax.eval_shape(member.init_memory, model)
    assert run.engine.traits.memory_bytes == trees.nbytes(memory)
    assert run.engine.traits.down_bytes == trees.nbytes(model) + member.announced
    first, second = (jax.tree.leaves(member.announce(member.init(model), jax.random.key(i))) for i in (0, 1))
    tells = any(str(a) != str(b) for a, b in zip(first, second, strict=True))
    # The clip norm, the seed of the run's rotation, or one of the round.
    told = {"adaptive_clip": 4, "discrete_gaussian": 8, "skellam": 8}
    assert member.announced == told.get(name, 8 if tells else 0)
