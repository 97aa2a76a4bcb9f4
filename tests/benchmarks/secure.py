"""Secure sums: masked parameters per second of `fast`, and seconds of a round of each protocol run for real.

    python tests/benchmarks/secure.py [--parameters 1000000] [--clients 16] [--exact 3]

fast: clients' float32 messages, one after another, to their sum without masks: put in fixed point, masked,
added up with their masks, unmasked. Beside it the same sum of floats, and drawing as many random bits. The
least of five turns. exact: one round of so many clients with a tenth of the parameters, on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

import numpy as np

from fedsim.environment import prepare

TURNS = 5


def least(run: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few turns, after one that compiles."""
    run()
    found = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return min(found)


def fast(parameters: int, clients: int) -> dict[str, float]:
    """Seconds of sums over clients: masked, plain, and of the masks' bits alone."""
    import jax
    import jax.numpy as jnp

    from fedsim import keys, trees
    from fedsim.config.secure import Bonawitz
    from fedsim.secure.masking import Masking

    masking, one = Masking(Bonawitz()), jnp.float32(1)
    messages = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, parameters)).astype(np.float32))

    def over(of_client: Callable[[Any, Any], Any]) -> Any:
        """The sum of what clients send, one after another."""
        key = jax.random.key(0)

        def body(u: Any, total: Any) -> Any:
            return trees.add(total, of_client(messages[u % 2], jax.random.fold_in(key, u)))

        return jax.lax.fori_loop(1, clients, body, of_client(messages[0], key))

    @jax.jit
    def masked(messages: Any) -> Any:
        return masking.total(over(lambda m, key: masking.upload(m, (), one, key)), (messages[0], ()), one)

    plain = jax.jit(lambda messages: over(lambda m, key: m))
    bits = jax.jit(lambda messages: over(lambda m, key: keys.bits(key, m.shape, 0)))
    programs = {"masked": masked, "plain": plain, "bits": bits}
    return {
        name: least(lambda run=run: jax.block_until_ready(run(messages)))  # type: ignore[misc]
        for name, run in programs.items()
    }


def exact(name: str, parameters: int, clients: int) -> float:
    """Seconds of one round in which nobody is lost."""
    from fedsim import secure
    from fedsim.config import MEMBERS
    from fedsim.data.rng import generator
    from fedsim.secure.exact import aggregate

    cfg = MEMBERS["secure"][name](mode="exact")
    everyone = secure.Attendance(*(np.ones(clients, bool) for _ in secure.Attendance._fields))
    vectors = dict(
        enumerate(np.random.default_rng(0).integers(cfg.modulus, size=(clients, parameters), dtype=np.uint64))
    )
    run = partial(
        aggregate, cfg, vectors, everyone, secure.graph(cfg, 0, 0, clients), parameters,
        lambda u: generator(0, "secure keys", u),
    )  # fmt: skip
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--exact", type=int, default=3)
    asked = parser.parse_args()
    prepare(threads=2)
    work = asked.parameters * asked.clients
    for what, seconds in fast(asked.parameters, asked.clients).items():
        print(f"fast  {what:12} {work / seconds / 1e6:8.1f} million parameters/s", flush=True)
    for name in ("bonawitz", "secagg_plus", "lightsecagg"):
        seconds = exact(name, asked.parameters // 10, asked.exact)
        print(
            f"exact {name:12} {seconds:8.3f} s, {asked.exact} clients of {asked.parameters // 10}", flush=True
        )


if __name__ == "__main__":
    main()
