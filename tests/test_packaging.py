"""What is installed, what is pinned, what may be redistributed, and what the wheel carries."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fedsim
from fedsim import resources

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUNTIME = PROJECT["project"]["dependencies"]
LOCKS = {
    "requirements.lock": RUNTIME,
    "requirements-dev.lock": RUNTIME + PROJECT["dependency-groups"]["dev"],
}


# --- licences --------------------------------------------------------------------------------


def copyleft(licence: str) -> bool:
    """Whether the GPL or AGPL binds whoever ships this; `licence` is an expression or a short name."""
    # What GCC's runtime exception covers, in NumPy's and SciPy's wheels, may be shipped freely.
    text = re.sub(r"A?GPL-[\w.-]+ WITH GCC-exception-[\d.]+", "", licence)
    text = re.sub(r"lesser general public|\bLGPL", "", text, flags=re.IGNORECASE)
    pattern = r"\bA?GPL|(general|affero)[\w ]* public licen[cs]e"
    return all(re.search(pattern, option, re.IGNORECASE) for option in re.split(r"\bOR\b", text))


def licences(package: metadata.PackageMetadata) -> list[str]:
    """All that a package says of its licence; of a licence's full text, its first line."""
    said = [*package.get_all("License-Expression", []), *package.get_all("License", [])]
    said = [text.strip().split("\n")[0] for text in said]
    return said + [c for c in package.get_all("Classifier", []) if c.startswith("License ::")]


def closure(requirements: list[str]) -> set[str]:
    """Names of the installed packages that `requirements` need here, themselves included."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    left = [(Requirement(r), "") for r in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                left += [(Requirement(r), wanted) for r in metadata.requires(name) or []]
    return found


@pytest.mark.parametrize(
    ("licence", "refused"),
    [
        ("GPL-3.0-only", True),
        ("AGPL-3.0-or-later", True),
        ("MIT AND GPL-2.0-or-later", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("License :: OSI Approved :: GNU Affero General Public License v3", True),
        ("MIT OR GPL-2.0-or-later", False),
        ("BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1", False),
        ("LGPL-2.1-or-later", False),
        ("License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)", False),
        ("Apache-2.0", False),
    ],
)
def test_copyleft_is_recognised(licence, refused):
    assert copyleft(licence) is refused


def test_nothing_needed_at_run_time_is_copyleft():
    names = closure(RUNTIME)
    assert {"jaxlib", "orbax-checkpoint", "antlr4-python3-runtime"} <= names  # indirect ones are seen
    refused = {n: said for n in names if any(map(copyleft, said := licences(metadata.metadata(n))))}
    assert refused == {}


def test_the_closure_stays_light():
    # A few hundred MB each, and none is needed: who brings one in has to say so here.
    heavy = {"torch", "tensorflow", "aiohttp", "grpcio", "nvidia-cublas", "pytest"}
    assert closure(RUNTIME).isdisjoint(heavy)


# --- locks -----------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    """Package -> version in a lock file."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([a-z0-9-]+)==([^ ;]+)", line) for line in lines]
    return {m[1]: m[2] for m in found if m}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_and_hashes_all_that_is_asked_for(name):
    text, pinned = (ROOT / name).read_text(encoding="utf-8"), pins(name)
    for requirement in map(Requirement, LOCKS[name]):
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} but {version} in {name}: make lock"
    for block in re.split(r"\n(?=[a-z])", text)[1:]:
        assert "--hash=sha256:" in block
    assert not re.search(r"https?:|index-url|find-links|file:", text)


def test_the_locks_agree():
    run, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    assert run.items() <= dev.items()


# --- wheel -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    path = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel"))))
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_carries_package_configs_and_experiments(wheel):
    names = set(wheel.namelist())
    for folder in ("fedsim", "slurm", *resources.FOLDERS):
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        assert files, f"no files in {folder}"
        prefix = "" if folder == "fedsim" else "fedsim/"
        assert {prefix + p.relative_to(ROOT).as_posix() for p in files} <= names
    # Hydra finds plugins in the namespace hydra_plugins, which is no package.
    assert {n for n in names if n.startswith("hydra_plugins")} == {"hydra_plugins/fedsim_launcher.py"}
    folders = {n.split("/")[0] for n in names} - {"hydra_plugins"}
    assert folders == {"fedsim", f"fedsim_regions-{fedsim.__version__}.dist-info"}


def test_the_wheel_names_licence_version_and_command(wheel):
    info = f"fedsim_regions-{fedsim.__version__}.dist-info"
    assert b"Version 2.0, January 2004" in wheel.read(f"{info}/licenses/LICENSE")
    assert b"fedsim = fedsim.cli:main" in wheel.read(f"{info}/entry_points.txt")
    assert b"Requires-Python: >=3.11" in wheel.read(f"{info}/METADATA")


# --- the repository --------------------------------------------------------------------------


def test_results_are_ignored_and_tables_are_not(root):
    def ignored(path):
        return subprocess.run(["git", "check-ignore", "-q", path], cwd=root, check=False).returncode == 0

    assert ignored("results/store/abc/rounds.parquet") and ignored(".venv")
    assert not ignored("results/tables/heart_disease/main.csv") and not ignored("fedsim/data/table.py")


def test_every_make_target_is_known_to_make(root):
    text = (root / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    for target in phony:
        done = subprocess.run(["make", "-n", target], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_wheel_in_an_empty_folder_runs_the_main_job(wheel, tmp_path):
    """Reduced, from a folder that holds nothing but what the wheel brought."""
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    wheel.extractall(site)
    command = [sys.executable, "-m", "fedsim.cli", "sweep", "heart_disease", "--reduced", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run():
        return subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=600)

    done = run()
    assert done.returncode == 0, done.stderr
    made = here / "results" / "heart_disease" / "reduced"
    assert (made / "tables" / "pooled.md").is_file() and (made / "figures" / "gain.png").is_file()
    again = run()
    assert again.returncode == 0 and len(list((here / "results" / "store").glob("[0-9a-f]*"))) == 26
