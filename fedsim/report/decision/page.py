"""The page of a decision in one language: the sections around the numbers of its JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedsim.report.decision.markup import Numbers
from fedsim.report.decision.sections import SECTION
from fedsim.report.decision.words import Language, say
from fedsim.report.page.frame import Frame, framed, read

_HERE = Path(__file__).parent


def page(document: Mapping[str, Any], language: Language, version: str) -> str:
    """The page, with everything that it needs inside."""
    n = Numbers(document, language)
    made = {name: section(n) for name, section in SECTION.items()}
    body = "".join(
        f'<section id="{_id(name)}"{_CLASS.get(name, "")}><h2>{n.say(name)}</h2>{text}</section>'
        for name, text in made.items()
    )
    lead = f'<p class="lead">{n.say("simulated", data=n.text(document["data"]))} {n.say("linked")}</p>'
    frame = Frame(
        title=document["question"][language],
        version=version,
        kind=f"{say('kind', language)}: {document['name']}",
        nav={_id(name): say(name, language) for name in SECTION},
        first="answer",
        language=language,
        **{word: say(word, language) for word in ("skip", "sections", "light", "dark")},
        style=read(_HERE / "page.css"),
    )
    return framed(frame, lead + body)


_CLASS = {"answer": ' class="answer"'}


def _id(section: str) -> str:
    # The shared style leaves out #runs on paper; here every number leads to them.
    return "behind" if section == "runs" else section
