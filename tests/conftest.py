"""What all tests share. Before anything imports JAX: XLA's thread pool, host devices and cache."""

import os
from pathlib import Path
from typing import Any

from fedsim.environment import prepare

ROOT = Path(__file__).resolve().parents[1]
# Kept between runs; the first run of a fresh clone compiles everything.
prepare(threads=2, cache=os.environ.get("JAX_COMPILATION_CACHE_DIR") or ROOT / ".cache" / "xla")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# The same examples in every run, and no time limit: the first example of a test compiles.
settings.register_profile("fedsim", derandomize=True, database=None, deadline=None, max_examples=50)
settings.load_profile("fedsim")


# A minute or more each, the longest first, of either tier: two processes end together only where these begin
# first. That of SLURM mostly waits.
LONGEST = (
    *("slurm/test_real.py", "equivalence/test_ray.py", "contract/test_algorithms.py"),
    *("contract/test_identities.py", "contract/test_stages.py", "contract/test_aggregators.py"),
    *("golden/test_algorithms.py", "equivalence/test_resume.py", "docs/test_docs.py"),
    *("equivalence/test_modes.py", "simulate/test_devices.py", "test_packaging.py"),
)


# One algorithm of each kind: the plain one, client memory, personal models, old starts, no server at all.
# Contracts of all others are `long`.
KINDS = {"fedavg", "scaffold", "ditto", "fedbuff", "dpsgd"}
# The engine's own, whose slow loops are run, too.
ENGINE = KINDS | {
    *("local", "pooled", "fedsgd", "fedavgm", "fedprox", "fedadagrad", "fedadam", "fedyogi"),
}
# Folders and files that are about one method, or a few, and take long.
WHOLE = {
    *("audit", "attack", "test_secure.py", "test_fltrust.py", "test_ef21.py", "test_late.py"),
    *("test_ring.py", "test_local.py", "test_bounds.py", "test_processes.py"),
}


def is_long(item: pytest.Item, where: Path) -> bool:
    """Whether it is one of many alike: in WHOLE, beyond KINDS, among the cases that its module calls LONG,
    or not among the members that it calls SHORT."""
    if WHOLE & {*where.parts}:
        return True
    called: Any = getattr(item, "callspec", None)
    chosen = called.params if called else {}
    if "algorithm" in chosen and where.parts[1] in ("contract", "golden"):
        tried = {"fedavg"} if "variant" in chosen else ENGINE if where.parts[1] == "golden" else KINDS
        return chosen["algorithm"] not in tried
    parent: Any = item.getparent(pytest.Module)
    module = parent.obj
    member = chosen.get("name") or dict(chosen.get("options") or {}).get("name")
    if hasattr(module, "SHORT") and member:
        return member not in module.SHORT
    return chosen.get("case") in getattr(module, "LONG", ())


@pytest.hookimpl(tryfirst=True)  # before -m is asked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files go to processes whole, since what one test compiles the next one uses: the longest first."""
    order = {name: at for at, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(ROOT / "tests").as_posix(), len(order)))
    for item in items:
        where = item.path.relative_to(ROOT)
        if is_long(item, where):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real test data that is not part of the repository; the test is skipped where it is absent."""
    folder = Path(os.environ.get("FEDSIM_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real test data: no folder {folder}; FEDSIM_SHARED_DATA may name another")
    return folder


@pytest.fixture(scope="session")
def ray_cluster():
    """One Ray of two cores for the whole run: starting one takes 8 s. Pools find it by themselves."""
    from fedsim.execute import ray

    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:2])  # what Ray's processes inherit
    ray.connect()
    os.sched_setaffinity(0, usable)
    yield
    ray.disconnect()


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    """Programs are compiled quickly where tests are about formulas, masks and who is beside whom; tests of
    bits across processes, devices and data modes are marked `production` and run what users run."""
    if request.node.get_closest_marker("production"):
        yield
        return
    from fedsim.simulate import worker
    from tests.simulate.quick import options

    def forget() -> None:
        worker.PROGRAMS.clear()
        worker.COMPILED.clear()

    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "quick_to_compile", options)
        yield
    forget()
