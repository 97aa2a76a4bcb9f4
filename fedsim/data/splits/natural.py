"""Each row stays with the client it came from."""

from __future__ import annotations

from fedsim.base import require
from fedsim.config import Natural, Published, Temporal
from fedsim.data.federation import Federation
from fedsim.data.splits.assignment import Assignment


def natural(federation: Federation, cfg: Natural | Published | Temporal, seed: int) -> Assignment:
    """The clients of the source. Raises RequestError if `split.clients` asks for another number of those
    that train."""
    inside = federation.clients - len(federation.external)
    require(
        cfg.clients in (None, inside),
        f"split.clients={cfg.clients}, but split={cfg.name} keeps the {inside} clients of the data; "
        "leave split.clients out, or use split=iid",
    )
    return Assignment(client=None, names=federation.names, ids=federation.ids, external=federation.external)
