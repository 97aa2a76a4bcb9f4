"""The tables of docs/methods.md, and the measured costs in docs/speed.md, from what is known elsewhere.

    python tests/docs/methods.py

Between `<!-- table: NAME -->` and `<!-- end -->` a table is written anew; all else is prose, and stays. What
a member is, is the comment that opens its YAML, as in `fedsim list`; its paper is the `Source:` paragraph of
its builder or of the builder's file, or where there is none the paper that the comment names. What an
algorithm sends, keeps and works with is asked of the engine, which traces it and runs nothing.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim import channel, data, privacy, tasks
from fedsim.aggregation import AGGREGATORS
from fedsim.algorithms import ALGORITHMS
from fedsim.attack import ATTACKS
from fedsim.base import RequestError
from fedsim.cli.listing import comment
from fedsim.config import MEMBERS
from fedsim.data.splits import SPLITS
from fedsim.simulate.build import build
from fedsim.simulate.traits import Traits
from fedsim.world import WORLDS
from tests.benchmarks.methods import EXPECTED
from tests.golden.families import FAMILIES
from tests.simulate import small

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "docs" / "methods.md", ROOT / "docs" / "speed.md")
MEASURED = ROOT / "results" / "benchmarks" / "methods.json"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.S)

# --- what a member is ------------------------------------------------------------------------

BUILDERS: dict[str, dict[str, Callable[..., Any]]] = {
    "algorithm": ALGORITHMS,
    "aggregator": AGGREGATORS,
    "attack": ATTACKS,
    "split": SPLITS,
    "task": tasks.TASKS,
    "channel": channel.CHANNELS,
    "privacy": privacy.MECHANISMS,
    "world": {name: world.draw for name, world in WORLDS.items()},
    "data": data.SOURCES,
}
CITED = re.compile(r" \(([^()]*\b(?:19|20)\d\d\b[^()]*)\)")  # what a comment has in brackets with a year


def described(group: str, name: str) -> tuple[str, str]:
    """(what it is, its paper or "-")."""
    line = comment(ROOT / "configs" / group / f"{name}.yaml")
    cited = CITED.search(line)
    builder = BUILDERS.get(group, {}).get(name)
    paper = (builder and source(builder)) or (cited and cited[1]) or "-"
    return CITED.sub("", line).removesuffix("."), paper


def source(builder: Callable[..., Any]) -> str:
    """The paragraph of a builder's docstring, or else its file's, that begins with Source; "" for none."""
    for text in (builder.__doc__, getattr(inspect.getmodule(builder), "__doc__", None)):
        for paragraph in inspect.cleandoc(text or "").split("\n\n"):
            if found := re.match(r"Sources?: (.*)", paragraph, re.S):
                return " ".join(found[1].split()).removesuffix(".")
    return ""


def members(group: str) -> list[list[str]]:
    return [[f"`{name}`", *described(group, name)] for name in sorted(MEMBERS[group])]


# --- what an algorithm sends, keeps, and works with ------------------------------------------

PERCEPTRON = {"name": "mlp", "hidden": [64]}
# What an algorithm needs to be of use on this model.
NEEDED: dict[str, dict[str, Any]] = {
    "dpsgd": {"topology": "ring"},
    "fedbn": {"task": PERCEPTRON | {"batch_norm": True}},
    "fedper": {"algorithm": {"personal": ["dense/1"]}},
    "fedrep": {"algorithm": {"personal": ["dense/1"]}},
    "lgfedavg": {"algorithm": {"personal": ["dense/0"]}},
    "fedala": {"algorithm": {"personal": ["dense/1"]}},
    "newton": {"task": "logistic"},
    "boosting": {"task": {"name": "trees", "trees": 25, "depth": 4, "bins": 32}},
}
QUESTIONS: dict[str, dict[str, Any]] = {
    "privacy": {"privacy": "gaussian", "algorithm": {"weighting": "uniform"}},
    "robust": {"aggregator": "median"},
    "async": {"world": {"name": "asynchronous", "concurrency": 3, "buffer": 2}, "system": "lognormal"},
}
FEW = 16  # numbers that are counted, and not written as a share of the model


class Facts(NamedTuple):
    """Bytes and answers as they are shown."""

    receives: str
    sends: str
    keeps: str
    works: tuple[str, ...]


@cache
def facts(name: str) -> Facts:
    own = NEEDED.get(name, {})
    task = own.get("task", PERCEPTRON)
    found = asked(name, own)
    # Of trees nothing but boosting makes a model.
    model = 4 * found.parameters if name == "boosting" else asked("fedavg", {"task": task}).down_bytes
    # Of what reaches no server there is nothing to protect, to combine or to wait for.
    alone = found.pooled or found.up_bytes == 0
    works = tuple("-" if alone else runs(name, own, changes) for changes in QUESTIONS.values())
    if found.pooled:  # rows move, and no models
        return Facts("-", "-", "-", works)
    received, sent, kept = (amount(n, model) for n in (found.down_bytes, found.up_bytes, found.memory_bytes))
    return Facts(received, sent, kept, works)


def asked(name: str, *changes: dict[str, Any]) -> Traits:
    """Of an algorithm with some changes; RequestError where it is refused."""
    values: dict[str, Any] = {"task": PERCEPTRON, "world": "all", "topology": "star"}
    algorithm: dict[str, Any] = {"name": name}
    for change in changes:
        algorithm |= change.get("algorithm", {})
        values |= change
    lane = small.lane(small.experiment(**values | {"algorithm": algorithm}))
    return build(small.federation(), [lane], "cpu", lambda setup: None).traits


def runs(name: str, *changes: dict[str, Any]) -> str:
    try:
        asked(name, *changes)
    except RequestError:
        return "no"
    return "yes"


def amount(n: int, model: int) -> str:
    """Bytes in models: 0, 1, 2, "1 + 1 number", 0.99."""
    whole, numbers = n // model, n % model // 4
    if numbers > FEW:
        return f"{n / model:.2f}"
    few = f"{numbers} number{'s' * (numbers > 1)}" if numbers else ""
    return " + ".join(part for part in (str(whole) if whole or not few else "", few) if part)


@cache
def measured() -> dict[str, float]:
    """Seconds of a round over FedAvg's, of methods that were measured."""
    sittings = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {"fedavg": 1.0} | {name: r for sitting in sittings for name, r in sitting["ratios"].items()}


