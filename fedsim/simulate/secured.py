"""A secure sum in the engine: what it asks of an experiment, who is left in a round, and the protocol run
for real between training and the server's step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from fedsim import secure, trees, world
from fedsim.algorithms import Reduction
from fedsim.base import FedsimError, nearest, require
from fedsim.config import Direct, Experiment, InRing, SecureConfig, SecureSum
from fedsim.config.secure import FIELD, LightSecAgg
from fedsim.config.world import Asynchronous
from fedsim.data.rng import generator
from fedsim.secure.graphs import Graph
from fedsim.secure.statement import statement

Tree = Any


def length(e: Experiment, parts: Any, summand: Tree) -> int:
    """Numbers that are masked of each client, 0 without a secure sum.

    Raises RequestError for what cannot be summed under masks, with the reason.
    """
    cfg = e.secure
    if not isinstance(cfg, SecureSum):
        return 0
    own, name = parts.algorithm.aggregate, f"secure={cfg.name}"
    require(
        isinstance(own, Reduction),
        f"{name} gives the server a sum over clients, and algorithm={e.algorithm.name}'s aggregate is not a "
        "sum; choose an algorithm that averages, such as algorithm=fedavg",
    )
    require(
        parts.aggregator is None,
        f"{name} hides single messages, and aggregator={e.aggregator.name} needs to see them all; set "
        "aggregator=mean",
    )
    require(
        parts.attack.collude is None,
        f"{name} hides single messages, and attack={e.attack.name} is made from all of them; choose an "
        "attack of each liar alone, such as attack=sign_flip",
    )
    require(
        parts.algorithm.survey is None,
        f"{name} hides the messages of one exchange a round, and algorithm={e.algorithm.name} asks clients a "
        "first time, in the open; choose another algorithm, such as mimelite",
    )
    require(
        trees.size(summand) > 0,
        f"algorithm={e.algorithm.name} sends nothing that {name} could hide; set secure=none",
    )
    require(
        isinstance(e.channel, Direct),
        f"masks make a message as long and as random as it can be, so that nothing is saved by "
        f"channel={e.channel.name} under {name}; set channel=direct",
    )
    require(
        not isinstance(e.world, Asynchronous) and e.world.staleness == 0,
        f"{name} runs among clients that begin and end a round together, and messages of other ages are no "
        "part of that; choose another world than asynchronous, with world.staleness=0",
    )
    require(
        not world.chooses(e.world),
        f"world={e.world.name} has clients tell their losses one by one, which {name} would hide; choose a "
        "world that draws at random, such as world=uniform",
    )
    return trees.size(summand) + 1  # and how many were clipped


def compiled(cfg: SecureConfig) -> SecureConfig:
    """What of it enters the compiled program: not who shares what with whom, nor who is lost."""
    on_host = ("threshold", "dropout", "drop", "neighbours", "shares", "colluders")
    plain = type(cfg)()
    return replace(cfg, **{name: getattr(plain, name) for name in on_host if hasattr(plain, name)})


def nbytes(cfg: SecureConfig, masked: int) -> int:
    """Bytes of one client's masked vector; 0 without a secure sum."""
    return secure.packed(masked, cfg.modulus) if isinstance(cfg, SecureSum) else 0


class Part(NamedTuple):
    """A round's protocol: the clients (positions) that begin, who is there in each of its rounds, who shares
    with whom, why nothing was released, if nothing was, and its bytes beside the masked vectors."""

    clients: np.ndarray
    seen: secure.Attendance
    graph: Graph
    aborted: secure.Aborted | None
    vectors: int
    up: int
    down: int

    @property
    def survivors(self) -> np.ndarray:
        """Positions of the clients whose messages are summed; nobody's where nothing was released."""
        return self.clients[self.seen.masked & (self.aborted is None)]


def check(e: Experiment, clients: int, names: Sequence[str]) -> None:
    """Refuse a protocol that cannot work among so many training clients, or promises too little.

    names: of the clients, where some are to be lost by name.
    """
    cfg = e.secure
    if not isinstance(cfg, SecureSum):
        return
    for name in cfg.drop:
        require(name in names, f"secure.drop: no training client is called {name!r}; {nearest(name, names)}")
    secure.check(cfg, world.mean_size(e.world, clients), world.most(e.world, clients))
    if isinstance(e.privacy, InRing) and cfg.drops:
        least = secure.terms(cfg, world.expected(e.world, clients)).threshold
        require(
            e.privacy.contributors <= least,
            f"privacy.contributors={e.privacy.contributors:g} clients' noise is counted on, and a round in "
            f"which clients are lost counts with secure.threshold={least}; set it to {least} or fewer",
        )
    if cfg.mode == "exact":
        try:
            import fedsim.secure.crypto  # noqa: F401
        except ImportError as error:
            raise FedsimError(
                "secure.mode=exact needs the package cryptography; install the extra 'privacy', or set "
                "secure.mode=fast"
            ) from error


