from typing import Any

import pytest

from fedsim import plan
from fedsim.base import RequestError
from fedsim.plan import Exclude, Sweep, When, cells, excluded, override

GRID = {
    "seed": "range(0,3)",
    "algorithm": ["fedavg", {"prox": ["algorithm=fedprox", "algorithm.mu=0.5"]}],
    "split": {"natural": ["split=natural"], "skewed": ["split=dirichlet", "split.alpha=0.3"]},
}


def labels(found):
    return [tuple(cell.labels.values()) for cell in found]


def test_the_product_of_the_axes_with_seeds_last(compose, parse):
    found = cells(Sweep(grid=GRID), compose, parse)
    assert list(found[0].labels) == ["algorithm", "split", "seed"]
    assert labels(found) == [
        (a, s, seed) for a in ("fedavg", "prox") for s in ("natural", "skewed") for seed in (0, 1, 2)
    ]
    last: Any = found[-1].experiment
    assert (last.algorithm.name, last.algorithm.mu) == ("fedprox", 0.5)
    assert (last.split.name, last.split.alpha, last.seed) == ("dirichlet", 0.3, 2)


def test_composing_is_needed_once_for_all_members_and_never_for_values(compose, parse):
    found = cells(Sweep(base=("task.l2=0.1",), grid=GRID | {"rounds": [1, 2, 3]}), compose, parse)
    assert len(found) == 36
    first, more = ["split=natural", "algorithm=fedavg"], ["split=dirichlet", "algorithm=fedprox"]
    assert compose.calls == [(first, more)]


def test_a_member_beside_the_default_of_its_group(compose, parse):
    grid = {"axis": {"plain": [], "other": ["algorithm=fedprox"]}}
    found = [cell.experiment.algorithm.name for cell in cells(Sweep(grid=grid), compose, parse)]
    assert found == ["fedavg", "fedprox"]
    assert compose.calls == [([], ["algorithm=fedprox"])]


def test_cells_share_nothing_mutable(compose, parse):
    grid = {"seed": [0, 1], "tune.grid": {"one": ["tune.grid.optimizer.step_size=[0.1]"], "none": []}}
    found = cells(Sweep(grid=grid), compose, parse)
    assert [cell.experiment.tune.grid for cell in found] == [{"optimizer.step_size": [0.1]}] * 2 + [{}] * 2


def test_what_cells_have_in_common_is_built_once(compose, parse):
    found = [cell.experiment for cell in cells(Sweep(grid=GRID), compose, parse)]
    assert len({id(e.task) for e in found}) == len({id(e.optimizer) for e in found}) == 1
    assert len({id(e.algorithm) for e in found}) == len({id(e.split) for e in found}) == 2
    assert len({id(e.split) for e in found if e.split.name == "natural"}) == 1


def test_later_overrides_win(compose, parse):
    sweep = Sweep(
        base=("rounds=1", "task.l2=0.1"),
        grid={"algorithm": {"a": ["algorithm=fedavg", "rounds=2"], "b": ["algorithm=fedprox"]}},
        when=(When(match={"algorithm": "a"}, set=("rounds=3", "task.l2=0.2")),),
        last=("task.l2=0.3",),
    )
    found = cells(sweep, compose, parse)
    assert [(c.experiment.rounds, c.experiment.task.l2) for c in found] == [(3, 0.3), (1, 0.3)]


def test_values_keep_their_types(compose, parse):
    grid = {"optimizer.step_size": ["1e-3", 0.1], "split.leave_one_out": [True, False], "seed": "4,5"}
    found = cells(Sweep(grid=grid), compose, parse)
    assert {c.labels["optimizer.step_size"] for c in found} == {0.001, 0.1}
    assert found[0].experiment.split.leave_one_out is True
    assert [c.experiment.seed for c in found[:2]] == [4, 5]


def test_an_option_follows_the_seed_of_its_cell(compose, parse):
    made = ("data=synthetic", "data.seed=${seed}")
    found: Any = cells(Sweep(base=made, grid=GRID), compose, parse)
    assert len(found) == 12 and all(c.experiment.data.seed == c.experiment.seed for c in found)
    assert len({id(c.experiment.data) for c in found}) == 3  # methods with one seed have the same data
    assert len({id(c.experiment.task) for c in found}) == 1


def test_what_follows_the_seed_does_so_for_new_seeds_and_the_default_until_it_is_set(compose, parse):
    sweep = Sweep(base=("data=synthetic", "data.seed=${seed}"), grid={"seed": [0, 1]})
    for texts, expected in (
        (["seed=7,9"], [(7, 7), (9, 9)]),
        (["data.seed=3"], [(3, 0), (3, 1)]),
    ):
        found: Any = cells(override(sweep, texts, parse), compose, parse)
        assert [(c.experiment.data.seed, c.experiment.seed) for c in found] == expected
    alone: Any = cells(Sweep(base=(*sweep.base, "seed=5", "seed=6")), compose, parse)
    assert [(c.experiment.data.seed, c.experiment.seed) for c in alone] == [(6, 6)]
    default: Any = cells(Sweep(base=sweep.base), compose, parse)
    assert [c.experiment.data.seed for c in default] == [0]


