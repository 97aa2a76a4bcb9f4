"""Every word of the page, in English and in Swedish, and how numbers are written in each."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

Language = Literal["en", "sv"]
LANGUAGES: tuple[Language, ...] = ("en", "sv")
_FILE = Path(__file__).with_name("words.yaml")
_THIN = "\u202f"  # a narrow space that no line breaks at


@cache
def words() -> dict[str, dict[str, str]]:
    """{key: {language: text}}, from words.yaml."""
    found: dict[str, dict[str, str]] = yaml.load(_FILE.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return found


def say(key: str, language: Language, **values: Any) -> str:
    """The words of `key`, with what is in braces filled in."""
    text = words()[key][language]
    return text.format(**values) if values else text


Style = Literal["percent", "share", "points", "count", "amount", "plain", "mega"]


def number(value: float | None, style: Style, language: Language) -> str:
    """A number as people read it.

    Args:
      style: `percent` of 1, `share` the same without a zero at the end; `points`: percentage points of 1,
        with a sign; `count`: whole above 10; `amount`: three digits that mean something, and nothing
        below 1; `plain`: up to four digits; `mega`: a thousand times the number, with three digits.
    """
    if value is None:
        return "–"
    if style == "percent":
        shown = ">99.9" if 0.9995 <= value < 1 else f"{100 * value:.1f}"  # never a bound of all
        text = f"{shown}{_THIN}%"
    elif style == "share":
        text = f"{_digits(100 * value, 3)}{_THIN}%"
    elif style == "points":
        text = f"{100 * value:+.1f}"
    elif style == "count":
        text = f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.1f}"
    elif style == "amount":
        text = "<1" if 0 < value < 1 else _digits(value, 3)
    elif style == "mega":
        text = _digits(1000 * value, 3)
    else:
        text = _digits(value, 4)
    if text.strip("+-0., ") == "":  # a zero has no sign
        text = text.lstrip("+-")
    if language == "sv":
        text = text.replace(",", " ").replace(".", ",").replace(" ", _THIN)
    return text.replace("-", "−")


def _digits(value: float, digits: int) -> str:
    """`value` rounded to so many digits, never as a power of ten."""
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    text = f"{rounded:,.{max(places, 0)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
