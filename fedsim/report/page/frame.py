"""What every page is in: its head, style and script, and the buttons and links that lead through it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Frame:
    """title, kind: above the page. skip, sections, light, dark: words of the frame itself, in `language`.

    first: id of the section that `skip` leads to. nav: {id: word}. style: CSS after the pages' own.
    """

    title: str
    version: str
    kind: str
    nav: Mapping[str, str]
    first: str
    language: str = "en"
    skip: str = "Skip to the tables"
    sections: str = "Sections"
    light: str = "Light"
    dark: str = "Dark"
    style: str = ""


def framed(frame: Frame, main: str) -> str:
    """The page with everything that it needs inside. main: HTML."""
    words = {key: escape(text) for key, text in vars(frame).items() if isinstance(text, str)}
    parts = words | {
        "nav": "".join(f'<a href="#{at}">{escape(word)}</a>' for at, word in frame.nav.items()),
        "main": main,
        "css": read(_HERE / "page.css") + frame.style,
        "js": read(_HERE / "page.js"),
    }
    return filled(read(_HERE / "frame.html"), parts)


def filled(template: str, parts: Mapping[str, str]) -> str:
    """`{{name}}` replaced by its part."""
    return re.sub(r"{{(\w+)}}", lambda found: parts[found[1]], template)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
