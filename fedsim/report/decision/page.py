"""The page of a decision in one language: the sections around the numbers of its JSON document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fedsim.report.decision.markup import Numbers
from fedsim.report.decision.sections import SECTION
from fedsim.report.decision.words import Language

_HERE = Path(__file__).parent
_SHARED = _HERE.parent / "page"


def page(document: Mapping[str, Any], language: Language, version: str) -> str:
    """The page, with everything that it needs inside."""
    n = Numbers(document, language)
    made = {name: section(n) for name, section in SECTION.items()}
    body = "".join(
        f'<section id="{_id(name)}"{_CLASS.get(name, "")}><h2>{n.say(name)}</h2>{text}</section>'
        for name, text in made.items()
    )
    lead = f'<p class="lead">{n.say("simulated", data=n.text(document["data"]))} {n.say("linked")}</p>'
    parts = {key: n.say(key) for key in ("kind", "skip", "sections", "light", "dark")} | {
        "language": language,
        "version": escape(version),
        "name": escape(str(document["name"])),
        "title": n.text(document["question"]),
        "nav": "".join(f'<a href="#{_id(name)}">{n.say(name)}</a>' for name in SECTION),
        "main": lead + body,
        "css": _read(_SHARED / "page.css") + _read(_HERE / "page.css"),
        "js": _read(_SHARED / "page.js"),
    }
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], _read(_HERE / "page.html"))


_CLASS = {"answer": ' class="answer"'}


def _id(section: str) -> str:
    # The shared style leaves out #runs on paper; here every number leads to them.
    return "behind" if section == "runs" else section


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
