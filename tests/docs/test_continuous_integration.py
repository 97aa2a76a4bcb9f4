"""The example pipelines and .ci/run call targets that the Makefile has."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples" / "ci"
GATES = {"test", "check-tables"}


def targets():
    return set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def pipeline(name):
    return yaml.safe_load((EXAMPLES / f"{name}.yml").read_text(encoding="utf-8"))


def test_github_runs_the_two_targets():
    job = pipeline("github")["jobs"]["check"]
    assert set(job["strategy"]["matrix"]["target"]) == GATES
    assert [s["run"] for s in job["steps"] if "make" in s.get("run", "")] == ["make ${{ matrix.target }}"]


def test_gitlab_runs_the_two_targets():
    job = pipeline("gitlab")["check"]
    assert set(job["parallel"]["matrix"][0]["TARGET"]) == GATES
    assert job["script"] == ["make $TARGET"]


def test_both_run_the_long_tests_at_night():
    github, gitlab = pipeline("github")["jobs"]["night"], pipeline("gitlab")["night"]
    assert "schedule" in github["if"] and "schedule" in gitlab["rules"][0]["if"]
    assert github["steps"][-1]["run"] == gitlab["script"][-1] == "make test-long"


def test_the_environment_and_the_compile_cache_are_kept():
    github, gitlab = pipeline("github"), pipeline("gitlab")
    kept = {s["with"]["path"] for s in github["jobs"]["check"]["steps"] if "cache" in s.get("uses", "")}
    assert kept == set(gitlab["check"]["cache"]["paths"]) == {".venv", ".cache/xla"}
    for variables in (github["env"], gitlab["variables"]):
        assert variables["JAX_COMPILATION_CACHE_DIR"].endswith("/.cache/xla")
    for lock in gitlab["check"]["cache"]["key"]["files"]:
        assert (ROOT / lock).is_file()


@pytest.mark.parametrize("path", [".ci/run", "docs/continuous-integration.md"])
def test_what_is_called_is_a_target_and_nothing_is_left_out(path):
    called = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / path).read_text(encoding="utf-8")))
    assert called <= targets()
    assert GATES | {"test-slurm", "check-bench"} <= called
