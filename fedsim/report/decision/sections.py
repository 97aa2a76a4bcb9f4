"""The sections of a decision's page, each a function of the document's numbers to HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from fedsim.report.decision import chart
from fedsim.report.decision.markup import Numbers, assumption, names, paragraphs, row, runs_of, table, told_as
from fedsim.report.decision.model import patients_of
from fedsim.report.decision.words import Style


def _answer(n: Numbers) -> str:
    total = n.document["total"]
    arms = n.document["arms"]
    sentences = []
    asked: tuple[tuple[str, str, str, Style], ...] = (
        ("told", "gain", "avoided", "count"),
        ("money", "pays", "net", "amount"),
    )
    for kind, verdict, what, style in asked:
        values = {"base": n.at(style, "total", what, "base"), "interval": n.interval(style, "total", what)}
        sentences.append(n.say(f"{kind}_{total[verdict]}", **values))

    def line(label: str, place: tuple[str, ...], attrs: str = "") -> str:
        found = n.value(*place)
        cells = [
            told_as(n, "is", found["gain"]),
            n.both("count", *place, "avoided"),
            n.both("amount", *place, "net"),
            told_as(n, "pays", found["pays"]),
        ]
        return row(label, cells, (0, 3), attrs)

    lines = [line(n.text(r["label"]), ("regions", site)) for site, r in n.document["regions"].items()]
    lines.append(line(n.say("all"), ("total",), ' class="all"'))
    head = [n.say(key) for key in ("region", "verdict", "avoided", "net", "pays")]
    compared = {key: n.text(arms[n.document[key]]["label"]) for key in ("choice", "baseline")}
    rule = n.say("rule", worthwhile=n.at("count", "worthwhile", to="assumptions"))
    return (
        paragraphs(" ".join(sentences))
        + table("", head, lines, (0, 3))
        + f'<p class="told">{n.say("compares", **compared)} {rule}</p>'
    )


def _gain(n: Numbers) -> str:
    base, choice = n.document["baseline"], n.document["choice"]
    values = {"capacity": n.at("share", "capacity", to="assumptions"), "found": n.text(n.document["found"])}
    lines = []
    for site, region in n.document["regions"].items():
        at = ("regions", site)
        cells = [
            n.at("count", *at, "patients", to=assumption(patients_of(site))),
            n.at("count", *at, "flagged", to=assumption(patients_of(site))),
            n.at("percent", *at, "difference", "baseline", to=runs_of(base)),
            n.at("percent", *at, "difference", "value", to=runs_of(choice)),
            n.both("points", *at, "difference"),
            n.both("count", *at, "found"),
        ]
        lines.append(row(n.text(region["label"]), cells))
    arms = n.document["arms"]
    head = [n.say("region"), n.say("patients"), n.say("flagged")]
    head += [f"{n.say('rightly')}: {n.text(arms[arm]['label'])}" for arm in (base, choice)]
    head += [n.say("difference"), n.say("more_found")]
    caption = n.say("arms_caption", baseline=n.text(arms[base]["label"]))
    return (
        paragraphs(n.say("gain_lead", **values))
        + table(n.say("gain_caption"), head, lines)
        + _arms(n, caption, [arm for arm in arms if arms[arm]["privacy"]["epsilon"] is None])
    )


def _arms(n: Numbers, caption: str, arms: Sequence[str], cells: Mapping[str, list[str]] | None = None) -> str:
    """A row per arm: cells of its own, then a column per region."""
    regions = n.document["regions"]
    lines = []
    for arm in arms:
        shown = list(cells[arm]) if cells else []
        for site in regions:
            found = n.value("arms", arm, "regions", site)
            place = ("arms", arm, "regions", site)
            value = n.at("percent", *place, "value", to=runs_of(arm))
            if "base" in found:
                ends = (n.at("points", *place, end, to=runs_of(arm)) for end in ("base", "low", "high"))
                mean, low, high = ends
                value += f'<br>{mean} <span class="ends">({n.say("to", low=low, high=high)})</span>'
            shown.append(value)
        lines.append(row(n.text(n.value("arms", arm, "label")), shown))
    own = [n.say(key) for key in ("epsilon", "delta", "hides", "guess")] if cells else []
    head = [n.say("arm"), *own, *(n.text(region["label"]) for region in regions.values())]
    return table(caption, head, lines)


def _privacy(n: Numbers) -> str:
    arms, choice = n.document["arms"], n.document["choice"]
    mine = arms[choice]["privacy"]
    label = n.text(arms[choice]["label"])
    if arms[choice]["pooled"]:
        found = [n.say("leaves_pooled")]
    else:
        found = [n.say("leaves", traffic=n.at("mega", "training", "gigabytes_up")), n.say("not_safe")]
    if mine["epsilon"] is None:
        found.append(n.say("no_bound", choice=label))
    else:
        found.append(n.say("bound", choice=label, **_bound(n, choice)))
    bounded = [arm for arm in arms if arms[arm]["privacy"]["epsilon"] is not None]
    made = paragraphs(*found)
    if bounded:
        caption = n.say("bounds_caption", baseline=n.text(arms[n.document["baseline"]]["label"]))
        made += _arms(n, caption, bounded, {arm: [*_bound(n, arm).values()] for arm in bounded})
        made += f'<p class="told">{n.say("guess_note")}</p>'
    attacks = sorted({attack for arm in arms.values() for attack in arm["privacy"]["attacks"]})
    made += paragraphs(
        n.say("attacked", attacks=escape(", ".join(attacks))) if attacks else n.say("not_attacked")
    )
    return made + _statements(n, bounded)


def _bound(n: Numbers, arm: str) -> dict[str, str]:
    at = ("arms", arm, "privacy")
    unit = str(n.value(*at, "unit"))
    known = f"unit_{unit}"
    return {
        "epsilon": n.at("plain", *at, "epsilon", to=runs_of(arm)),
        "delta": n.at("plain", *at, "delta", to=runs_of(arm)),
        "unit": n.say(known) if known in ("unit_record", "unit_patient", "unit_client") else escape(unit),
        "guess": n.at("percent", *at, "guess", to=runs_of(arm)),
    }


_STATED = {"covered": "Covered", "uncovered": "Not covered, in the clear", "notes": "Note"}


def _statements(n: Numbers, arms: Sequence[str]) -> str:
    """What the runs' accounts say word by word, each once."""
    said: dict[str, None] = {}
    for arm in arms:
        account = n.value("arms", arm, "privacy")
        for key, word in _STATED.items():
            for one in account.get(key) or ():
                said[f"{word}: {one}."] = None
    if not said:
        return ""
    listed = "".join(f"<li>{escape(one)}</li>" for one in said)
    return f'<p>{n.say("statement")}</p><ul class="statement" lang="en">{listed}</ul>'


