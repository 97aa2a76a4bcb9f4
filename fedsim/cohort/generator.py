"""Patients of any region made in a compiled program, from integers alone: nothing is read or kept.

The words that are drawn are the same bits as on the host. What is computed from them in float32 is rounded as
the compiler likes, so numbers agree to about six digits, and a patient whose index lies within that of a
threshold may fall on its other side (tests/cohort/test_generator.py holds how many).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsim.cohort.course import course, fate
from fedsim.cohort.draws import draws, name_words
from fedsim.cohort.patients import Setting, patients
from fedsim.cohort.population import Cohort
from fedsim.cohort.table import WITHOUT_ADMISSIONS, columns


def generator(cohort: Cohort, xp: Any) -> Callable[[Any, Any], dict[str, Any]]:
    """(region, patient) -> x, y, known, as `table.columns`, time: days to death or censoring, and death: days
    to death, known or not.

    Args:
      cohort: whose regions are meant, in the order of `Cohort.regions`.
      xp: jax.numpy, or numpy.

    Returns:
      A function of region int32[n] and patient uint32[n], to be compiled or mapped at will.
    """
    settings = [cohort.setting(k) for k in range(len(cohort.regions))]
    words = [name_words(region.name) for region in cohort.regions]
    low, high = (xp.asarray(np.array(column, np.uint32)) for column in zip(*words, strict=True))
    places = {
        way: xp.asarray(np.array([setting.place[way] for setting in settings], np.float32))
        for way in settings[0].place
    }
    first, cfg = settings[0], cohort.cfg
    becomes = fate if cfg.outcome in WITHOUT_ADMISSIONS else course

    def rows(region: Any, patient: Any) -> dict[str, Any]:
        place = {way: values[region] for way, values in places.items()}
        setting = Setting(first.selection, place, first.first_day, first.days, first.last_day)
        drawn = draws(xp, cfg.seed, (low[region], high[region]), patient)
        who = patients(drawn, setting)
        then = becomes(drawn, setting, who)
        x, y, known = columns(cfg, who, then, xp)
        return {
            **{"x": x, "y": y, "known": known},
            **{key: then[day].astype(np.float32) for key, day in (("time", "end"), ("death", "death"))},
        }

    return rows
