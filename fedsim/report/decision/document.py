"""All numbers of a decision in one JSON document: what the page shows, and nothing that it does not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.base import require, to_dict
from fedsim.report.decision import evidence, model
from fedsim.report.decision.evidence import Difference, Shown
from fedsim.report.decision.model import Fixed, Worth
from fedsim.report.decision.spec import BOUNDS, MOST, NAMES, Arm, Decision, Range
from fedsim.report.rows import Rows, plain

Document = dict[str, Any]
Against = dict[str, Difference | None]  # by region
BYTES_PER_GIGABYTE = 1e9
FEW_EVENTS = 100  # or non-events, below which a test says little (Vergouwe et al., J Clin Epidemiol 2005)


def document(rows: Rows, decision: Decision, again: str) -> Document:
    """Numbers by region, of all regions, by arm and by assumption, each with the runs behind it.

    Args:
      rows: runs of the plan, as `report.read` gives them.
      again: the command that makes missing runs, for messages.

    Raises:
      RequestError: baseline or choice has no finished run, or runs do not fit the decision.
    """
    baseline = evidence.needed(rows, decision, decision.baseline, again)
    choice = evidence.needed(rows, decision, decision.choice, again)
    others = {arm.name: evidence.show(rows, decision, arm, again) for arm in decision.others}
    found = {name: shown for name, shown in others.items() if shown is not None}
    sites = tuple(region.site for region in decision.regions)
    differences = {site: _needed(choice, baseline, site, decision, again) for site in sites}
    training = _training(choice, len(sites))
    fixed = Fixed(sites, decision.capacity, decision.years, training["seconds"], training["gigabytes"])
    ranges = _ranges(decision)
    intervals = {model.difference_of(site): model.ends(d.draws) for site, d in differences.items()}
    base = {name: told.base for name, told in ranges.items()}
    base |= {model.difference_of(site): d.mean for site, d in differences.items()}
    worth = model.worth(base, fixed)
    draws = {site: d.draws for site, d in differences.items()}
    drawn = model.worth(model.drawn(ranges, draws, decision.draws), fixed)
    bars = model.tornado(
        {name: (told.low, told.base, told.high) for name, told in ranges.items()}
        | {key: (low, base[key], high) for key, (low, high) in intervals.items()},
        _bounds({site: found.baseline for site, found in differences.items()}),
        fixed,
    )
    arms = [baseline, choice, *found.values()]
    against: dict[str, Against] = {baseline.arm.name: dict.fromkeys(sites), choice.arm.name: {**differences}}
    for name, shown in found.items():
        against[name] = {
            site: evidence.difference(shown, baseline, site, decision.capacity) for site in sites
        }
    return {
        "question": to_dict(decision.question),
        "data": to_dict(decision.data),
        "found": to_dict(decision.found),
        "capacity": decision.capacity,
        "years": decision.years,
        "worthwhile": decision.worthwhile,
        "draws": decision.draws,
        "resamples": evidence.RESAMPLES,
        "baseline": decision.baseline.name,
        "choice": decision.choice.name,
        "seeds": min(d.seeds for d in differences.values()),
        "same_patients": all(d.same_patients for d in differences.values()),
        "regions": {
            region.site: {
                "label": to_dict(region.label) if region.label else {"en": region.site, "sv": region.site},
                **_tested(choice, region.site),
                "patients": region.patients.base,
                "flagged": region.patients.base * decision.capacity,
                "difference": _difference(differences[region.site]),
                **_worth(worth[region.site], drawn[region.site], decision.worthwhile),
            }
            for region in decision.regions
        },
        "total": _worth(
            model.together(worth), model.together(drawn), decision.worthwhile * len(decision.regions)
        ),
        "training": training,
        "arms": {shown.arm.name: _arm(shown, against[shown.arm.name], decision.capacity) for shown in arms},
        "absent": [_named(arm) for arm in decision.others if arm.name not in found],
        "tornado": [_bar(bar) for bar in bars],
        "assumptions": {name: to_dict(told) for name, told in ranges.items()},
        "not_tested": [to_dict(text) for text in decision.not_tested],
    }


def _needed(choice: Shown, baseline: Shown, site: str, decision: Decision, again: str) -> evidence.Difference:
    found = evidence.difference(choice, baseline, site, decision.capacity)
    require(
        found,
        f"{choice.arm.name} and {baseline.arm.name} tested no common patients of {site} with one seed; "
        f"run: {again}",
    )
    assert found is not None
    return found


def _ranges(decision: Decision) -> dict[str, Range]:
    """Every assumption by the name that `model.worth` has for it."""
    found = {name: getattr(decision.assumptions, name) for name in NAMES}
    return found | {model.patients_of(region.site): region.patients for region in decision.regions}


def _bounds(alone: dict[str, float]) -> dict[str, tuple[float, float]]:
    """What each number can be. alone: the share that the baseline rightly flags at each region, with which a
    difference adds up to a share."""
    of_sites = {model.patients_of(site): (0.0, MOST) for site in alone}
    return (
        BOUNDS
        | of_sites
        | {model.difference_of(site): (-share, 1.0 - share) for site, share in alone.items()}
    )


def _training(choice: Shown, regions: int) -> dict[str, float]:
    """Of one run of the choice, with all its folds, the mean over seeds."""
    up, down = (evidence.mean_of(choice, ["spent", key]) for key in ("bytes_up", "bytes_down"))
    return {
        "seconds": evidence.mean_of(choice, ["seconds"]),
        "gigabytes": (up + down) / BYTES_PER_GIGABYTE / regions,
        "gigabytes_up": up / BYTES_PER_GIGABYTE / regions,
    }


def _tested(choice: Shown, site: str) -> dict[str, float]:
    """Patients and events of one seed's test, the mean over seeds."""
    each = list(choice.tested[site].values())
    events = math.fsum(float(t.label.sum()) for t in each) / len(each)
    tested = math.fsum(t.row.size for t in each) / len(each)
    few = min(events, tested - events) < FEW_EVENTS
    return {"tested": tested, "events": events, "few_events": few}


