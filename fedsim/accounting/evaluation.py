"""What evaluating costs: at every evaluation a region releases noised counts of the rows that judge.

A row that judges a model does not train it, so in one model a record pays for one of the two (parallel
composition, McSherry 2009): the account of a region is the larger. A patient may have rows in both, and in
validation and test rows, and pays for all.
"""

from __future__ import annotations

from dataclasses import replace

from fedsim.accounting.events import Composition, Gaussian
from fedsim.accounting.releases import Clients, Released
from fedsim.config import Experiment, RecordPrivacy

COVERED = "counts of scores by label of rows that judge, with noise, of which released_* metrics are made"


def evaluations(experiment: Experiment, rounds: int) -> int:
    """How many times a model that is trained for `rounds` rounds is judged; one that tuning ends earlier is
    judged as often as the others."""
    every, end = experiment.evaluate.every, experiment.rounds if experiment.tune.grid else rounds
    return 1 + len(range(every, end, every)) if every else 1


def composition(experiment: Experiment, rounds: int, sets: int = 1) -> Composition:
    """What is released of a row, or of one with `sets` rows in as many sets; [] where nothing is noised."""
    noise = experiment.evaluate.noise_multiplier
    if noise is None:
        return []
    return [(Gaussian(noise_multiplier=noise), sets * evaluations(experiment, rounds))]


def added(released: Released, experiment: Experiment, clients: Clients, rounds: int) -> Released:
    """`released` with the counts of rows that judge: apart for records, on top for patients."""
    noise, privacy = experiment.evaluate.noise_multiplier, experiment.privacy
    if noise is None:
        return released
    assert isinstance(privacy, RecordPrivacy)
    units = {name: max(n, released.units.get(name, 0)) for name, n, _ in clients.judged}
    sets = {name: s if privacy.unit == "patient" else 1 for name, _, s in clients.judged}
    own = {name: composition(experiment, rounds, s) for name, s in sets.items()}
    apart = privacy.unit == "record"
    on_top = {name: [*events, *own.get(name, ())] for name, events in released.events.items()}
    return replace(
        released,
        events=released.events if apart else on_top,
        judged={name: events for name, events in own.items() if apart or name not in on_top},
        units={**released.units, **units},
        covers=(*released.covers, COVERED),
        notes=(
            *released.notes,
            f"counts of rows that judge: each region adds Gaussian noise of {noise:g} x the most that one "
            f"{privacy.unit} adds; how many rows judge, and the split, are public",
            "the metrics without released_ in their names are exact: the simulation knows them, epsilon is "
            "not of them",
        ),
    )
