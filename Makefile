# make help says what there is.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
UV     := uv==0.13.9

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.PHONY: help run test test-slurm test-long lint types imports pytest bench check-bench bench-device tables check-tables methods wheel lock setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run.stamp ## the first experiment: four hospitals, every method
	@$(BIN)/fedsim sweep heart_disease

test: lint types imports pytest ## what must pass before a commit

test-slurm: MARKED := long
test-slurm: TESTS := tests/slurm
test-slurm: pytest ## what needs a real SLURM, which is started if its packages are there

test-long: MARKED := long
test-long: pytest ## every member by every law, what documents show, attacks: at night, and before a release

lint: $(VENV)/dev.stamp
	@echo "== ruff"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "not formatted: run $(BIN)/ruff format ."; exit 1; }

types: $(VENV)/dev.stamp
	@echo "== mypy"
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp
	@echo "== imports"
	@$(BIN)/lint-imports --no-logo --cache-dir .cache/import_linter

pytest: $(VENV)/dev.stamp
	@echo "== pytest, $(MARKED)"
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -m "$(MARKED)" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS) $(TESTS)

MARKED := not long

bench: $(VENV)/dev.stamp ## benchmarks on this machine, kept in .cache/benchmarks by kind of machine and commit
	@$(BIN)/pytest tests/benchmarks --benchmark-only --benchmark-autosave $(ARGS)

check-bench: $(VENV)/dev.stamp ## whether rounds take longer than on the last committed run of this kind of machine
	@$(BIN)/fedsim bench compare --reduced

bench-device: $(VENV)/dev.stamp ## benchmarks on this machine's accelerator
	@$(BIN)/python tests/benchmarks/device.py $(ARGS)

tables: $(VENV)/run.stamp ## the committed, reduced tables, written anew
	@FEDSIM=$(BIN)/fedsim .ci/tables

check-tables: $(VENV)/run.stamp ## whether this code gives the committed, reduced tables
	@FEDSIM=$(BIN)/fedsim .ci/tables --check

methods: $(VENV)/dev.stamp ## the tables of docs/methods.md and docs/cohort.md, written anew
	@$(BIN)/python tests/docs/methods.py
	@$(BIN)/python tests/cohort/constants.py

wheel: $(VENV)/dev.stamp ## dist/*.whl
	@rm -rf dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	@ls dist/*.whl

setup: $(VENV)/dev.stamp ## the environment of make test, and nothing else

# What runs is pinned, with hashes; the package itself is linked, so that edits need no new setup.
# Compiling only what is imported, when it is imported, halves the time; where Python is told to keep no
# bytecode, every start would compile everything again.
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check \
  $(if $(PYTHONDONTWRITEBYTECODE),--compile,--no-compile)

$(VENV)/run.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@echo "== installing fedsim into $(VENV) (about a minute the first time)"
	@$(INSTALL) --require-hashes -r requirements.lock
	@$(INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "== installing what the tests need into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

$(BIN)/python:
	@$(MODERN)
	@$(PYTHON) -m venv $(VENV)

MODERN = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
  echo "fedsim needs Python 3.11 or later, and '$(PYTHON)' is missing or older:" \
    "name another, as in make PYTHON=python3.12 ..." >&2; exit 2; }

# One version of each package, with hashes, for every Python from 3.11 on, with the extra that runs on
# any machine. Versions in the files are kept where they still fit pyproject.toml; make lock
# ARGS=--upgrade takes the newest.
lock: ## requirements*.lock from pyproject.toml
	@$(MODERN)
	@test -x .cache/lock/bin/python || $(PYTHON) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install -qq --disable-pip-version-check $(UV)
	@$(COMPILE) pyproject.toml --extra privacy --output-file requirements.lock $(ARGS)
	@$(COMPILE) pyproject.toml --extra privacy --extra tracking --group dev --constraints requirements.lock --output-file requirements-dev.lock $(ARGS)

COMPILE = .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make lock"

clean: ## remove the environment, caches and builds; results stay
	rm -rf $(VENV) .cache build dist .benchmarks .hypothesis
	find fedsim tests -name __pycache__ -type d -prune -exec rm -rf {} +