def _difference(found: Difference) -> dict[str, Any]:
    low, high = model.ends(found.draws)
    return {
        "seeds": found.seeds,
        "value": found.value,
        "baseline": found.baseline,
        "base": found.mean,
        "low": low,
        "high": high,
    }


def _amount(base: Any, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = model.ends(drawn)
    return {"base": float(base), "low": low, "high": high}


def _worth(base: Worth, drawn: Worth, worthwhile: float) -> dict[str, Any]:
    """Each amount with its interval; what the intervals say."""
    names = ("found", "avoided", "value", "staff", "compute", "traffic", "cost", "net")
    made: dict[str, Any] = {name: _amount(getattr(base, name), getattr(drawn, name)) for name in names}
    avoided, net = made["avoided"], made["net"]
    return made | {
        "gain": model.verdict(avoided["low"], avoided["high"], worthwhile),
        "pays": model.verdict(net["low"], net["high"]),
        "share_gain": float(np.mean(drawn.avoided > worthwhile)),
        "share_pays": float(np.mean(drawn.net > 0)),
    }


def _bar(bar: model.Bar) -> dict[str, Any]:
    names = ("name", "low", "base", "high", "at_low", "at_high", "turns", "decides")
    return {name: getattr(bar, name) for name in names}


# --- arms ------------------------------------------------------------------------------------


def _named(arm: Arm) -> dict[str, Any]:
    return {"name": arm.name, "label": to_dict(arm.label)}


def _arm(shown: Shown, against: Against, capacity: float) -> dict[str, Any]:
    return {
        "label": to_dict(shown.arm.label),
        "runs": {str(seed): run.id for seed, run in shown.runs.items()},
        "pooled": all(plain(run.config.get("algorithm")) == "pooled" for run in shown.runs.values()),
        "regions": {
            site: _difference(d) if d else {"value": _value(shown, site, capacity)}
            for site, d in against.items()
        },
        "privacy": _privacy(shown),
    }


def _value(shown: Shown, site: str, capacity: float) -> float:
    each = shown.tested[site].values()
    return math.fsum(evidence.ppv(tested, capacity) for tested in each) / len(each)


def _privacy(shown: Shown) -> dict[str, Any]:
    """What the run that pays most promises, and what was tried against the runs."""
    said: list[Mapping[str, Any]] = [run.manifest.get("privacy") or {} for run in shown.runs.values()]
    epsilons = [s.get("epsilon") for s in said]
    # A mean over a bound and no bound would be one: a single run without epsilon leaves none.
    bounded = all(e is not None for e in epsilons)
    worst = max(said, key=lambda s: float(s.get("epsilon") or 0.0)) if bounded else said[0]
    epsilon, delta = (float(worst[k]) if bounded else None for k in ("epsilon", "delta"))
    keys = ("mechanism", "unit", "covered", "uncovered", "notes", "reason")
    return {
        **{key: worst.get(key) for key in keys},
        "epsilon": epsilon,
        "delta": delta,
        "guess": None if epsilon is None or delta is None else guess(epsilon, delta),
        "epsilon_of_all_models": worst.get("epsilon_of_all_models"),
        "attacks": sorted({str(a["name"]) for run in shown.runs.values() if (a := _attack(run.manifest))}),
    }


def _attack(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    tried = manifest.get("audit")
    if not isinstance(tried, Mapping):
        return None
    cfg = (manifest.get("experiment") or {}).get("audit") or {}
    return {"name": cfg.get("name", "audit")}


def guess(epsilon: float, delta: float) -> float:
    """How often an attacker can be right at most on whether a unit was there, if before it was a coin.

    (exp(epsilon) + delta) / (1 + exp(epsilon)): Kairouz, Oh, Viswanath, "The Composition Theorem for
    Differential Privacy", ICML 2015, Theorem 2.1, for the smallest sum of false positives and negatives.
    """
    return 1.0 - (1.0 - delta) / (1.0 + math.exp(min(epsilon, 700.0)))
