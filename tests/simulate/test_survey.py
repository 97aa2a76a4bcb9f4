"""Rounds of two exchanges: in every way that a round is run, what they cost, and what knows of one only."""

from typing import Any

import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.simulate import build, widths
from tests.golden import reference
from tests.golden.families import METHODS
from tests.simulate import small

MIME: dict[str, Any] = {"algorithm": {"name": "mime", "momentum": 0.5}, "numerics": {"block": 2, "group": 2}}


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How rounds are run, whatever their arithmetic; small ones are held by tests/golden."""
    tuning = {
        "over devices": widths._TUNING["cpu"]._replace(spread_flops=0.0),
        "in tickets": widths._TUNING["cpu"]._replace(round_flops=0.0, ticket_flops=1.0),
    }
    monkeypatch.setitem(widths._TUNING, "cpu", tuning[request.param])
    monkeypatch.setattr(build, "_KNOWN", {})
    return str(request.param)


@pytest.mark.long
@pytest.mark.parametrize("way", ["over devices", "in tickets"], indirect=True)
def test_other_ways_agree_with_the_loop(way: str) -> None:
    lane = small.lane(small.experiment(**MIME, world="all"))
    trained = small.train([lane])
    w = trained.engine.widths
    assert (w.exchanges, w.shared, w.devices > 1) == (2, way == "in tickets", way == "over devices")
    columns = small.federation().columns
    assert columns is not None
    (first,) = small.by_lane(trained.engine, trained.engine.fetch(trained.engine.init()))
    loop = reference.run(METHODS["mime"], lane, columns, small.weights(first.server.model))
    found = small.weights(trained.models[0][0])
    np.testing.assert_allclose(found, loop.server, rtol=2e-4, atol=2e-5)
    if way == "in tickets":
        assert w.tickets > 1
        two = small.train([lane], devices=2)
        small.assert_same_bits((two.states, two.scores()), (trained.states, trained.scores()))
        assert trained.engine.probe()[0] > 0


def test_both_exchanges_are_counted() -> None:
    traits = small.engine([small.lane(small.experiment(**MIME))]).traits
    model = 4 * traits.parameters
    # Down: model and momentum, then the mean gradient; up: a gradient, then a change of the model.
    assert (traits.down_bytes, traits.up_bytes) == (3 * model, 2 * model)
    assert traits.survey_bytes == (2 * model, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channel": {"name": "qsgd"}}, r"channel=qsgd is about one; set channel=direct"),
        (
            {"privacy": {"name": "gaussian"}, "algorithm": {"name": "mime", "weighting": "uniform"}},
            r"privacy=gaussian is about one; set privacy=none",
        ),
        ({"aggregator": {"name": "median"}}, r"aggregator=median is about one"),
        ({"attack": {"name": "sign_flip", "share": 0.2}}, r"attack=sign_flip changes the message of one"),
        (
            {"world": {"name": "uniform", "cohort": 3, "staleness": 1}},
            r"the same clients.*world\.staleness=0",
        ),
        (
            {"world": {"name": "asynchronous", "concurrency": 3, "buffer": 2}, "system": "lognormal"},
            r"the same clients.*another world",
        ),
        ({"system": {"name": "lognormal", "deadline": 9.0}}, r"system\.deadline=null"),
    ],
)
def test_what_knows_of_one_exchange_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        small.engine([small.lane(small.experiment(**(MIME | changes)))])
