import gc
import json
import re
import subprocess
import sys

import pytest

from fedsim.cli import VERBS, main

HEAVY = {
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "ray",
    "hydra",
    "omegaconf",
    "duckdb",
    "matplotlib",
    "rich",
    "numpy",
}


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_is_light():
    code = "import sys; from fedsim.cli import main; code = main(['--help']); print(*sys.modules); exit(code)"
    *said, modules = python(code).splitlines()
    assert "usage: fedsim" in said[0]
    assert HEAVY.isdisjoint(modules.split())


def test_help_names_every_verb_and_every_verb_has_help(fedsim):
    said = fedsim("--help")
    assert said.code == 0 and all(f"\n  {verb} " in said.out for verb in VERBS)
    for verb in VERBS:
        said = fedsim(f"{verb} --help")
        assert said.code == 0 and said.out.startswith(f"usage: fedsim {verb}") and said.err == ""


def test_nothing_asked_is_a_wrong_request(fedsim):
    said = fedsim("")
    assert (said.code, said.out) == (2, "") and "usage: fedsim" in said.err


def test_version(fedsim):
    assert fedsim("--version").out.startswith("fedsim 0.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("swep", "unknown command 'swep'; choose one of .*; did you mean 'sweep'"),
        ("sweep", "arguments are required: NAME; see fedsim sweep --help"),
        ("sweep nope", "no experiment 'nope'"),
        ("sweep heart_disease --reducd", "unknown option '--reducd'; .* did you mean '--reduced'"),
        ("run algorithm=fedprx", "unknown algorithm 'fedprx'; choose one of .*; did you mean 'fedprox'"),
        ("run algoritm=fedprox", "unknown option algoritm; .* did you mean 'algorithm'"),
        ("run algorithm=fedprox algorithm.mue=1", "unknown option algorithm.mue; .* did you mean 'mu'"),
        ("run algorithm=fedprox algorithm.mu=-1", r"algorithm.mu must be in \[0, inf\), got -1"),
        ("run algorithm=fedprox algorithm.mu=x", "algorithm.mu must be a number, got 'x'"),
        ("run data=table", "data.path is required .* set data.path=..."),
        ("run seed=range(0,3)", "seed has several values; add -m"),
        ("run -m results=a,b", "results must be one folder for all cells, got a, b"),
        ("run rounds", "is not an override"),
        ("run --with nope.py", "nope.py: no such file"),
        ("sweep heart_disease stale=no", "stale must be one of rerun, keep, got 'no'"),
        ("sweep heart_disease seed=0 split=iid executor=inline,ray", "are the same run; exclude one of them"),
        ("sweep heart_disease seed=0 x=1", "heart_disease: algorithm=local, .*: unknown option x"),
        ("data lits", "unknown action 'lits'; .* did you mean 'list'"),
        ("data describe", "needs a NAME"),
        ("data describe heart_disease rounds=1", "rounds says nothing about data"),
        ("list algoritm", "unknown group 'algoritm'; .* did you mean 'algorithm'"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(line, message, fedsim, here):
    said = fedsim(line)
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(f"fedsim: error: .*{message}.*\n", said.err), said.err
    assert list(here.iterdir()) == []  # nothing was run or made


def test_garbage_is_looked_for_seldom_while_a_verb_runs_and_as_before_afterwards(fedsim, engine, monkeypatch):
    before = gc.get_threshold()
    seen = []

    def look(*cells, **options):
        seen.append(gc.get_threshold())
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "run_experiments", look)
    assert fedsim("run").code == 1 and gc.get_threshold() == before
    assert seen[0][0] > 10 * before[0] and seen[0][1:] == before[1:]


def test_an_error_under_json_is_one_document(fedsim, here):
    said = fedsim("run rounds=0 --json")
    assert said.code == 2 and json.loads(said.out) == {"error": "rounds must be >= 1, got 0"}
    assert said.err == "fedsim: error: rounds must be >= 1, got 0\n"


def test_an_unexpected_exception_is_one_line_too(fedsim, engine, monkeypatch):
    engine.raises = ZeroDivisionError("division\nby zero")
    said = fedsim("run")
    assert said.code == 1 and "Traceback" not in said.err
    assert said.err == (
        "fedsim: error: ZeroDivisionError: division by zero; run again with FEDSIM_TRACEBACK=1 for details\n"
    )
    monkeypatch.setenv("FEDSIM_TRACEBACK", "1")
    assert "Traceback" in fedsim("run").err


def test_an_interrupt_says_how_to_continue(fedsim, engine):
    engine.raises = KeyboardInterrupt()
    said = fedsim("run")
    assert said.code == 130 and "interrupted; run the same command again to continue" in said.err


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m fedsim.cli list | head -n 0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600)
    assert done.stderr == "" and done.returncode in (0, 141)  # 0 where all went out before it closed


def test_main_takes_the_process_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fedsim", "--version"])
    assert main() == 0 and capsys.readouterr().out
