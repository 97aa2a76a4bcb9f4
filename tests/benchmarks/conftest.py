"""pytest-benchmark's files lie by kind of machine, name their commit, and do not name the host."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from fedsim import bench
from fedsim.store import versions


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.benchmark_storage == "file://./.benchmarks":  # its default
        config.option.benchmark_storage = f"file://./.cache/benchmarks/{bench.here().name}"


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    return asdict(bench.here()) | {"versions": versions()}
