from dataclasses import dataclass
from typing import Any

import pytest

from fedsim import base, config
from fedsim.base import RequestError
from fedsim.cli.compose import compose, members, parse


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("rounds=5", "rounds", (5,)),
        ("optimizer.step_size=1e-3", "optimizer.step_size", (0.001,)),
        ("evaluate.predictions=null", "evaluate.predictions", (None,)),
        ("split.leave_one_out=true", "split.leave_one_out", (True,)),
        ("task.hidden=[64,32]", "task.hidden", ([64, 32],)),
        ("tune.grid={optimizer.step_size:[0.1,1]}", "tune.grid", ({"optimizer.step_size": [0.1, 1]},)),
        ("optimizer.chain=[{name:trace,decay:0.9}]", "optimizer.chain", ([{"name": "trace", "decay": 0.9}],)),
        ("data.path='a,b=c.csv'", "data.path", ("a,b=c.csv",)),
        ("data.path=/data/a b.csv", "data.path", ("/data/a b.csv",)),
        ("+rounds=5", "rounds", (5,)),
        # Hydra's own grammar refuses these letters.
        ("data.external=Örebro", "data.external", ("Örebro",)),
        ("data.external=[Örebro län,Jönköping]", "data.external", (["Örebro län", "Jönköping"],)),
        ("data.label='död, 30 dagar'", "data.label", ("död, 30 dagar",)),
    ],
)
def test_one_value_keeps_its_type(text, path, values):
    given = parse(text)
    assert (given.path, given.values, given.swept) == (path, values, False)
    assert type(given.value) is type(values[0])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("algorithm=fedavg,scaffold", ("fedavg", "scaffold")),
        ("seed=range(0,3)", (0, 1, 2)),
        ("seed=choice(4,7)", (4, 7)),
        ("optimizer.step_size=0.1,1e-3", (0.1, 0.001)),
        ("task.hidden=[64],[64,64]", ([64], [64, 64])),
        ("data.external=Örebro,'Halland'", ("Örebro", "Halland")),
        ("seed=choice(4)", (4,)),
    ],
)
def test_several_values_are_a_sweep(text, values):
    given = parse(text)
    assert (given.values, given.swept) == (values, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rounds", "is not an override; write option=value"),
        ("=3", "has no name before ="),
        ("data.path=a=b.csv", "\"data.path='a=b.csv'\""),
        ("task.hidden=[1,2", "cannot be read"),
        ("~seed", "removes an option"),
        ("split@x=iid", "write split=..."),
        ("seed=interval(0,1)", "endlessly many values"),
        ("seed=shuffle(range(0,3))", "random order"),
        ("seed=${rounds}", "refers to another option"),
        ("seed=${seed}", "refers to another option"),
        ("data=${seed}", "refers to another option"),
        ("data.seed=${seed},1", "which only ${seed} can, as in data.seed=${seed}"),
        ("data.path=cohort-${seed}.csv", "refers to another option"),
    ],
)
def test_what_cannot_be_read_is_said(text, message):
    with pytest.raises(RequestError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_options_without_a_default_are_absent():
    values = compose(["data=table"])["data"]
    assert "path" not in values and values["delimiter"] == ","


def test_further_members_are_what_each_is_alone():
    more = ["algorithm=fedprox", "split=iid", "data=table", "algorithm=scaffold"]
    found = compose(["algorithm=fedavg"], more)
    assert found == compose(["algorithm=fedavg"]) | {
        pick: compose([pick])[pick.partition("=")[0]] for pick in more
    }
    with pytest.raises(RequestError, match="unknown split 'iidx'"):
        compose([], ["split=iidx"])


@pytest.mark.parametrize("group", sorted(config.MEMBERS))
def test_an_unknown_member_comes_with_the_allowed_ones(group):
    known = members(group)
    with pytest.raises(RequestError) as caught:
        compose([f"{group}={known[0]}x"])
    assert ", ".join(known) in str(caught.value) and f"did you mean {known[0]!r}" in str(caught.value)


def test_a_registered_dataclass_needs_no_file(groups):
    @dataclass(frozen=True, kw_only=True)
    class Mine(config.AlgorithmConfig):
        strength: float = base.number(0.5)
        chain: tuple[dict[str, Any], ...] = ({"name": "trace"},)
        level: int

    base.register("algorithm", "mine", Mine)
    values = compose(["algorithm=mine"])["algorithm"]
    assert values == {"name": "mine", "weighting": "examples", "strength": 0.5, "chain": [{"name": "trace"}]}
    built = base.build_choice("algorithm", values | {"level": 3}, "algorithm")
    assert built == Mine(level=3)
