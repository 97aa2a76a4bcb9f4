"""Importing fedsim, and all that a login node needs of it, starts nothing heavy."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

import fedsim

HEAVY = ["jax", "jaxlib", "flax", "optax", "ray", "hydra", "omegaconf", "duckdb", "matplotlib", "pandas"]
WITHOUT_JAX = [
    *("base", "cohort", "config", "data", "estimate", "metrics", "omop", "plan"),
    *("report", "resources", "slurm", "store"),
]


def python(code: str) -> str:
    """What `code` prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_is_light():
    code = f"import fedsim, json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert json.loads(python(code)) == []


def test_what_a_login_node_needs_never_imports_jax():
    present = [f"fedsim.{m}" for m in WITHOUT_JAX if find_spec(f"fedsim.{m}")]
    assert "fedsim.config" in present
    # None in sys.modules makes an import of that name fail, with the line that asked for it.
    blocked = "sys.modules.update(dict.fromkeys(['jax', 'jaxlib', 'flax', 'optax']))"
    python(f"import importlib, sys; {blocked}; [importlib.import_module(m) for m in {present}]")


@pytest.mark.parametrize("name", fedsim.__all__)
def test_public_names_resolve(name):
    assert getattr(fedsim, name) is not None
    assert name in dir(fedsim)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        _ = fedsim.simulat


def test_a_run_without_an_audit_or_an_account_needs_no_statistics():
    """SciPy's take longer to import than a small run to train."""
    names = ["scipy.stats", "scipy.optimize"]
    code = f"import fedsim.run.pack, sys; print([m for m in {names} if m in sys.modules])"
    assert python(code) == "[]\n"