def _cost(n: Numbers) -> str:
    parts = ("value", "staff", "compute", "traffic", "cost", "net")
    heads = {"cost": "total"}
    places: list[tuple[str, tuple[str, ...], str]]
    places = [(n.text(r["label"]), ("regions", s), "") for s, r in n.document["regions"].items()]
    places.append((n.say("all"), ("total",), ' class="all"'))
    small = ("compute", "traffic")  # their intervals would say nothing
    lines = []
    for label, place, attrs in places:
        cells = [
            n.at("amount", *place, part, "base") if part in small else n.both("amount", *place, part)
            for part in parts
        ]
        lines.append(row(label, cells, attrs=attrs))
    head = [n.say("region"), *(n.say(heads.get(part, part)) for part in parts)]
    values = {
        "years": n.at("count", "years", to="assumptions"),
        "seconds": n.at("plain", "training", "seconds"),
        "traffic": n.at("mega", "training", "gigabytes"),
    }
    return table(n.say("cost_caption"), head, lines, wide=True) + paragraphs(n.say("cost_note", **values))


def _sure(n: Numbers) -> str:
    found = n.document
    values = {
        "seeds": n.at("count", "seeds"),
        "resamples": n.at("count", "resamples", to="method"),
        "draws": n.at("count", "draws", to="method"),
    }
    lines = []
    for site, region in found["regions"].items():
        at = ("regions", site)
        cells = [n.at("count", *at, key) for key in ("tested", "events")]
        cells += [n.at("percent", *at, key) for key in ("share_gain", "share_pays")]
        lines.append(row(n.text(region["label"]), cells))
    shares = [n.at("percent", "total", key) for key in ("share_gain", "share_pays")]
    lines.append(row(n.say("all"), ["", "", *shares], attrs=' class="all"'))
    head = [n.say("region"), n.say("tested"), n.say("events", found=n.text(found["found"]))]
    head += [n.say("share_gain"), n.say("share_pays")]
    few = [n.text(r["label"]) for r in found["regions"].values() if r["few_events"]]
    warned = f'<div class="warning">{n.say("few", regions=", ".join(few))}</div>' if few else ""
    patients = n.say("same") if found["same_patients"] else n.say("other")
    lead = paragraphs(f"{n.say('sure_lead', **values)} {patients} {n.say('outside')}")
    return lead + warned + table(n.say("sure_caption"), head, lines)


