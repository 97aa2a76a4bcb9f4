"""Which codes a region's tables hold, which of them a definition asks for, and which nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fedsim.omop.read import Site
from fedsim.omop.vocabulary import KNOWN, NO_CONCEPT

SHOWN = 5  # unknown codes that are named
# Table -> its columns of source value and concept.
COLUMNS = {
    "condition_occurrence": ("condition_source_value", "condition_concept_id"),
    "drug_exposure": ("drug_source_value", "drug_concept_id"),
    "device_exposure": ("device_source_value", "device_concept_id"),
    "visit_occurrence": ("visit_source_value", "visit_concept_id"),
    "observation": ("observation_source_value", "observation_concept_id"),
    "measurement": ("measurement_source_value", "measurement_concept_id"),
}
BY_BEGINNING = ("condition_occurrence", "drug_exposure")


class Term(NamedTuple):
    """A code as it stands in a table, and how many rows have it. unit, unit_concept: of measurements."""

    source: str
    concept: int
    unit: str
    unit_concept: int
    rows: int


def _plain(code: str) -> str:
    return code.replace(".", "").strip().upper()


class Terms:
    """The distinct codes of a table, numbered, as a table `term_TABLE` beside it."""

    def __init__(self, site: Site, table: str) -> None:
        self.table = table
        source, concept = COLUMNS[table]
        columns = [f"coalesce({source}, '')", f"coalesce({concept}, 0)"]
        if table == "measurement":
            columns += ["coalesce(unit_source_value, '')", "coalesce(unit_concept_id, 0)"]
        else:
            columns += ["''", "0"]
        names = ("source", "concept", "unit", "unit_concept")
        named = ", ".join(f"{column} AS {name}" for column, name in zip(columns, names, strict=True))
        number = f"row_number() OVER (ORDER BY {', '.join(names)}) - 1"
        site.sql(
            f"CREATE OR REPLACE TEMP TABLE term_{table} AS SELECT {number} AS term, * FROM "
            f"(SELECT {named}, count(*) AS n FROM {table} GROUP BY ALL)"
        )
        rows = site.sql(f"SELECT source, concept, unit, unit_concept, n FROM term_{table} ORDER BY term")
        self.all = [Term(*row) for row in rows.fetchall()]
        self.asked: set[int] = set()
        # The columns by which a row of the table finds its term.
        self.join = " AND ".join(f"{column} = k.{name}" for column, name in zip(columns, names, strict=True))

    def matching(self, codes: Sequence[str], concepts: Sequence[int]) -> list[int]:
        """Numbers of the terms that a list of codes and concepts means: conditions and drugs by the beginning
        of the code, others by all of it, and either by the standard concepts of such codes."""
        known = KNOWN[self.table]
        wanted = [_plain(code) for code in codes]

        def means(source: str) -> bool:
            plain = _plain(source)
            if self.table in BY_BEGINNING:
                return bool(plain) and plain.startswith(tuple(wanted))
            return plain in wanted

        ids = {*concepts, *(concept for code, concept in known.items() if means(code))} - {NO_CONCEPT}
        found = [i for i, term in enumerate(self.all) if means(term.source) or term.concept in ids]
        self.asked.update(found)
        return found

    def unknown(self) -> dict[str, Any] | None:
        """Rows and codes that neither fedsim's vocabulary has nor anything asked for; None: there is none."""
        known = {_plain(code) for code in KNOWN[self.table]}
        concepts = set(KNOWN[self.table].values()) - {NO_CONCEPT}
        rest: dict[str, int] = {}
        for i, term in enumerate(self.all):
            if i in self.asked or _plain(term.source) in known or term.concept in concepts:
                continue
            name = term.source or f"concept {term.concept}"
            rest[name] = rest.get(name, 0) + term.rows
        if not rest:
            return None
        often = sorted(rest, key=lambda name: (-rest[name], name))[:SHOWN]
        return {"rows": sum(rest.values()), "codes": len(rest), "such_as": often}
