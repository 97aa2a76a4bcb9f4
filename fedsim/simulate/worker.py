"""Where compiled work happens: a device, its copy of the raw rows, its executables.

A worker is a function of its setup: every method is pure, taking state and giving state, so that work
lost with a process is done again by another, with the same executable and so the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from fedsim import trees
from fedsim.base import digest
from fedsim.environment import processor
from fedsim.execute.inline import InlineWorkers
from fedsim.simulate import diversity, program, scores
from fedsim.simulate.lanes import LaneInputs
from fedsim.simulate.packing import Plan
from fedsim.simulate.parallel import DEVICES
from fedsim.simulate.structure import Memory, Source, State, Structure

Tree = Any
_PRECISION = {"highest": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Team:
    """What one team's program reads beside raw rows: plain arrays of fixed shapes."""

    inputs: LaneInputs
    table: np.ndarray | None
    constants: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Setup:
    """All that a worker is made of; plain data, so that it can be sent to another process.

    columns: raw rows, or None where they are generated or come with every call.
    """

    structure: Structure
    columns: dict[str, np.ndarray] | None
    teams: Sequence[Team]


class Worker:
    """One device's share of a simulation; all of a process's devices' where they share every round."""

    def __init__(self, setup: Setup, device: int = 0) -> None:
        self.structure = s = setup.structure
        jax.config.update("jax_default_matmul_precision", _PRECISION[s.experiment.numerics.matmul_precision])
        self.mesh = Mesh(np.array(jax.local_devices()[: s.widths.devices]), DEVICES)
        self.device = jax.local_devices()[device]
        # What an array lies on: one device, or a copy on each.
        self.place: Any = SingleDeviceSharding(self.device)
        if s.widths.devices > 1:
            self.place = NamedSharding(self.mesh, PartitionSpec())
        self.key = digest([s.experiment, s.paths, str(s.spec), s.widths, repr(s.generate)])
        columns = {} if setup.columns is None else resident(setup.columns, self.place)
        self.teams: list[tuple[Source, LaneInputs]] = []
        for team in setup.teams:
            inputs = jax.tree.map(
                lambda x: x.astype(s.number_dtype) if x.dtype == np.float64 else x, team.inputs
            )
            table = () if team.table is None else team.table
            self.teams.append((Source(columns, *self.put((table, team.constants))), self.put(inputs)))
        self.compile_seconds = 0.0
        _PLACES.setdefault(self.key, []).append(self.place)

    def put(self, tree: Tree) -> Tree:
        """To where this worker works; a no-op for what is there already."""
        return jax.device_put(tree, self.place)

    def side_by_side(self, function: Callable[..., Any], out: Any) -> Callable[..., Any]:
        """A program that several devices run as one; out: how what each gives is put together."""
        if self.structure.widths.devices == 1:
            return function
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=PartitionSpec(), out_specs=out, check_vma=False
        )

    def call(
        self, name: str, make: Callable[[], Any], *arguments: Any, donate: tuple[int, ...] = (),
        shared: bool = False, key: str | None = None,
    ) -> Any:  # fmt: skip
        """Run the program `name`; NumPy arguments are copied to this worker's device by the call.

        The first call with these shapes compiles, and counts the seconds that took; a `shared` program
        is compiled for all of this process's workers at once. key: what the program depends on, where
        that is less than the structure.
        """
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments))
        known = (key or self.key, name)
        mine = known, self.place, shapes
        if mine not in COMPILED:
            begin = time.perf_counter()
            places = [self.place, *(p for p in dict.fromkeys(_PLACES[self.key]) if p != self.place)]
            if known not in PROGRAMS:
                once = ("init", "models", "measures", "own", "diversity")
                brief = self.structure.widths.brief or name in once
                options = quick_to_compile() if brief and self.device.platform == "cpu" else None
                PROGRAMS[known] = jax.jit(make(), donate_argnums=donate, compiler_options=options)
            lowered = {
                place: PROGRAMS[known].lower(*jax.tree.map(partial(elsewhere, place=place), arguments))
                for place in (places if shared else places[:1])
            }
            with ThreadPoolExecutor(len(lowered)) as pool:
                compiled = pool.map(lambda program: program.compile(), lowered.values())
                COMPILED.update({(known, p, shapes): made for p, made in zip(lowered, compiled, strict=True)})
            self.compile_seconds += time.perf_counter() - begin
        return COMPILED[mine](*arguments)

    # --- the pure methods --------------------------------------------------------------------

    def init(self, team: int) -> State:
        """First state of a team's lanes."""
        state = self.call("init", lambda: partial(program.init, self.structure), self.teams[team][1])
        # A state that follows from no input, such as zeros, belongs to no device yet; the program of a
        # round would be compiled once for such a state and once for its successors.
        return self.put(state)

    def rounds(
        self, team: int, state: State, plan: Plan, stride: int, first: int, count: int,
        columns: dict[str, np.ndarray] | None = None,
    ) -> tuple[State, Any]:  # fmt: skip
        """`count` rounds from `first` in one call: (state, whether its numbers are finite [L])."""
        source, inputs = self.teams[team]
        if columns is not None:
            source = source._replace(columns=columns, table=())
        function = partial(program.rounds, self.structure)
        return self.call(
            "rounds", lambda: self.side_by_side(function, PartitionSpec()), source, inputs, state,
            plan, np.int32(stride), np.int32(first), np.int32(count), donate=(2,),
        )  # fmt: skip

    def local(
        self, team: int, starts: Tree, stages: Tree, memory: Memory, ticket: tuple[Any, Any, Any], rnd: int,
        columns: dict[str, np.ndarray] | None = None, found: Tree = (), survey: bool = False,
    ) -> tuple[Tree, Memory]:  # fmt: skip
        """One ticket of one round, or of its survey: (group sums, new rows of client memory)."""
        source, inputs = self.teams[team]
        if columns is not None:
            source = source._replace(columns=columns, table=())
        function = partial(program.local, self.structure, survey=survey)
        return self.call(
            "survey" if survey else "local", lambda: function, source, inputs, starts, stages, memory,
            *ticket, np.int32(rnd), found, shared=True,
        )  # fmt: skip

    def surveyed(self, team: int, parts: Sequence[tuple[Tree, Memory]], plan: Plan, rnd: int) -> Tree:
        """What all tickets of a survey found."""

        def fn(inputs: LaneInputs, parts: Any, merge: Any, size: Any, rnd: Any) -> Any:
            sums, _ = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
            return program.surveyed(self.structure, inputs, sums, merge, size, rnd)

        return self.call(
            "surveyed", lambda: fn, self.teams[team][1], list(parts), plan.merge, plan.size, np.int32(rnd)
        )

    def gather(self, team: int, memory: Memory, items: np.ndarray) -> Memory:
        """The client memory that one ticket's items need."""
        return self.call("gather", lambda: program.gather_memory, memory, items)

    def finish(
        self, team: int, state: State, parts: Sequence[tuple[Tree, Memory]], plan: Plan, rnd: int,
        found: Tree = (),
    ) -> tuple[Any, ...]:  # fmt: skip
        """Merge all tickets' groups and take the server's step: (*state, whether it is finite [L])."""
        inputs = self.teams[team][1]

        def fn(inputs: LaneInputs, state: State, parts: Any, items: Any, merge: Any, size: Any, active: Any,
               rnd: Any, found: Any) -> Any:  # fmt: skip
            sums, memory = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
            items = items.reshape(-1, *items.shape[2:])
            state = state._replace(memory=program.scatter_memory(state.memory, items, memory))
            state, finite = program.finish(
                self.structure, inputs, state, sums, merge, size, active, rnd, found
            )
            return (*state, finite)

        return self.call(
            "finish", lambda: fn, inputs, state, list(parts), plan.items, plan.merge, plan.size,
            plan.active, np.int32(rnd), found, donate=(1,),
        )  # fmt: skip

    def predict(
        self,
        team: int,
        state: State,
        items: np.ndarray,
        blocks: int,
        columns: dict[str, np.ndarray] | None = None,
        own: tuple[Any, np.ndarray] | None = None,
        curves: bool = False,
    ) -> Any:
        """Scores [NB / devices, devices, e, slice, ...] of slices of rows; own: the models that `adapt`
        made, and which of them each slice is scored by; curves: over time, instead of scores."""
        source, inputs = self.teams[team]
        if columns is not None:
            source = source._replace(columns=columns, table=())
        function, out = partial(scores.predict, self.structure, curves), PartitionSpec(None, DEVICES)
        kind = "curve" if curves else "predict"
        name, more = (kind, ()) if own is None else (f"{kind}_own", (own,))
        return self.call(
            name, lambda: self.side_by_side(function, out), source, inputs, state, items,
            np.int32(blocks), *more, shared=not (trees.nbytes(state.memory) or self.structure.widths.clients),
        )  # fmt: skip

    def adapt(
        self, team: int, state: State, words: np.ndarray, blocks: np.ndarray, done: np.ndarray,
        columns: dict[str, np.ndarray] | None = None,
    ) -> Any:  # fmt: skip
        """Models that clients are judged by after training on their rows, [clients, ...]."""
        source, inputs = self.teams[team]
        if columns is not None:
            source = source._replace(columns=columns, table=())
        function = partial(scores.adapted, self.structure)
        return self.call(
            "adapt", lambda: self.side_by_side(function, PartitionSpec()), source, inputs, state, words,
            blocks, done, shared=not trees.nbytes(state.memory),
        )  # fmt: skip

    def models(self, team: int, state: State) -> Tree:
        """Every lane's judged model, and its coefficients where it is linear."""
        return self.call("models", lambda: partial(scores.models, self.structure), self.teams[team][1], state)

    def measures(self, team: int, state: State) -> dict[str, Any]:
        """What the algorithm and the stages say of every lane's state at the server."""
        function = partial(scores.measures, self.structure)
        return self.call("measures", lambda: function, self.teams[team][1], state)

    def own(self, team: int, state: State) -> Tree:
        """Every client's own model, [L, m, ...], by its row of client memory."""
        return self.call("own", lambda: partial(scores.own, self.structure), self.teams[team][1], state)

    def diversity(self, total: Tree, model: Tree, values: np.ndarray, client: diversity.Client) -> Tree:
        """`diversity.add`, shared by all that is trained on a task."""
        s = self.structure
        total, model = self.put((total, model))
        of = [s.experiment.task, str(s.spec), str(s.number_dtype), s.experiment.numerics.matmul_precision]
        return self.call(
            "diversity", lambda: partial(diversity.add, s), total, model, values, client, key=digest(of),
            donate=(0,),
        )  # fmt: skip

    def memory(self, team: int) -> tuple[int, int]:
        """(bytes of a team: its arrays, and its largest program as compiled; bytes free here)."""
        stats = [e.memory_analysis() for k, e in list(COMPILED.items()) if k[0][0] == self.key]
        sizes = [m.temp_size_in_bytes + 2 * m.output_size_in_bytes for m in stats if m is not None]
        source, inputs = self.teams[team]
        return max(sizes, default=0) + trees.nbytes((source.table, source.constants, inputs)), free_bytes(
            self.device
        )


