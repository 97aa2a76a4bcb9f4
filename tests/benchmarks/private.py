"""What DP-SGD costs beside plain training: clipping alone, Poisson lots, noise, and that many normals.

    python tests/benchmarks/private.py [mlp|cnn ...]

Local steps of clients side by side, as in a block of the engine, timed in turn in one process; the fastest
of several is shown, as others may be at work on the machine. Ratios count, not milliseconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TIMES = 15
# workload, width of a block, rows of a batch, local steps, shape of a row; models are those of `engine.TASKS`
MODELS: dict[str, tuple[str, int, int, int, tuple[int, ...]]] = {
    "mlp": ("mlp_silo", 16, 20, 50, (30,)),
    "cnn": ("cifar_iid", 1, 10, 2, (32, 32, 3)),
}


def variants(name: str) -> dict[str, Callable[[], Any]]:
    """By what it does, a compiled run of all local steps."""
    import jax
    import jax.numpy as jnp

    from fedsim import tasks, trees
    from fedsim.base import build_choice
    from fedsim.config import RecordPrivacy
    from fedsim.local import Batches, Rows, Window, descent, plain, private, run_steps
    from fedsim.local.clipping import Clip, ghost, per_unit
    from fedsim.model import Spec
    from tests.benchmarks.engine import TASKS

    workload, width, size, steps, shape = MODELS[name]
    spec = Spec(shape, "binary" if name == "mlp" else "multiclass", 2 if name == "mlp" else 10)
    task = tasks.build(build_choice("task", TASKS[workload], "task"), spec, "float32")
    n = 200 if name == "mlp" else 50
    key = jax.random.key(0)
    table = {
        "x": jax.random.normal(key, (width * n, *shape), jnp.float32),
        "y": jax.random.randint(key, (width * n,), 0, spec.classes, jnp.int32),
    }
    start = task.init(key)

    def make(direction: Any, lots: bool) -> Callable[[], Any]:
        def one(k: Any, table: Any) -> Any:
            def take(window: Window, position: Any) -> Any:
                at = window.begin + position.astype(jnp.int32)
                return {name: column[at] for name, column in table.items()}

            window = Window(k * n, jnp.int32(n), k.astype(jnp.uint32), ())
            mine = jax.random.fold_in(key, k)
            batches = Batches(Rows(take, jnp.float32), window, jnp.int32(steps), size, mine, lots=lots)
            return run_steps(direction, descent(0.05), start, batches, mine).params

        clients = jnp.arange(width, dtype=jnp.int32)
        run = jax.jit(jax.vmap(one, (0, None)) if width > 1 else lambda k, t: one(k[0], t))
        return lambda: jax.block_until_ready(run(clients, table))

    def clipped(form: Any) -> Callable[[], Any]:
        def direction(model: Any, batch: Any, key: Any) -> Any:
            total = form(task, model, batch, key, batch["mask"], Clip(1.0, 1, False)).total
            return trees.scale(total, 1 / size), model.state

        return make(direction, False)

    def normals(model: Any, batch: Any, key: Any) -> Any:
        drawn = jax.random.normal(key, (trees.size(model.params),), jnp.float32)
        leaves, treedef = jax.tree.flatten(model.params)
        ends = [0]
        for w in leaves:
            ends.append(ends[-1] + w.size)
        cut = [drawn[a:b].reshape(w.shape) for w, a, b in zip(leaves, ends, ends[1:], strict=False)]
        return jax.tree.unflatten(treedef, cut), model.state

    silent = mock.patch("fedsim.local.private.noise", lambda total, cfg, key: trees.zeros(total))
    found = {
        "plain": make(plain(task).gradient, False),
        "clipped, ghost": clipped(ghost),
        "clipped, vmap": clipped(per_unit),
        "normals alone": make(normals, False),
    }
    for form, cfg in (("ghost", RecordPrivacy(form="ghost")), ("vmap", RecordPrivacy(form="vmap"))):
        found[f"private, {form}"] = make(private(task, cfg, "fedavg").gradient, True)
        found[f"private, {form}, no noise"] = make(private(task, cfg, "fedavg").gradient, True)
        with silent:
            found[f"private, {form}, no noise"]()
    return found


def main() -> None:
    from tests.benchmarks.engine import start_jax

    start_jax()
    for name in sys.argv[1:] or MODELS:
        runs = variants(name)
        for run in runs.values():
            run()
        best = dict.fromkeys(runs, float("inf"))
        for _ in range(TIMES):
            for what, run in runs.items():
                begin = time.perf_counter()
                run()
                best[what] = min(best[what], time.perf_counter() - begin)
        workload, width, size, steps, _ = MODELS[name]
        print(f"{name} of {workload}: {steps} steps of {width} clients, batch {size}")
        for what, seconds in best.items():
            print(f"  {what:28} {1e3 * seconds:9.1f} ms   {seconds / best['plain']:5.2f} of plain")


if __name__ == "__main__":
    main()