def meet(e: Experiment, rnd: int, clients: np.ndarray, names: Sequence[str], masked: int) -> Part:
    """What round `rnd` comes to among `clients` (positions).

    masked: numbers of a vector; names: of clients by position.
    """
    cfg = e.secure
    assert isinstance(cfg, SecureSum)
    seen = secure.attendance(cfg, e.seed, rnd, clients, names)
    graph = secure.graph(cfg, e.seed, rnd, len(clients))
    why = secure.aborted(cfg, seen, graph)
    sent = secure.traffic(cfg, seen, graph, masked)
    threshold = secure.terms(cfg, len(clients)).threshold
    reached = min(seen.advertised.sum(), seen.shared.sum()) >= threshold
    vectors = int(seen.masked.sum()) if reached else 0
    up = sent.up - vectors * secure.packed(masked, cfg.modulus)
    return Part(clients, seen, graph, why, vectors, up, sent.down)


def beside(lane: Any, masked: int) -> secure.Traffic:
    """Bytes of the protocol of each client beside its masked vector, where nobody is lost."""
    if not masked:
        return secure.Traffic()
    e = lane.experiment
    n = world.expected(e.world, int((lane.clients.federated > 0).sum()))
    everyone = secure.Attendance(*(np.ones(n, bool) for _ in secure.Attendance._fields))
    sent = secure.traffic(e.secure, everyone, secure.graph(e.secure, e.seed, 0, n), masked)
    return secure.Traffic(sent.up // n - nbytes(e.secure, masked), sent.down // n)


def said(lanes: Sequence[Any], rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For a run's privacy statement: what the secure sum of its lanes hides, and what came of it. {} without.

    rounds: its rows of all judged rounds.
    """
    e = lanes[0].experiment
    if not isinstance(e.secure, SecureSum):
        return {}
    n = world.expected(e.world, int((lanes[0].clients.federated > 0).sum()))
    last = max(rounds, key=lambda row: row["round"], default={})
    counted = {name: int(last.get(name, 0)) for name in ("aborted_rounds", "clipped_values")}
    return {"secure": statement(e.secure, n) | counted}


def exact(e: Experiment, rnd: int, part: Part, rows: Tree, where: np.ndarray, order: np.ndarray) -> Tree:
    """Messages of one lane, replaced by their sum through the protocol: it lies in the first one's place, and
    zeros in the others'.

    Args:
      rows: u32[groups, ...], two's complement; where: rows of the lane's messages; order: positions whose
        they are.
    """
    cfg = e.secure
    assert isinstance(cfg, SecureSum)
    from fedsim.secure.exact import aggregate  # needs the extra `privacy`

    leaves, treedef = jax.tree.flatten(rows)
    flat = np.concatenate([x[where].reshape(len(where), -1) for x in leaves], axis=1)
    signed = flat.view(np.int32).astype(np.int64)
    index = {int(k): i for i, k in enumerate(part.clients)}
    vectors = {
        index[int(k)]: np.mod(v, cfg.modulus).astype(np.uint64) for k, v in zip(order, signed, strict=True)
    }
    total = aggregate(
        cfg, vectors, part.seen, part.graph, flat.shape[1],
        lambda u: generator(e.seed, "secure keys", rnd, int(part.clients[u])),
    ).astype(np.int64)  # fmt: skip
    half = (FIELD if isinstance(cfg, LightSecAgg) else cfg.modulus) // 2
    total = np.where(total >= half, total - cfg.modulus, total)
    found = np.zeros_like(flat)
    found[0] = (total & 0xFFFFFFFF).astype(np.uint32)
    new, at = [], 0
    for x in leaves:
        size = int(np.prod(x.shape[1:]))
        x = x.copy()
        x[where] = found[:, at : at + size].reshape(len(where), *x.shape[1:])
        new.append(x)
        at += size
    return jax.tree.unflatten(treedef, new)


def summed(engine: Any, team: int, rnd: int, plan: Any, parts: Sequence[Any]) -> list[Any]:
    """Tickets' sums, of one message each, with each lane's total through its protocol in their place.

    parts: handles at the team's home worker, as `Worker.local` gives them.
    """
    mine, home, workers = engine.teams[team], engine.home(team), engine.workers
    held = [workers.fetch(part) for part in parts]
    rows = jax.tree.map(lambda *x: np.concatenate(x), *(sums for sums, _ in held))
    chosen = mine.select(rnd)
    for i, lane in enumerate(mine.lanes):
        selection, part = chosen[i], mine.schedules[i].meet(rnd).secured
        if selection is None or part is None:
            continue
        where = plan.merge[i][: len(selection.positions)]
        order = selection.positions[np.argsort(-selection.steps, kind="stable")]  # as in `packing.pack`
        rows = exact(lane.experiment, rnd, part, rows, where, order)
    groups = engine.widths.groups
    cut = [jax.tree.map(lambda x, t=t: x[t * groups : (t + 1) * groups], rows) for t in range(len(held))]
    return [workers.put((sums, memory), home) for sums, (_, memory) in zip(cut, held, strict=True)]
