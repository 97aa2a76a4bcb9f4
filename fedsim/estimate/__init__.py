"""Statistics of a federation without a model. Of each there is `send*`, a pure function from a site to all
that leaves it, and a pure function from the sites' messages to the answer. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedsim.base import build, nearest, require
from fedsim.config.estimate import MEMBERS, Asked, Noised, Quantiles, TableOne
from fedsim.data.federation import Federation
from fedsim.estimate.kaplan_meier import kaplan_meier
from fedsim.estimate.logrank import logrank
from fedsim.estimate.quantiles import quantiles
from fedsim.estimate.sites import check_times, sites_of
from fedsim.estimate.table_one import table_one

TIMED: dict[str, Callable[..., dict[str, Any]]] = {"kaplan_meier": kaplan_meier, "logrank": logrank}


def asked(what: str, options: Mapping[str, Any]) -> Asked:
    """The checked options of a statistic. Raises RequestError for what does not exist, and for noise
    where there is none."""
    require(what in MEMBERS, f"unknown statistic {what!r}; {nearest(what, MEMBERS)}")
    noisy = [name for name, member in MEMBERS.items() if issubclass(member, Noised)]
    require(
        what in noisy or "epsilon" not in options,
        f"{what} is not there with differential privacy, so epsilon={options.get('epsilon')} would protect "
        f"nothing in it; use minimum_count=K, or epsilon with {' or '.join(noisy)}",
    )
    found: Asked = build(MEMBERS[what], options)
    return found


def estimate(what: str, cfg: Asked, federation: Federation) -> dict[str, Any]:
    """The answer as plain data, ready for JSON: `what`, `source`, what the statistic says, the bytes that
    left each site, and with noise the statement of privacy.

    Raises:
      RequestError: data that do not have what is asked for, or too little of it.
    """
    sites = sites_of(federation, cfg.sites)
    found: dict[str, Any] = {"what": what, "source": federation.source}
    if what in TIMED:
        check_times(sites, federation.source)
        return found | TIMED[what](sites, cfg)
    require(
        federation.features,
        f"{federation.source}: its features have no names, as in pictures, so there is nothing to estimate",
    )
    if isinstance(cfg, Quantiles):
        return found | quantiles(sites, cfg)
    assert isinstance(cfg, TableOne)
    return found | table_one(sites, cfg, federation)
