"""What must be set before JAX starts, from one setting, the same in every process.

XLA:CPU's last bits depend on the size of its thread pool, which is max(NPROC, host devices); XLA's
flags are part of the compile cache's key. So inline, actor and job all call `prepare` first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fedsim import resources
from fedsim.base import RequestError, digest

_DEVICES = "--xla_force_host_platform_device_count="


def prepare(threads: int, *, x64: bool = False, cache: str | os.PathLike[str] | None = None) -> None:
    """Fix pool size, host devices, 64-bit mode and compile cache for this process.

    Raises:
      RequestError: JAX already runs with other settings (they cannot change afterwards).
    """
    flags = [f for f in os.environ.get("XLA_FLAGS", "").split() if not f.startswith(_DEVICES)]
    # Bits are promised per device kind: no reductions by atomics, no autotuned choice of algorithm.
    if not any("xla_gpu_deterministic_ops" in f for f in flags):
        flags.append("--xla_gpu_deterministic_ops=true")
    flags.append(f"{_DEVICES}{threads}")  # last, so that a second call changes nothing
    wanted = {"NPROC": str(threads), "XLA_FLAGS": " ".join(flags), "JAX_ENABLE_X64": "1" if x64 else "0"}
    started = sys.modules.get("jax") is not None and backend_started()
    if started and any(os.environ.get(k, "0") != v for k, v in wanted.items()):
        raise RequestError(
            f"JAX already runs in this process with other settings than numerics.threads={threads}, "
            f"numerics.x64={x64}; start a new process"
        )
    os.environ.update(wanted)
    folder = Path(cache or os.environ.get("JAX_COMPILATION_CACHE_DIR") or default_cache())
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "jax" in sys.modules:  # imported but not started: its settings were read at import
        import jax

        jax.config.update("jax_enable_x64", x64)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def default_cache() -> Path:
    """Where compiled programs are kept between processes."""
    return resources.cache() / "xla"


def processor() -> tuple[str, str]:
    """The processor's model, and 8 hexadecimal digits for its instruction set: XLA compiles for both."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return told.get("model name", "unknown"), digest(told.get("flags", ""), 8)


def backend_started() -> bool:
    """Whether JAX has opened this process's devices. Imports JAX."""
    from jax._src import xla_bridge

    return bool(xla_bridge._backends)
