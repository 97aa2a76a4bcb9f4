"""The tables of docs/cohort.md, from the code: published figures, what is left out of them, and constants.

    make methods

Between `<!-- table: NAME -->` and `<!-- end -->` they are written anew; all else is prose, and stays.
"""

from __future__ import annotations

import re
import sys
from math import exp
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim.cohort import constants as c
from fedsim.cohort import effects, regions
from tests.cohort.figures import FIGURES, FIGURES_LEFT
from tests.cohort.published import REGISTRY, SHFDB4, SHFDB4_LEFT, Line

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "cohort.md"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.S)
Row = tuple[str, ...]


def rows() -> list[Row]:
    """(name, value, source) of every constant."""
    found: list[Row] = [
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
    ratios = (
        ("hazard ratio of death", effects.DEATH),
        ("hazard ratio of admission", effects.ADMISSION),
        ("odds ratio of a cardiovascular cause", effects.CARDIOVASCULAR),
    )
    for what, table in ratios:
        for name, e in table.items():
            both = (f"{exp(e.reduced):.3g}", f"{exp(e.preserved):.3g}")
            text = both[0] if both[0] == both[1] else f"{both[0]} below 50 %, {both[1]} from 50 % on"
            found.append((f"{what}: {name}", text, e.source))
    for name, figure in c.FIGURES.items():
        found.append((name, f"{figure.value:g} ({figure.unit})", figure.source))
    text = ", ".join(f"{code} {share:g}" for code, share in c.HEART_CODES.items())
    found.append(("codes of heart failure beside I50.9", text, c.HEART_CODES_SOURCE))
    for name, knots in c.ADOPTION.items():
        text = ", ".join(f"{share:g} in {year:g}" for year, share in knots)
        found.append((f"adoption of {name}", text, c.ASSUMED))
    people = f"{regions.INCIDENCE:.4g} (in seven years)"
    found.append(("patients per inhabitant", people, f"{c.HALLAND}: 8,775 patients; {regions.SCB}"))
    text = (
        f"{regions.AGE_PER_SHARE:g} per percentage point of 65 and over, from {regions.NATIONAL_SHARE_65:g}"
    )
    found.append(("age of a region's patients, index", text, f"{c.ASSUMED}; shares: {regions.SCB}"))
    for region in regions.KNOWN.values():
        ways = [f"{way} {getattr(region, way):.3g}" for way in regions.WAYS if getattr(region, way)]
        ways += [f"own units: {', '.join(region.units)}"] if region.units else []
        text = ", ".join([f"{region.population:.0f} people", *ways])
        found.append((f"region {region.name}", text, region.source))
    return found


def band(line: Line) -> str:
    if not line.band:
        return "exact"
    if line.relative:
        return f"{100 * line.band:g} % of it"
    return f"{line.band:g} points" if len(line.published) == 1 and line in SHFDB4 else f"{line.band:g}"


def held() -> list[Row]:
    """(figure, population, registry, band) of the registers' statistics, one row for both selections."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in SHFDB4:
        row = found.setdefault((line.what.replace("|", ", "), band(line)), ["", ""])
        row[line.where == REGISTRY] = ", ".join(f"{value:g}" for value in line.published)
    return [(what, *both, within) for (what, within), both in found.items()]


def figures() -> list[Row]:
    """(area, quantity, published, band) of single figures."""
    return [
        (line.where, line.what, ", ".join(f"{value:.4g}" for value in line.published), band(line))
        if max(line.published) < 1e4
        else (line.where, line.what, ", ".join(f"{value:,.0f}" for value in line.published), band(line))
        for line in FIGURES
    ]


def left() -> list[Row]:
    """(figure, reason) of what is not held."""
    both = {**SHFDB4_LEFT, **FIGURES_LEFT}
    return [(what.replace("|", ", ").removesuffix("/"), reason) for what, reason in both.items()]


TABLES = {
    "held": (("figure", "population", "registry", "held within"), held),
    "figures": (("where", "figure", "published", "held within"), figures),
    "left": (("figure", "why not"), left),
    "cohort": (("constant", "value", "source"), rows),
}


def table(name: str) -> str:
    header, of = TABLES[name]
    lines = [header, ("---",) * len(header), *of()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(text: str) -> str:
    """A document with its tables as they should be."""
    return MARKED.sub(lambda found: f"{found[1]}\n{table(found[2])}\n\n{found[3]}", text)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
