# mypy: disable-error-code="attr-defined"
"""Every algorithm against a slow loop written from its paper, and every number against being ignored."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from fedsim import config
from fedsim.algorithms import ALGORITHMS
from fedsim.base import build, numbers, to_dict
from tests.golden import reference
from tests.golden.families import METHODS, OTHER, UNUSED, VARIANTS
from tests.simulate import small


def changed(e: config.Experiment, path: str, value: float) -> config.Experiment:
    """`e` with the option at `path` changed."""
    group, field = path.split(".")
    values = to_dict(e)
    values[group][field] = value
    return build(config.Experiment, values)


def of_lanes(experiments: list[config.Experiment]) -> list[tuple[reference.Result, reference.Result]]:
    """(what the engine came to, what the loops came to) of each."""
    columns = small.federation().columns
    assert columns is not None
    lanes = [small.lane(e) for e in experiments]
    en = small.engine(lanes)
    first = [small.weights(model) for model, _ in en.models(en.init())]
    trained = small.train(lanes)
    found = []
    for i, (lane, schedule) in enumerate(zip(lanes, en.schedules, strict=True)):
        server = small.weights(trained.models[i][0])
        personal = {k: small.weights(model) for k, model in small.own(trained, i).items()}
        found.append(
            (
                reference.Result(server, personal),
                reference.run(
                    METHODS[lane.experiment.algorithm.name], lane, columns, first[i], schedule.clock
                ),
            )
        )
    return found


def distance(a: reference.Result, b: reference.Result) -> float:
    """Largest difference of two results, relative to the largest number."""
    assert a.personal.keys() == b.personal.keys()
    pairs = [(a.server, b.server), *((a.personal[k], b.personal[k]) for k in a.personal)]
    return max(float(np.max(np.abs(x - y)) / max(1.0, np.max(np.abs(y)))) for x, y in pairs)


@cache
def every_number(algorithm: str) -> dict[str, tuple[reference.Result, reference.Result]]:
    """Results with the default numbers (under ""), another seed, and every number changed in turn."""
    e = small.experiment(algorithm=algorithm)
    missing = [path for path in numbers(e) if path not in OTHER]
    assert not missing, f"name another value for {missing} in OTHER"
    if "algorithm.v0" in numbers(e):  # a second moment that starts at 0 hides what beta2 and tau do
        e = changed(e, "algorithm.v0", 0.01)
    cases = {"": e, "seed": replace(e, seed=11)}
    cases |= {path: changed(e, path, OTHER[path]) for path in numbers(e)}
    return dict(zip(cases, of_lanes(list(cases.values())), strict=True))


def test_every_algorithm_has_a_slow_loop() -> None:
    assert METHODS.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_three_rounds_agree_with_the_loop(algorithm: str) -> None:
    for case, (mine, theirs) in every_number(algorithm).items():
        assert distance(mine, theirs) < 1e-5, case


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_number_counts(algorithm: str) -> None:
    results = every_number(algorithm)
    for case, (mine, _) in results.items():
        unused = (algorithm, case) in UNUSED
        far = distance(mine, results[""][0]) > 1e-3
        assert case == "" or far != unused, f"{case} {'moves' if unused else 'does not move'} {algorithm}"


def algorithm_of(variant: str) -> str:
    chosen = VARIANTS[variant].get("algorithm", "fedavg")
    return chosen if isinstance(chosen, str) else chosen["name"]


@pytest.mark.parametrize(
    ("algorithm", "variant"), [(algorithm_of(v), v) for v in sorted(VARIANTS)], ids=sorted(VARIANTS)
)
def test_structure_agrees_with_the_loop(algorithm: str, variant: str) -> None:
    e = small.experiment(**VARIANTS[variant])
    ((mine, theirs), (other, _)) = of_lanes([e, replace(e, seed=e.seed + 1)])
    assert distance(mine, theirs) < 1e-5
    assert distance(mine, other) > 1e-3


def test_rivals_share_first_weights_cohorts_and_shuffles() -> None:
    """With no local momentum, pull or correction at work, the first round is the same in all of them."""
    rivals: list[Any] = [
        "fedavg",
        {"name": "fedavgm", "momentum": 0.5},
        {"name": "fedprox", "mu": 0.0},
        "scaffold",
        {"name": "fedadam", "beta1": 0.0, "tau": 1e6, "server_step_size": 1e6},
    ]
    lanes = [small.lane(small.experiment(algorithm=a), rounds=1) for a in rivals]
    after = [small.weights(small.train([lane]).models[0][0]) for lane in lanes]
    en = small.engine(lanes[:1])
    assert (
        distance(
            reference.Result(after[0], {}), reference.Result(small.weights(en.models(en.init())[0][0]), {})
        )
        > 0.01
    )
    for model in after[1:]:
        np.testing.assert_allclose(model, after[0], rtol=1e-5, atol=2e-6)
