"""All patients of an experiment, region by region and chunk by chunk, on the host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fedsim.base import nearest, require, to_dict
from fedsim.cohort import regions
from fedsim.cohort.course import course, fate
from fedsim.cohort.draws import draws, name_words
from fedsim.cohort.patients import Setting, patients
from fedsim.cohort.records import EPOCH
from fedsim.cohort.regions import Region
from fedsim.config import HeartFailure

CHUNK = 16_384  # patients made at a time: a few hundred arrays of this length exist at once, about 25 MB


@dataclass(frozen=True)
class Cohort:
    """The patients that `cfg` describes: each a function of (seed, region's name, index, dials).

    Raises:
      RequestError: an unknown region, or one both inside and outside.
    """

    cfg: HeartFailure

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """All regions, the external ones too, in name order."""
        inside = regions.chosen(self.cfg.regions)
        outside = (self.cfg.external,) if isinstance(self.cfg.external, str) else self.cfg.external
        for name in outside:
            require(
                name in regions.KNOWN,
                f"data.external names no region {name!r}; {nearest(name, regions.KNOWN)}",
            )
            require(
                name not in [r.name for r in inside],
                f"data.external={name} is in data.regions, too; leave it out of one of them",
            )
        added = tuple(regions.KNOWN[name] for name in dict.fromkeys(outside))
        return tuple(sorted((*inside, *added), key=lambda region: region.name))

    @cached_property
    def external(self) -> frozenset[int]:
        """Positions of the regions outside training."""
        known = {r.name for r in regions.chosen(self.cfg.regions)}
        return frozenset(k for k, region in enumerate(self.regions) if region.name not in known)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Patients of each region. External ones come on top, in proportion to their people."""
        inside = [r for k, r in enumerate(self.regions) if k not in self.external]
        dial = self.cfg.dials.size
        found = dict(
            zip([r.name for r in inside], regions.sizes(inside, self.cfg.patients, dial), strict=True)
        )
        mean = sum(found.values()) / len(inside)
        people = sum(r.population for r in inside) / len(inside)
        for k in self.external:
            ratio = (self.regions[k].population / people) ** dial
            found[self.regions[k].name] = max(1, round(mean * ratio))
        return tuple(found[region.name] for region in self.regions)

    def setting(self, k: int) -> Setting:
        """What fixes the patients of region `k`."""
        cfg = self.cfg
        first, after, last = (
            int((np.datetime64(f"{year}-01-01", "D") - EPOCH).astype(np.int64))
            for year in (cfg.first_year, cfg.last_year + 1, cfg.last_year + 3)
        )
        effect = regions.in_effect(self.regions[k], to_dict(cfg.dials))
        place = {way: np.float32(value) for way, value in effect.items()}
        return Setting(cfg.selection, place, first, after - first, last)

    def made(
        self, k: int, start: int, stop: int, admissions: bool = True
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """(`patients`, `course`) of patients start to stop of region `k`; without admissions, `fate`."""
        index = np.arange(start, stop, dtype=np.uint32)
        drawn = draws(np, self.cfg.seed, name_words(self.regions[k].name), index)
        who = patients(drawn, self.setting(k))
        return who, (course if admissions else fate)(drawn, self.setting(k), who)

    def chunks(self) -> Iterator[tuple[int, int, int]]:
        """(region, first patient, one past the last) of all pieces of at most `CHUNK` patients."""
        for k, size in enumerate(self.sizes):
            for start in range(0, size, CHUNK):
                yield k, start, min(start + CHUNK, size)
