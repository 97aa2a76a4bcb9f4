"""The command line: parse, validate, call.

A verb is one module: `describe(parser)` names its arguments, `main(options) -> int` does the work and
returns the exit code. It is imported when it is asked for.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module

from fedsim.base import FAILED, SUCCESS, WRONG_REQUEST, FedsimError, Refusal, RequestError, nearest

INTERRUPTED = 130  # as shells count: 128 + SIGINT
CLOSED_PIPE = 141  # 128 + SIGPIPE
_GARBAGE = 10_000  # new objects between looks for garbage; Python's own number is 700

# verb -> its module, and what it does
VERBS = {
    "run": ("run", "one experiment; -m runs a grid"),
    "sweep": ("sweep", "an experiment of experiments/: plan it, run what is missing, write its tables"),
    "submit": ("submit", "a sweep's missing cells as an array of SLURM"),
    "status": ("status", "which cells of a sweep are done, running, failed or missing"),
    "tables": ("tables", "write a sweep's tables and figures again, or check them for drift"),
    "report": ("report", "one HTML page of a sweep: tables, figures, cost, origin, privacy"),
    "export": ("export", "a sweep's rows as CSV, Parquet or JSON, with its labels"),
    "compare": ("compare", "paired differences of a sweep's runs against a baseline"),
    "validate": ("validate", "judge a stored model at a site outside, by a plan that is fixed first"),
    "timeline": ("timeline", "draw when clients of a run received, trained and sent"),
    "privacy": ("privacy", "what noise is worth as epsilon, and how much of it an epsilon takes"),
    "estimate": (
        "estimate",
        "survival curves, log-rank test, quantiles, table one",
    ),
    "data": ("data", "list, describe and fetch data"),
    "cohort": ("cohort", "write the cohort simulator's regions as OMOP tables"),
    "list": ("listing", "every algorithm, split, task, ... with its paper"),
    "bench": ("bench", "how fast rounds are beside hand-written programs, and whether that has changed"),
    "doctor": ("doctor", "what works here: devices, versions, cores, disk, Ray, SLURM"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default) and return the exit code.

    0: all that was asked for is done and stored; 1: something failed; 2: a wrong request; 3:
    incomplete. Errors are one line on standard error.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with _seldom_collecting():
            code = _dispatch(argv)
        sys.stdout.flush()  # a closed pipe is noticed here, not at exit
        return code
    except SystemExit as request:  # argparse's --help
        return request.code if isinstance(request.code, int) else SUCCESS
    except KeyboardInterrupt:
        print("fedsim: interrupted; run the same command again to continue", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except FedsimError as error:
        return _fail(argv, error, str(error), error.exit_code)
    except Exception as error:
        said = f"{type(error).__name__}: {error}; run again with FEDSIM_TRACEBACK=1 for details"
        return _fail(argv, error, said, FAILED)


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Modules and traced programs are some 300,000 objects that stay: to look through all of them for garbage
    again and again, while they are made, takes a second."""
    before = gc.get_threshold()
    gc.set_threshold(_GARBAGE, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(), file=sys.stdout if argv else sys.stderr)
        return SUCCESS if argv else WRONG_REQUEST
    if argv[0] == "--version":
        from fedsim import __version__

        print(f"fedsim {__version__}")
        return SUCCESS
    verb, *rest = argv
    if verb not in VERBS:
        raise RequestError(f"unknown command {verb!r}; {nearest(verb, VERBS)}")
    from fedsim.cli.arguments import Parser

    module = import_module(f"fedsim.cli.{VERBS[verb][0]}")
    parser = Parser(verb, VERBS[verb][1])
    module.describe(parser)
    options = parser.read(rest)
    options.out = sys.stdout
    if not options.json:
        return int(module.main(options))
    with redirect_stdout(sys.stderr):  # whatever else prints
        return int(module.main(options))


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:{width}}  {text}" for verb, (_, text) in VERBS.items())
    return f"""usage: fedsim COMMAND [arguments]

What each health region would gain from federated learning, simulated.

{verbs}

fedsim COMMAND --help says more; fedsim --version says which."""


def _fail(argv: list[str], error: Exception, said: str, code: int) -> int:
    if os.environ.get("FEDSIM_TRACEBACK"):
        traceback.print_exception(error)
    said = " ".join(said.split())
    if "--json" in argv:
        import json

        found = {"error": said}
        if isinstance(error, Refusal):
            found = {"error": error.reason, "advice": error.advice}
        print(json.dumps(found, ensure_ascii=False))
    print(f"fedsim: error: {said}", file=sys.stderr)
    return code