def golden(name: str) -> str:
    (family,) = (f.__name__.rpartition(".")[2] for f in FAMILIES if name in f.METHODS)
    return f"[{family}](../tests/golden/{family}.py)"


def algorithms() -> list[list[str]]:
    rows = []
    for name in sorted(MEMBERS["algorithm"]):
        found, cost = facts(name), measured().get(name)
        shown = "-" if cost is None else f"{cost:.2f}"
        paper = described("algorithm", name)[1]
        rows.append([f"`{name}`", paper, *found[:3], shown, *found.works, golden(name)])
    return rows


# --- tables ----------------------------------------------------------------------------------

FACTS = ("name", "paper", "receives", "sends", "keeps", "time", *QUESTIONS, "golden test")


def costs() -> list[list[str]]:
    """In the order in which methods are measured; FedAvg is what they are held against."""
    return [
        [f"`{name}`", f"{measured()[name]:.2f}", f"{expected:.2f}"]
        for name, (_, expected) in EXPECTED.items()
        if name in measured() and name != "fedavg"
    ]


def table(name: str) -> str:
    """A table by its name in the document: a group, or `cost`."""
    if name == "cost":
        return markdown(("method", "/ FedAvg", "expected"), costs())
    if name == "algorithm":
        return markdown(FACTS, algorithms())
    return markdown(("name", "what it is", "paper"), members(name))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    head, *body = (f"| {' | '.join(line)} |\n" for line in lines)
    return "".join([head, "|" + "---|" * len(header) + "\n", *body])


def written(text: str) -> str:
    """A document with its tables as they should be."""
    return MARKED.sub(lambda found: f"{found[1]}\n{table(found[2])}\n{found[3]}", text)


def main() -> None:
    for path in DOCUMENTS:
        path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
