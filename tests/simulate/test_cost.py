"""What a round costs a client, counted from what each algorithm asks of its rows, against its paper."""

from typing import Any

import pytest

from fedsim.algorithms import ALGORITHMS
from fedsim.base import numbers
from fedsim.simulate.build import program_structure
from fedsim.simulate.cost import Work, work
from tests.simulate import small

# Passes forward of one example: a gradient is three. (of each that a local step visits, of each row once).
ONE_GRADIENT = Work(3, 0)
WORK: dict[str, Work] = {
    "agnostic": Work(3, 1),  # the loss of the server's model on all rows
    "apfl": Work(6, 0),  # of the shared model, and of the mixture
    "boosting": Work(0, 1),  # the trees there are
    "ditto": Work(6, 0),  # of both models
    "fedrep": Work(6, 0),  # of the head, then of the body
    "fedsam": Work(6, 0),  # at y, and where its gradient points
    "fedsgd": Work(0, 3),  # no step
    "ifca": Work(3, 2),  # the losses of two clusters' models
    "mime": Work(6, 0, 3),  # at y and at x, and the survey's
    "mimelite": Work(3, 3),  # all rows at x
    "moon": Work(5, 0),  # and two representations
    "newton": Work(0, 6),  # x x' of every row: a pass forward for each of six numbers
    "perfedavg": Work(6, 0),  # the step, and from where it leads
    "pfedme": Work(15, 0),  # five inner steps
    "qfedavg": Work(3, 1),
}
SAMPLED = "fedala"  # learns on a share of the rows


def of(algorithm: Any, **changes: Any) -> Work:
    lane = small.lane(small.experiment(algorithm=algorithm, **changes))
    s, _ = program_structure(lane, small.federation(), "cpu")
    return work(s)(numbers(lane.experiment))


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {SAMPLED}))
def test_questions_are_counted(algorithm: str) -> None:
    assert of(algorithm) == WORK.get(algorithm, ONE_GRADIENT)


def test_structure_and_numbers_are_followed() -> None:
    assert of({"name": "perfedavg", "order": "hessian_free"}) == Work(12, 0)
    assert of({"name": "fedrep", "personal": ["head/bias"], "head_passes": 3}) == Work(12, 0)
    assert of({"name": "pfedme", "inner_steps": 2}) == Work(6, 0)
    assert of({"name": "ifca", "clusters": 3}) == Work(3, 3)
    # A pass over a sample of the rows, each round until it has learnt once: here the first pass.
    for share in (0.25, 1.0):
        found = of({"name": SAMPLED, "share": share})
        assert found.step == 3 and found.once == pytest.approx(3 * share, rel=0.05)


def test_whole_clients_cost_what_batches_do() -> None:
    whole = {"batch_size": 0, "epochs": 3}
    assert of("mime", optimizer=whole) == WORK["mime"]
    assert of("moon", optimizer=whole) == WORK["moon"]
