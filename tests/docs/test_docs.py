"""The documentation says what happens: its commands run, its output is the program's, its links resolve.

In every document, in order and in one empty folder with the repository's `docs` in it:

  ```bash                  lines are `fedsim ...` commands; all end with exit code 0
  ```python                run in one namespace per document
  <!-- fails: 2 -->        before a bash block: its last command ends with that exit code
  <!-- file: NAME -->      before a block: written to that file
  <!-- output -->          before a block: part of what the block before printed, line by line; "..."
                           stands for anything, numbers may differ a little, run ids and times freely

`console` blocks are for another machine or shell, and only checked for what they name.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from fedsim.cli import VERBS, main

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n+)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    kind: str
    mark: str
    body: str
    line: int


def blocks(path):
    text = path.read_text(encoding="utf-8")
    return [
        Block(m["kind"], m["mark"] or "", m["body"], text.count("\n", 0, m.start("body")) + 1)
        for m in BLOCK.finditer(text)
    ]


def commands(body):
    """The arguments of each command; a backslash continues a line, # starts a comment."""
    lines = body.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def agrees(shown, said):
    """None if every line of `shown` is in `said`, in this order; else the first that is not."""
    left = iter(said.splitlines())
    for line in (text for text in shown.splitlines() if text.strip() not in ("", "...")):
        if not any(_same_line(line.split(), other.split()) for other in left):
            return line
    return None


def _same_line(shown, said):
    if not shown:
        return not said
    if shown[0] == "...":  # any words
        return any(_same_line(shown[1:], said[i:]) for i in range(len(said) + 1))
    if not said or not _same_word(shown[0], said[0], is_time=said[1:2] in (["s"], ["s,"])):
        return False
    return _same_line(shown[1:], said[1:])


def _same_word(shown, said, is_time):
    if shown == said or (shown.startswith("...") and said.endswith(shown[3:])):
        return True
    if all(re.fullmatch(r"\W*[0-9a-f]{16,64}\W*", word) for word in (shown, said)):  # an id or a hash
        return True
    a, b = (re.fullmatch(r"(\W*?)(-?[\d.]+(?:e-?\d+)?)(\W*)", word) for word in (shown, said))
    if a is None or b is None or (a[1], a[3]) != (b[1], b[3]):
        return False
    # Another processor rounds otherwise, and a few rows may change sides.
    return is_time or abs(float(a[2]) - float(b[2])) <= max(0.02, 0.05 * abs(float(a[2])))


# Read first; what the others show is looked at by `make test-long`.
FIRST = {"README", "first-experiment"}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=[] if p.stem in FIRST else pytest.mark.long) for p in DOCUMENTS],
    ids=lambda path: path.stem,
)
def test_what_a_document_shows_happens(path, place):
    said, namespace = "", {"__name__": "document"}
    for block in blocks(path):
        at = f"{path.name}:{block.line}"
        kind, _, value = block.mark.partition(": ")
        if kind == "file":
            target = place / value
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body, encoding="utf-8")
        elif kind == "output":
            missing = agrees(block.body, said)
            assert missing is None, f"{at}: {missing!r} is not in what was printed:\n{said}"
        elif block.kind == "bash":
            said = _run(block.body, int(value) if kind == "fails" else 0, at)
        elif block.kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile("\n" * block.line + block.body, str(path), "exec"), namespace)
            said = out.getvalue()


def _run(body, code, at):
    said = ""
    wanted = commands(body)
    for i, (program, *arguments) in enumerate(wanted):
        assert program == "fedsim", f"{at}: a bash block holds fedsim's commands, got {program}"
        alone = {"executor=ray", "numerics=float64"} & {*arguments}
        found, printed = (_apart if alone else _here)(arguments)
        expected = code if i == len(wanted) - 1 else 0
        assert found == expected, f"{at}: exit code {found}: {' '.join(arguments)}\n{printed}"
        said += printed
    return said


def _here(arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(arguments)
    return code, out.getvalue()


def _apart(arguments):
    """In a process of its own: Ray forks, and JAX runs here already, without 64 bits."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fedsim.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_links_resolve(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if name == "docs/images/heart_disease_gain.png" and not there.exists():
            pytest.skip("the picture has not been drawn yet")
        assert there.exists(), f"{path.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.M)
            assert anchor in {_anchor(title) for title in titles}, f"{path.name}: {target}"


def _anchor(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_what_is_named_exists(path):
    """Files in backquotes, make targets and fedsim's commands."""
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:fedsim|docs|tests|configs|experiments)/[a-z_./-]+\.(?:py|md|yaml))`", text):
        if f"<!-- file: {name} -->" not in text:
            assert (ROOT / name).exists(), f"{path.name}: {name}"
    made = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for target in re.findall(r"\bmake ([a-z-]+)`", text):
        assert target in made, f"{path.name}: make {target}"
    for verb in re.findall(r"`fedsim ([a-z]+)", text):
        assert verb in VERBS, f"{path.name}: fedsim {verb}"
    shells = [b.body for b in blocks(path) if b.kind == "console"]
    for target in re.findall(r"^make ([a-z-]+)", "\n".join(shells), re.M):
        assert target in made, f"{path.name}: make {target}"


def test_the_output_check_sees_a_difference():
    said = "run 1283c77b829f4902: done, 20 rounds in 0.774 s\n   n  auroc\nall  185  0.8717\nLund  61  0.95\n"
    shown = "run 5b3e1f7068369dc4: done, 20 rounds in 5 s\nall 185 0.872\n...\nLund 61 ..."
    assert agrees(shown, said) is None
    assert agrees("run ...: done, 20 rounds in 5 s", said) is None
    assert agrees("all 185 0.7", said) == "all 185 0.7"
    assert agrees("Lund 61 0.95\nall 185 0.8717", said) == "all 185 0.8717"
    assert agrees("run 5b3e1f7068369dc4: failed, ...", said) is not None
