"""Numbers of a decision's document as links, and the tables and paragraphs that hold them.

Every number is written by `Numbers.at`, which takes it from the document by its place there (JSON Pointer,
RFC 6901), so that no number can stand on the page that the document does not have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fedsim.report.decision.model import difference_of, patients_of
from fedsim.report.decision.spec import NAMES
from fedsim.report.decision.words import Language, Style, number, say


class Numbers:
    """The document's numbers as links to where they come from."""

    def __init__(self, document: Mapping[str, Any], language: Language) -> None:
        self.document, self.language = document, language

    def value(self, *place: str | int) -> Any:
        found: Any = self.document
        for key in place:
            found = found[key]
        return found

    def at(self, style: Style, *place: str | int, to: str = "") -> str:
        """The number at a place of the document, linking to the id `to`, else to the choice's runs."""
        value = self.value(*place)
        text = escape(number(value, style, self.language))
        pointer = "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in place)
        exact = "" if value is None else repr(float(value))
        to = to or runs_of(self.document["choice"])
        return (
            f'<a class="n" href="#{escape(to)}" data-at="{escape(pointer)}" data-style="{style}" '
            f'data-value="{exact}">{text}</a>'
        )

    def interval(self, style: Style, *place: str | int) -> str:
        return self.say("to", low=self.at(style, *place, "low"), high=self.at(style, *place, "high"))

    def both(self, style: Style, *place: str | int) -> str:
        """Best estimate, and its interval smaller."""
        return f'{self.at(style, *place, "base")} <span class="ends">({self.interval(style, *place)})</span>'

    def say(self, key: str, **values: Any) -> str:
        """Words with markup filled in: values are HTML already."""
        return escape(say(key, self.language), quote=False).format(**values)

    def text(self, told: Mapping[str, str]) -> str:
        return escape(told[self.language], quote=False)


def runs_of(arm: str) -> str:
    return f"runs-{arm}"


def assumption(name: str) -> str:
    return "assume-" + re.sub(r"\W", "-", name)


def names(n: Numbers) -> dict[str, str]:
    """{number of the model: its words}, as plain text."""
    found = {name: say(name, n.language) for name in NAMES}
    for site, region in n.document["regions"].items():
        label = region["label"][n.language]
        found[patients_of(site)] = say("patients_of", n.language, region=label)
        found[difference_of(site)] = say("difference_of", n.language, region=label)
    return found


# --- tables ----------------------------------------------------------------------------------


def table(
    caption: str, head: Sequence[str], lines: Sequence[str], words: Sequence[int] = (), wide: bool = False
) -> str:
    """words: which columns after the first are text, to the left; wide: cells may break."""
    left = (0, *(k + 1 for k in words))
    kinds = ["first" if k == 0 else "" if k in left else "number" for k in range(len(head))]
    heads = "".join(
        f'<th scope="col" class="{kind}">{word}</th>' for kind, word in zip(kinds, head, strict=True)
    )
    named = f"<caption>{caption}</caption>" if caption else ""
    label = f' role="region" aria-label="{caption}"' if caption else ""
    kind = ' class="wide"' if wide else ""
    return (
        f'<div class="scroll" tabindex="0"{label}><table{kind}>{named}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def row(head: str, cells: Sequence[str], words: Sequence[int] = (), attrs: str = "") -> str:
    """A row. words: which cells are text, to the left."""
    made = "".join(
        f'<td class="word">{cell}</td>' if k in words else f"<td>{cell}</td>" for k, cell in enumerate(cells)
    )
    return f'<tr{attrs}><th scope="row">{head}</th>{made}</tr>'


def paragraphs(*texts: str) -> str:
    return "".join(f"<p>{text}</p>" for text in texts if text)


def told_as(n: Numbers, kind: str, verdict: str) -> str:
    return f'<span class="is {verdict}">{n.say(f"{kind}_{verdict}")}</span>'
