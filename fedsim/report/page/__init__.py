"""One HTML page of a sweep, needing no network: `assemble.page` puts tables, figures, cost, origin and
privacy into sections.html, and `frame.framed` these into frame.html with page.css and page.js. Here: what a
page says that no row does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """What the rows do not say. lead: the claim, a sentence or two; commands: what makes this page."""

    title: str
    lead: str
    commands: Sequence[str]
    version: str
    watts: float
    left_out: Sequence[str] = ()