def test_an_option_of_some_cells_follows_the_seed(compose, parse):
    sweep = Sweep(
        base=("data=synthetic",),
        grid={"patients": {"same": [], "new": ["data.seed=${seed}"]}, "seed": [1, 2]},
    )
    found: Any = cells(sweep, compose, parse)
    assert [c.experiment.data.seed for c in found] == [0, 0, 1, 2]


def test_excluded_cells_are_left_out_for_a_reason(compose, parse):
    rule = Exclude(match={"algorithm": "prox", "split": ["skewed"], "seed": [0, 2]}, reason="not today")
    sweep = Sweep(grid=GRID, exclude=(rule,))
    found = labels(cells(sweep, compose, parse))
    assert len(found) == 10 and ("prox", "skewed", 0) not in found and ("prox", "skewed", 1) in found
    assert excluded(sweep, parse) == [
        ({"algorithm": "prox", "split": "skewed", "seed": seed}, "not today") for seed in (0, 2)
    ]


def test_cells_are_left_out_where_a_file_is_missing(compose, parse, tmp_path):
    mine = tmp_path / "mine.csv"
    rule = Exclude(match={"split": "skewed"}, reason=f"no {mine.name}", missing=str(mine))
    sweep = Sweep(grid=GRID, exclude=(rule,))
    assert "skewed" not in {c.labels["split"] for c in cells(sweep, compose, parse)}
    assert {reason for _, reason in excluded(sweep, parse)} == {"no mine.csv"}
    mine.touch()
    assert "skewed" in {c.labels["split"] for c in cells(sweep, compose, parse)}
    assert excluded(sweep, parse) == []


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        (Sweep(name="s", grid=GRID | {"task.l3": [1]}), "s: algorithm=fedavg.*unknown option task.l3"),
        (Sweep(grid={"seed": "range(0,"}), "cannot be read"),
        (Sweep(grid={"seed": [1, 1]}), r"grid.seed has 1 2 times"),
        (Sweep(grid={"seed": []}), r"grid.seed has no values"),
        (Sweep(grid={"split": {"x": "split=iid"}}), "a label must be followed by a list"),
        (Sweep(base=("algorithm=[a,b]",)), "write algorithm=NAME"),
        (Sweep(base=("seed=1,2",)), "seed has several values here"),
        (Sweep(grid=GRID, exclude=(Exclude(match={"split": "skew"}, reason="r"),)), "did you mean 'skewed'"),
        (Sweep(grid=GRID, when=(When(match={"splits": "iid"}, set=()),)), "did you mean 'split'"),
        (Sweep(grid=GRID, exclude=(Exclude(match={}, reason="never"),)), r"no cell is left.*\(never\)"),
    ],
)
def test_what_is_wrong_is_named(sweep, message, compose, parse):
    with pytest.raises(RequestError, match=message):
        cells(sweep, compose, parse)


def test_an_override_of_an_axis_narrows_it(compose, parse):
    sweep = override(Sweep(grid=GRID), ["algorithm=prox", "seed=range(1,3)", "rounds=7"], parse)
    found: Any = cells(sweep, compose, parse)
    assert labels(found) == [("prox", s, seed) for s in ("natural", "skewed") for seed in (1, 2)]
    assert {(c.experiment.algorithm.mu, c.experiment.rounds) for c in found} == {(0.5, 7)}


def test_narrowing_to_a_new_value_and_to_a_label_outside_the_grammar(compose, parse):
    sweep = override(Sweep(grid=GRID), ["algorithm=scaffold", "seed=0"], parse)
    found: Any = cells(sweep, compose, parse)
    assert {c.experiment.algorithm.name for c in found} == {"scaffold"}
    named = Sweep(grid={"split": {"dirichlet(0.3)": ["split=dirichlet"], "iid": ["split=iid"]}})
    narrowed = Sweep(grid=named.grid, narrow=(("split", ["dirichlet(0.3)"]),))
    assert labels(cells(narrowed, compose, parse)) == [("dirichlet(0.3)",)]


def test_labels_are_those_of_the_whole_sweep_and_of_what_narrows_it(compose, parse):
    narrowed = Sweep(grid=GRID, narrow=(("seed", [0]),))
    whole = plan.labels(Sweep(grid=GRID), parse)
    assert plan.labels(narrowed, parse) == whole and len(whole["seed"]) > 1
    new = override(narrowed, ["algorithm=scaffold", "seed=77"], parse)
    assert plan.labels(new, parse) == whole | {
        "algorithm": [*whole["algorithm"], "scaffold"],
        "seed": [*whole["seed"], 77],
    }


def test_several_values_of_anything_else_are_a_new_axis(compose, parse):
    sweep = override(Sweep(), ["task.l2=0.1,0.2", "algorithm=fedavg,fedprox", "seed=5"], parse)
    found = cells(sweep, compose, parse)
    assert [c.labels for c in found] == [
        {"task.l2": l2, "algorithm": a} for l2 in (0.1, 0.2) for a in ("fedavg", "fedprox")
    ]
    assert {c.experiment.seed for c in found} == {5}