def _change(n: Numbers) -> str:
    said = names(n)
    bars = n.document["tornado"]
    turning = [escape(said[bar["name"]], quote=False) for bar in bars if bar["decides"]]
    lines = []
    for k, bar in enumerate(bars):
        at, to = ("tornado", k), _origin(n, bar["name"])
        style = chart.style_of(n.document, bar["name"])
        cells = [n.at(style, *at, key, to=to) for key in ("low", "base", "high")]
        cells += [n.at("amount", *at, key) for key in ("at_low", "at_high")]
        cells.append(n.say("nowhere") if bar["turns"] is None else n.at(style, *at, "turns"))
        lines.append(row(escape(said[bar["name"]], quote=False), cells))
    head = [n.say(key) for key in ("number", "low", "base", "high", "net_low", "net_high", "turns")]
    told = n.say("decides", names="; ".join(turning)) if turning else n.say("decides_none")
    return (
        paragraphs(told)
        + chart.figure(n.document, said, n.language)
        + table(n.say("change_caption"), head, lines, wide=True)
    )


def _origin(n: Numbers, name: str) -> str:
    return assumption(name) if name in n.document["assumptions"] else runs_of(n.document["choice"])


def _untested(n: Numbers) -> str:
    found = [n.text(told) for told in n.document["not_tested"]]
    found += [n.say("untested_arm", arm=n.text(arm["label"])) for arm in n.document["absent"]]
    if not any(arm["privacy"]["attacks"] for arm in n.document["arms"].values()):
        found.append(n.say("not_attacked"))
    found += [n.say(f"untested_{key}") for key in ("care", "future", "law", "work")]
    return f"<ul>{''.join(f'<li>{one}</li>' for one in found)}</ul>"


def _assumptions(n: Numbers) -> str:
    said = names(n)
    lines = []
    for name, told in n.document["assumptions"].items():
        to = assumption(name)
        style = chart.style_of(n.document, name)
        cells = [n.at(style, "assumptions", name, key, to=to) for key in ("low", "base", "high")]
        cells += [n.say(told["unit"]), n.say(told["shape"]), escape(told["source"], quote=False)]
        cells.append(n.say("yes" if told["assumed"] else "no"))
        lines.append(row(escape(said[name], quote=False), cells, (3, 4, 5, 6), f' id="{to}"'))
    head = [n.say(k) for k in ("number", "low", "base", "high", "unit", "shape", "source", "assumed")]
    return paragraphs(n.say("assumptions_note")) + table("", head, lines, (3, 4, 5, 6), wide=True)


def _method(n: Numbers) -> str:
    commands = escape("\n".join(n.document["commands"]))
    return paragraphs(n.say("formula"), n.say("ppv"), n.say("again")) + f"<pre>{commands}</pre>"


def _runs(n: Numbers) -> str:
    lines = []
    for arm, told in n.document["arms"].items():
        first = True
        for seed, run in told["runs"].items():
            attrs = f' id="{runs_of(arm)}"' if first else ""
            first = False
            folder = escape(f"{n.document['store']}/{run}")
            cells = [escape(seed), f"<code>{escape(run)}</code>", f"<code>{folder}</code>"]
            lines.append(row(n.text(told["label"]), cells, (0, 1, 2), attrs))
    head = [n.say(key) for key in ("arm", "seed", "run", "folder")]
    return table(n.say("runs_caption"), head, lines, (0, 1, 2), wide=True)


SECTION = {
    "answer": _answer,
    "gain": _gain,
    "privacy": _privacy,
    "cost": _cost,
    "sure": _sure,
    "change": _change,
    "untested": _untested,
    "assumptions": _assumptions,
    "method": _method,
    "runs": _runs,
}
