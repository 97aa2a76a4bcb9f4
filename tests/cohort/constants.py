"""The table of constants in docs/cohort.md, from the code.

    python tests/cohort/constants.py

Between `<!-- table: cohort -->` and `<!-- end -->` it is written anew; all else is prose, and stays.
"""

from __future__ import annotations

import re
import sys
from math import exp
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim.cohort import constants as c
from fedsim.cohort import regions

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cohort.md"
MARKED = re.compile(r"(<!-- table: cohort -->\n).*?(<!-- end -->)", re.S)


def rows() -> list[tuple[str, str, str]]:
    """(name, value, source) of every constant."""
    found = [
        (f"share of {name}, %", f"{s.population:g} / {s.registry:g}", s.source)
        for name, s in c.SHARES.items()
    ]
    for selection, knots in c.AGES.items():
        text = ", ".join(f"{p:g} % below {age:g}" for age, p in knots)
        found.append((f"age, {selection}", text, c.AGES_SOURCE))
    for selection, knots in c.EJECTION.items():
        text = ", ".join(f"{p:g} % below {value:g}" for value, p in knots)
        found.append((f"ejection fraction, {selection}", text, c.EJECTION_SOURCE))
    for name, spread in c.SPREADS.items():
        text = f"{spread.lower:g}, {spread.median:g}, {spread.upper:g}; missing {spread.missing:g} %"
        found.append((f"quartiles of {name}", text, spread.source))
    for name, (low, high) in c.LIMITS.items():
        found.append((f"limits of {name}", f"{low:g} to {high:g}", c.LIMITS_SOURCE))
    classes = ", ".join(f"{p:g}" for p in c.NYHA)
    found.append(("NYHA I to IV, %", f"{classes}; missing {c.NYHA_MISSING:g} %", c.NYHA_SOURCE))
    for name, parents in c.LOADINGS.items():
        text = ", ".join(f"{w:g} {parent}" for parent, w in parents.items()) or "none"
        found.append((f"loadings of {name}", text, c.LOADINGS_SOURCE))
    for name, whole in c.WITHIN.items():
        found.append((f"{name} only with", whole, c.LOADINGS_SOURCE))
    found.append(("loading of each measurement on `measured`", f"{c.MEASURED_LOADING:g}", c.ASSUMED))
    effects = (
        ("hazard ratio of death", c.DEATH),
        ("hazard ratio of admission", c.ADMISSION),
        ("odds ratio of a cardiovascular cause", c.CARDIOVASCULAR),
    )
    for what, table in effects:
        for name, e in table.items():
            both = (f"{exp(e.reduced):.3g}", f"{exp(e.preserved):.3g}")
            text = both[0] if both[0] == both[1] else f"{both[0]} below 50 %, {both[1]} from 50 % on"
            found.append((f"{what}: {name}", text, e.source))
    for name, figure in c.FIGURES.items():
        found.append((name, f"{figure.value:g} ({figure.unit})", figure.source))
    for name, knots in c.ADOPTION.items():
        text = ", ".join(f"{share:g} in {year:g}" for year, share in knots)
        found.append((f"adoption of {name}", text, c.ASSUMED))
    for region in regions.KNOWN.values():
        ways = [f"{way} {getattr(region, way):.3g}" for way in regions.WAYS if getattr(region, way)]
        ways += [f"own units: {', '.join(region.units)}"] if region.units else []
        text = ", ".join([f"{region.population:.0f} people", *ways])
        found.append((f"region {region.name}", text, region.source))
    return found


def written(text: str) -> str:
    """A document with its table as it should be."""
    lines = [("constant", "value", "source"), ("---", "---", "---"), *rows()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return MARKED.sub(lambda found: f"{found[1]}\n{table}\n\n{found[2]}", text)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
