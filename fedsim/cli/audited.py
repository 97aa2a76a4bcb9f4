"""What an audit found, in words that claim no more than was tested."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedsim.cli.output import show


def lines(manifest: dict[str, Any]) -> Iterator[str]:
    """Of a run's manifest; none where nothing was tried."""
    found = manifest.get("audit")
    if not found:
        return
    if "settings" in found:
        yield from _inversion(found)
    elif "attacks" in found:
        yield from _membership(found)
    elif found.get("epsilon_bound") is None:
        yield f"audit={found['name']}: nothing can be said, {found['reason']}"
    else:
        yield from _canaries(found, manifest.get("privacy") or {})
    yield f"  tested: {found['tested']}"


def _canaries(found: dict[str, Any], privacy: dict[str, Any]) -> Iterator[str]:
    many, sure = f"{found['canaries']} canaries", f"{100 * found['confidence']:g} % confidence"
    yield (
        f"audit={found['name']}: epsilon >= {show(found['epsilon_bound'])} at delta {found['delta']:g}, with "
        f"{sure}; {many} cannot show more than {show(found['epsilon_bound_highest'])} this way"
    )
    yield (
        f"  if scores are Gaussian: epsilon >= {show(found['epsilon_bound_gaussian'])} with {sure}, "
        f"estimated {show(found['epsilon_estimate_gaussian'])}"
    )
    accounted = found.get("accounted_epsilon")
    if accounted is None:
        yield f"  accounted: {privacy.get('reason', 'not accounted')}"
    else:
        at = f"at delta {found['accounted_delta']:g} for each {privacy['unit']}"
        yield f"  accounted: epsilon <= {show(accounted)} {at}"
        if found["contradicts"] is None:
            yield "  not compared: the account is of something else, or at a larger delta than audit.delta"
    if found.get("contradicts"):
        yield "  the audit contradicts the account: mechanism or accounting is wrong"


def _membership(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"audit={found['name']}: {found['members']} training rows against {found['non_members']} others, "
        f"{found['shadows']} shadow models"
    )
    for attack, rates in found["attacks"].items():
        parts = [f"AUC {show(rates['auc'])}"]
        for false in (name for name in rates if name.startswith("tpr_at_")):
            at = rates[false]
            low, high = at["interval"]
            parts.append(
                f"TPR {show(at['tpr'])} [{show(low)}, {show(high)}] at {100 * float(false[7:]):g} % FPR "
                f"({at['false_positives']} of {at['non_members']})"
            )
        yield f"  {attack}: {'; '.join(parts)}"
    attack, worst = max(
        ((name, group) for name, rates in found["attacks"].items() for group in rates["groups"]),
        key=lambda pair: pair[1]["interval"][0],
    )
    low, high = worst["interval"]
    yield (
        f"  most exposed: {worst['by']} {worst['group']}, TPR {show(worst['tpr'])} "
        f"[{show(low)}, {show(high)}] by {attack}, of {worst['members']} training rows"
    )


def _inversion(found: dict[str, Any]) -> Iterator[str]:
    yield f"audit={found['name']}: rows reconstructed whole, and values that are right"
    for at in found["settings"]:
        whole = ", ".join(
            f"{name} {100 * of['rows']:.3g} and {100 * of['values']:.3g} %"
            for name, of in at["attacks"].items()
        )
        seen = f"the sum of {at['clients']} clients" if at["clients"] > 1 else "one client"
        rows = f"{at['batch_size']} row" + "s" * (at["batch_size"] > 1)
        yield f"  {seen}, {rows} each, noise {at['noise']:g}: {whole}"