def inline(setup: Setup, devices: int | None = None) -> InlineWorkers:
    """Workers in this process, one per device (None: all); one in all where they share every round."""
    return InlineWorkers(partial(Worker, setup), 1 if setup.structure.widths.devices > 1 else devices)


def elsewhere(value: Any, place: Any) -> Any:
    """What a program is lowered for where this argument lies at `place`; NumPy arrays lie nowhere."""
    if not isinstance(value, jax.Array):
        return value
    return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=place, weak_type=value.aval.weak_type)


@cache
def quick_to_compile() -> dict[str, Any] | None:
    """Options with which XLA:CPU compiles in 0.6 of the time, and programs take 1.2 times theirs."""
    options = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(lambda: jnp.zeros(()), compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:  # a version of XLA that has no such choice
        return None
    return options


def free_bytes(device: Any) -> int:
    """Free bytes of a device, or of the machine where the device is its processor."""
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats["bytes_in_use"])
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 << 30


def platform() -> str:
    """`cpu`, or `gpu` for any accelerator."""
    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def device_kind() -> str:
    """Platform, model, instruction set and jaxlib: what, with the thread count, decides the bits."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return f"{device.platform} {device.device_kind} jaxlib {version('jaxlib')}"
    return f"cpu {' '.join(processor())} jaxlib {version('jaxlib')}"


MOST_ROOM = 2**15  # rows; beyond, room would cost memory, and compiling costs little beside training

PROGRAMS: dict[Any, Any] = {}
COMPILED: dict[Any, Any] = {}
_PLACES: dict[str, list[Any]] = {}  # where workers of a key are
_RESIDENT: dict[Any, tuple[dict[str, np.ndarray], dict[str, Any]]] = {}
_ALIGNED: list[tuple[np.ndarray, np.ndarray]] = []  # (column, the same where devices can use it)


def resident(columns: dict[str, np.ndarray], place: Any) -> dict[str, Any]:
    """Raw rows on a device, or on each of several, copied once per process however many packs use them.

    All of a processor's devices read the same memory: XLA:CPU takes a NumPy array as it is where it
    starts at a multiple of 64 bytes.
    """
    held = _RESIDENT.get(place)
    if held is None or any(held[0].get(name) is not value for name, value in columns.items()):
        devices = sorted(place.device_set, key=lambda d: d.id)
        on_host = devices[0].platform == "cpu"  # where a column that is aligned need not be copied
        mine = {name: aligned(x) if on_host or room(len(x)) > len(x) else x for name, x in columns.items()}
        there = [jax.device_put(mine, device, may_alias=True) for device in devices]
        whole = jax.tree.map(
            lambda x, *copies: jax.make_array_from_single_device_arrays(x.shape, place, list(copies)),
            mine, *there,
        )  # fmt: skip
        _RESIDENT[place] = held = (columns, whole)
    return held[1]


def room(rows: int) -> int:
    """Rows that are made room for: few different numbers, so that data of about one size share programs,
    such as the patients that each seed draws. Nothing reads the rows beyond."""
    return 1 << (rows - 1).bit_length() if 1 < rows <= MOST_ROOM else rows


def aligned(column: np.ndarray) -> np.ndarray:
    """`column` with `room`, in memory that starts at a multiple of 64 bytes; the same array for the same
    column."""
    for known, there in _ALIGNED:
        if known is column:
            return there
    in_use = [held[0].values() for held in _RESIDENT.values()]
    _ALIGNED[:] = [pair for pair in _ALIGNED if any(pair[0] is x for held in in_use for x in held)]
    there = column
    shape = (room(len(column)), *column.shape[1:])
    if column.ctypes.data % 64 or not column.flags.c_contiguous or shape != column.shape:
        size = math.prod(shape) * column.itemsize
        memory = np.zeros(size + 64, np.uint8)
        start = -memory.ctypes.data % 64
        there = memory[start : start + size].view(column.dtype).reshape(shape)
        np.copyto(there[: len(column)], column)
    _ALIGNED.append((column, there))
    return there


def named(tree: Tree) -> dict[str, np.ndarray]:
    """Leaves by their path, such as params/dense/0/kernel."""

    def word(k: Any) -> str:
        return str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))))

    return {"/".join(map(word, path)): np.asarray(x) for path, x in jax.tree.leaves_with_path(tree)}
