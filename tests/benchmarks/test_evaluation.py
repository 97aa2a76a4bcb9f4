"""`pytest tests/benchmarks/test_evaluation.py --benchmark-only`: what judging test rows takes."""

from collections.abc import Callable

import numpy as np
import pytest

from fedsim import metrics


@pytest.mark.parametrize("rows", [900, 100_000])
def test_binary(benchmark: Callable, request: pytest.FixtureRequest, rows: int) -> None:
    if not request.config.getoption("benchmark_only", False):
        pytest.skip("runs with --benchmark-only")
    rng = np.random.Generator(np.random.Philox(key=3))
    logit = rng.normal(size=rows)
    y = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    p = 1 / (1 + np.exp(-1.5 * logit))
    benchmark.group = "evaluation"  # type: ignore[attr-defined]
    benchmark(metrics.evaluate, "binary", y, p)
