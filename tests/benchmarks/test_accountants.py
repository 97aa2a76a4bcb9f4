"""`pytest tests/benchmarks/test_accountants.py --benchmark-only`: what an accountant's answer takes, from
scratch, dp-accounting being imported; and what all reference values take together."""

from collections.abc import Callable

import pytest

from fedsim.accounting import accountants, library, pld
from fedsim.accounting.calibration import least_noise
from fedsim.accounting.events import (
    Event,
    FixedGaussian,
    Gaussian,
    PoissonGaussian,
    RowsGaussian,
    Skellam,
    TruncatedGaussian,
)

ADD, SWAP = "add_or_remove_one", "replace_one"
DELTA = 1e-5
SAMPLED = PoissonGaussian(noise_multiplier=1.3, rate=0.01)
CASES: dict[str, tuple[Event, int, str, str]] = {
    "gdp": (Gaussian(noise_multiplier=10.0), 100, ADD, "gdp"),
    "rdp poisson": (SAMPLED, 1500, ADD, "rdp"),
    "rdp fixed": (FixedGaussian(noise_multiplier=1.3, population=1000, cohort=10), 1500, SWAP, "rdp"),
    "rdp skellam": (Skellam(noise_multiplier=4.0, sensitivity=100, dimension=1000), 100, ADD, "rdp"),
    "pld poisson": (SAMPLED, 1500, ADD, "pld"),
    "pld rows": (RowsGaussian(noise_multiplier=2.0, rate=0.01, rows=3), 300, ADD, "pld"),
    "pld truncated": (
        TruncatedGaussian(noise_multiplier=1.3, rate=0.01, population=1000, cap=20), 1500, ADD, "pld"
    ),
}  # fmt: skip
REFERENCES = [(0.01, 1.3, 1500), (0.02, 1.0, 500), (0.05, 1.0, 100), (1.0, 10.0, 100), (1 / 3, 2.0, 50)]


def forget() -> None:
    caches = (accountants.sampled_rdp, library.fixed_rdp, pld.gaussian, pld.truncated, accountants._pld_total)
    for cache in (*caches, accountants._bound):
        cache.cache_clear()


@pytest.fixture
def asked(request) -> None:
    if not request.config.getoption("benchmark_only", False):
        pytest.skip("runs with --benchmark-only")
    library.orders()  # imports


@pytest.mark.parametrize("case", CASES)
def test_an_answer(benchmark: Callable, asked: None, case: str) -> None:
    event, times, relation, by = CASES[case]
    benchmark.group = "accountants"  # type: ignore[attr-defined]
    benchmark.pedantic(  # type: ignore[attr-defined]
        lambda: accountants.epsilon([(event, times)], DELTA, relation, by), setup=forget, rounds=5
    )


@pytest.mark.parametrize("by", ["rdp", "pld"])
def test_a_calibration(benchmark: Callable, asked: None, by: str) -> None:
    def spent(noise: float) -> float:
        events = [(PoissonGaussian(noise_multiplier=noise, rate=0.01), 1000)]
        return accountants.bound(events, DELTA, ADD, by)

    benchmark.group = "accountants"  # type: ignore[attr-defined]
    benchmark.pedantic(lambda: least_noise(spent, 2.0), setup=forget, rounds=3)  # type: ignore[attr-defined]


def test_all_reference_values(benchmark: Callable, asked: None) -> None:
    """Ten values of epsilon, six calibrations: less than a minute."""

    def everything() -> None:
        for by in ("rdp", "pld"):
            for rate, noise, steps in REFERENCES:
                event = PoissonGaussian(noise_multiplier=noise, rate=rate)
                accountants.epsilon([(event, steps)], DELTA, ADD, by)
            for budget in (1, 2, 8):
                least_noise(lambda z, by=by: accountants.bound(  # type: ignore[misc]
                    [(PoissonGaussian(noise_multiplier=z, rate=0.01), 1000)], DELTA, ADD, by), budget
                )  # fmt: skip

    benchmark.group = "accountants"  # type: ignore[attr-defined]
    benchmark.pedantic(everything, setup=forget, rounds=1)  # type: ignore[attr-defined]
