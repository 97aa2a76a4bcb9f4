"""Sites, their rows, and how many bytes leave each. What is sent is made by pure functions of one site."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedsim.base import nearest, require
from fedsim.data.federation import Federation

Message = dict[str, np.ndarray]  # all that a site sends in one round


@dataclass(frozen=True, eq=False)
class Site:
    """What one client holds, and nobody else sees.

    x: [n, features], NaN where missing; y: [n], class, event or number; time: [n] in survival; patient: [n],
    whose each row is, where that is known.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    time: np.ndarray | None
    patient: np.ndarray | None
    features: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.y)

    def values(self, name: str) -> np.ndarray:
        """A variable's column: float64[n], NaN where missing. `time` and `label` are features where some are
        called so, and else what they say."""
        if name in self.features:
            column = self.x[:, self.features.index(name)]
        else:
            column = self.y if name == "label" or self.time is None else self.time
        wide: np.ndarray = column.astype(np.float64)
        return wide


@dataclass(eq=False)
class Post:
    """Collects messages, and counts what they weigh. sent: site -> bytes; rounds: exchanges."""

    sent: dict[str, int] = field(default_factory=dict)
    rounds: int = 0

    def collect(self, sites: Iterable[Site], send: Callable[[Site], Message]) -> list[Message]:
        """One message of each site, in their order."""
        found = []
        for site in sites:
            message = send(site)
            self.sent[site.name] = self.sent.get(site.name, 0) + sum(a.nbytes for a in message.values())
            found.append(message)
        self.rounds += 1
        return found


def sites_of(federation: Federation, chosen: Sequence[str] = ()) -> list[Site]:
    """The sites that take part, in name order.

    Raises:
      RequestError: rows are generated or weighted, or a name that no site has.
    """
    source = federation.source
    require(
        federation.columns is not None and federation.generate is None,
        f"{source}: rows are made while training, so there is nothing to estimate; use stored data, such as "
        "data=table",
    )
    assert federation.columns is not None
    columns = federation.columns
    require(
        "weight" not in columns,
        f"{source}: these statistics count rows, and data.weight makes some of them count for more; leave "
        "data.weight out, and the column out of the features with data.drop",
    )
    names = list(federation.names)
    for name in chosen:
        require(name in names, f"sites: no client {name!r}; {nearest(name, names)}")
    found = []
    for k, name in enumerate(names):
        if chosen and name not in chosen:
            continue
        rows = slice(int(federation.offsets[k]), int(federation.offsets[k + 1]))
        time, patient = columns.get("time"), columns.get("patient")
        found.append(
            Site(
                name,
                columns["x"][rows],
                columns["y"][rows],
                None if time is None else time[rows],
                None if patient is None else patient[rows],
                federation.features,
            )
        )
    return found


def check_times(sites: Sequence[Site], source: str) -> None:
    require(
        all(site.time is not None for site in sites),
        f"{source}: no times to an event, and a survival curve is made of them; set data.time=COLUMN, or use "
        "other data",
    )


def check_variable(sites: Sequence[Site], name: str, option: str) -> None:
    known = [*sites[0].features, *(["time"] if sites[0].time is not None else [])]
    require(name in known, f"{option}: no feature {name!r}; {nearest(name, known)}")
