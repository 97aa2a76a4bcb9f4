# mypy: disable-error-code="assignment, attr-defined, truthy-bool"
"""Every config dataclass, found by listing: defaults build, ranges are checked, refusals name the path."""

import dataclasses
import inspect
import math
import re
from typing import Any

import pytest

from fedsim import config
from fedsim.base import GROUPS, RequestError, build, numbers, structure, to_dict, with_numbers
from tests.members import MEMBERS, beside, needed

PLAIN = {
    "optimizer": config.OptimizerConfig,
    "numerics": config.Numerics,
    "tune": config.Tune,
    "evaluate": config.Evaluate,
}

# (group, member, option, values out of range); every `require` of config.py must be met by one of them.
WRONG: list[tuple[str, str, str, list[Any]]] = (
    [
        ("data", "digits", "clients", [0, 1798]),
        ("data", "digits", "preprocess", [{"noise_multiplier": 0.0}, {"noise_multiplier": math.inf}]),
        ("data", "heart_failure", "patients", [0, -5, 2_000_000_001]),
        ("data", "heart_failure", "first_year", [2004, 2023]),
        ("data", "heart_failure", "last_year", [2012, 2025]),
        ("data", "heart_failure", "dials", [{"age": -0.1}, {"size": 3.1}]),
        ("data", "synthetic", "alpha", [-1.0]),
        ("data", "synthetic", "beta", [-1.0]),
        ("data", "synthetic", "clients", [0]),
        ("data", "blobs", "clients", [0]),
        ("data", "blobs", "rows_min", [0, 101]),
        ("data", "blobs", "classes", [1]),
        ("data", "blobs", "skew", [-0.1]),
        ("data", "blobs", "shape", [[0], [3, -1]]),
        ("data", "blobs", "test_rows", [-1]),
        ("split", "natural", "valid", [-0.1, 1.0]),
        ("split", "natural", "test", [-0.1, 1.0]),
        ("split", "natural", "folds", [1, -2]),
        ("split", "natural", "clients", [0]),
        ("split", "dirichlet", "alpha", [0.0, math.inf]),
        ("split", "dirichlet", "min_rows", [-1]),
        ("split", "shards", "shards", [0]),
        ("split", "quantity", "alpha", [0.0]),
        ("split", "quantity", "exponent", [-1.0, math.inf]),
        ("split", "quantity", "min_rows", [-1]),
        ("split", "quantity", "law", ["listed"]),
        ("split", "quantity", "shares", [[1.0, 2.0]]),
        ("data", "diabetes_130", "min_rows", [0]),
        ("split", "feature_shift", "noise", [-1.0]),
        ("split", "iid", "late", [-0.1, 1.0]),
        ("split", "feature_shift", "scale", [-1.0, math.inf]),
        ("split", "dirichlet_client", "alpha", [0.0, math.inf]),
        ("split", "classes", "classes", [0]),
        ("split", "quantity_label", "exponent", [-1.0, math.inf]),
        ("split", "quantity_label", "size_alpha", [0.0, math.inf]),
        ("split", "quantity_label", "alpha", [0.0, math.inf]),
        ("split", "quantity_label", "min_rows", [-1]),
        ("split", "prevalence", "spread", [-0.1, math.inf]),
        ("split", "groups", "groups", [0]),
        ("split", "groups", "between", [0.0, math.inf]),
        ("split", "groups", "within", [0.0, math.inf]),
        ("split", "covariate", "feature", [-1]),
        ("split", "covariate", "mixing", [-0.1, 1.1]),
        ("split", "rotation", "angle", [-361.0, 361.0]),
        ("split", "rotation", "groups", [0]),
        ("split", "rotation", "planes", [0]),
        ("split", "rotation", "scale", [-1.0, math.inf]),
        ("split", "concept", "share", [-0.1, 1.1]),
        ("split", "concept", "effect", [-1.0, math.inf]),
        ("split", "missing", "rate", [-0.1, 1.0]),
        ("split", "missing", "slope", [math.inf]),
        ("split", "coding", "share", [-0.1, 1.1]),
        ("split", "coding", "columns", [-0.1, 1.1]),
        ("split", "coding", "factor", [0.0, math.inf]),
        ("split", "coding", "offset", [-1.0, math.inf]),
        ("task", "logistic", "l2", [-1.0, math.inf]),
        ("task", "gamma", "typical", [0.0, -1.0, math.inf]),
        ("task", "two_part", "typical", [0.0]),
        ("task", "mlp", "hidden", [[0]]),
        ("task", "trees", "trees", [0, 10_001]),
        ("task", "trees", "depth", [0, 9]),
        ("task", "trees", "bins", [1, 257]),
        ("task", "trees", "learning_rate", [0.0, 1.1]),
        ("task", "trees", "gamma", [-0.1, math.inf]),
        ("task", "trees", "min_child_weight", [0.0, math.inf]),
        ("task", "mlp", "dropout", [-0.1, 1.0]),
        ("task", "cnn", "channels", [[3], [0, 2]]),
        ("task", "cnn", "dropout", [[0.1], [0.1, 1.0]]),
        ("optimizer", "", "step_size", [-1.0, math.inf]),
        ("optimizer", "", "decay", [0.0, 1.5]),
        ("optimizer", "", "batch_size", [-1]),
        ("optimizer", "", "epochs", [0]),
        ("optimizer", "", "steps", [0]),
        ("optimizer", "", "chain", [[{"decay": 0.9}]]),
        ("algorithm", "fedavgm", "momentum", [-0.1, 1.0]),
        ("algorithm", "fedprox", "mu", [-1.0, math.inf]),
        ("algorithm", "scaffold", "option", [3]),
        ("algorithm", "ditto", "lam", [-0.1, math.inf]),
        ("algorithm", "mrmtl", "lam", [-0.1, math.inf]),
        ("algorithm", "pfedme", "lam", [-0.1, math.inf]),
        ("algorithm", "pfedme", "eta", [-0.1, math.inf]),
        ("algorithm", "pfedme", "beta", [-0.1, math.inf]),
        ("algorithm", "pfedme", "inner_steps", [0]),
        ("algorithm", "apfl", "alpha", [-0.1, 1.1]),
        ("algorithm", "fedper", "personal", [[]]),
        ("algorithm", "fedrep", "personal", [[]]),
        ("algorithm", "fedrep", "head_passes", [0]),
        ("algorithm", "ifca", "clusters", [0]),
        ("algorithm", "finetune", "step_size", [-0.1, math.inf]),
        ("algorithm", "finetune", "epochs", [0]),
        ("algorithm", "finetune", "steps", [0]),
        ("algorithm", "perfedavg", "alpha", [-0.1, math.inf]),
        ("algorithm", "perfedavg", "delta", [0.0, math.inf]),
        ("algorithm", "perfedavg", "order", ["second"]),
        ("algorithm", "fedala", "eta", [-0.1, math.inf]),
        ("algorithm", "fedala", "share", [0.0, 1.1]),
        ("algorithm", "fedala", "tolerance", [-0.1, 1.0]),
        ("algorithm", "fedala", "passes", [0]),
        ("algorithm", "ifca", "spread", [0.0, math.inf]),
        ("algorithm", "fedadam", "beta1", [-0.1, 1.0]),
        ("algorithm", "fedadam", "beta2", [-0.1, 1.0]),
        ("algorithm", "fedadam", "tau", [0.0, math.inf]),
        ("algorithm", "fedadam", "v0", [-1.0]),
        ("algorithm", "feddyn", "alpha", [0.0, math.inf]),
        ("algorithm", "feddyn", "weighting", ["examples"]),
        ("algorithm", "fedexp", "epsilon", [0.0, math.inf]),
        ("algorithm", "qfedavg", "q", [-0.1, math.inf]),
        ("algorithm", "fedsam", "rho", [-0.1, math.inf]),
        ("algorithm", "mime", "momentum", [-0.1, 1.0]),
        ("algorithm", "boosting", "weighting", ["uniform"]),
        ("algorithm", "newton", "l1", [-0.1, math.inf]),
        ("algorithm", "newton", "tolerance", [0.0, 1.0]),
        ("algorithm", "newton", "weighting", ["uniform"]),
        ("algorithm", "mimelite", "momentum", [-0.1, 1.0]),
        ("algorithm", "agnostic", "weight_step_size", [-0.1, math.inf]),
        ("algorithm", "fedmgda", "epsilon", [-0.1, 1.1]),
        ("channel", "ef21", "keep", [0.0, 1.1]),
        ("channel", "topk", "keep", [0.0, 1.1]),
        ("channel", "randomk", "keep", [0.0, 1.1]),
        ("channel", "qsgd", "levels", [0, 2**24]),
        ("channel", "qsgd", "bucket", [-1]),
        ("channel", "powersgd", "rank", [0]),
        ("channel", "rotation", "levels", [1, 2**24]),
        ("privacy", "gaussian", "clip_norm", [0.0, math.inf]),
        ("privacy", "gaussian", "noise_multiplier", [-1.0, math.inf]),
        ("privacy", "record", "clip_norm", [0.0, math.inf]),
        ("privacy", "record", "noise_multiplier", [-1.0, math.inf]),
        ("privacy", "record", "microbatch", [-1]),
        ("privacy", "record", "rows_per_patient", [0, 2]),
        ("audit", "clients", "canaries", [9]),
        ("audit", "clients", "confidence", [0.0, 1.0]),
        ("audit", "clients", "delta", [-0.1, 1.0]),
        ("audit", "clients", "magnitude", [0.9, math.inf]),
        ("audit", "records", "labels", ["none"]),
        ("audit", "membership", "shadows", [3]),
        ("audit", "membership", "gamma", [0.0, math.inf]),
        ("audit", "membership", "confidence", [0.0, 1.0]),
        ("audit", "inversion", "batch_sizes", [[], [0]]),
        ("audit", "inversion", "clients", [[], [0]]),
        ("audit", "inversion", "noise", [[], [-0.1], [math.inf]]),
        ("audit", "inversion", "clip_norm", [0.0, math.inf]),
        ("audit", "inversion", "trials", [0]),
        ("audit", "inversion", "steps", [0]),
        ("audit", "inversion", "restarts", [0]),
        ("world", "all", "staleness", [-1]),
        ("world", "all", "dropout", [-0.1, 1.0]),
        ("world", "all", "stragglers", [-0.1, 1.1]),
        ("world", "all", "late", ["never"]),
        ("world", "by_size", "cohort", [0]),
        ("world", "cyclic", "order", ["random"]),
        ("world", "diurnal", "period", [0]),
        ("world", "diurnal", "share", [0.0, 1.1]),
        ("world", "markov", "leave", [-0.1, 1.1]),
        ("world", "markov", "come", [0.0, 1.1]),
        ("world", "uniform", "cohort", [0]),
        ("world", "poisson", "rate", [0.0, 1.1]),
        ("topology", "torus", "rows", [1]),
        ("topology", "regular", "degree", [2]),
        ("numerics", "", "threads", [0]),
        ("numerics", "", "block", [0]),
        ("numerics", "", "group", [0]),
        ("numerics", "", "dtype", ["float64", "float16"]),
        ("executor", "inline", "lanes", [0]),
        ("executor", "inline", "checkpoint_seconds", [-1.0]),
        ("executor", "ray", "workers", [0]),
        ("tune", "", "valid", [0.0, 1.0]),
        ("tune", "", "rounds", [[3, 2], [0]]),
        ("tune", "", "grid", [{"optimizer.step_size": []}, {"optimizer.step_size": 0.1}]),
        ("evaluate", "", "every", [-1]),
        ("evaluate", "", "noise_multiplier", [0.0, math.inf]),
        ("evaluate", "", "bins", [0, 7, 1002]),
        ("evaluate", "", "horizon", [0.0, math.inf]),
        ("evaluate", "", "thresholds", [[0.0], [0.1, 0.1]]),
        ("evaluate", "", "groups", [{"age": [2, 1]}]),
        ("evaluate", "", "fewest", [0]),
    ]
    + [
        ("algorithm", name, "server_step_size", [-0.1, math.inf])
        for name, cls in config.MEMBERS["algorithm"].items()
        if "server_step_size" in {f.name for f in dataclasses.fields(cls)}
    ]
    + [
        ("split", name, "severity", [-0.1, 1.1])
        for name, cls in config.MEMBERS["split"].items()
        if "severity" in {f.name for f in dataclasses.fields(cls)}
    ]
)


def experiment(**changes: Any) -> config.Experiment:
    values: dict[str, Any] = {
        "data": "digits",
        "split": "iid",
        "task": "logistic",
        "algorithm": "fedavg",
        "optimizer": {},
        "channel": "direct",
        "privacy": "none",
        "world": "all",
        "numerics": {},
        "executor": "inline",
        "rounds": 1,
        "seed": 0,
    }
    return config.experiment(values | changes)


def of(group: str, name: str, /, **values: Any) -> config.Experiment:
    """An experiment with a member of a group and these options of it."""
    if group in PLAIN:
        return experiment(**{group: values})
    return experiment(**beside(group, name), **{group: {"name": name} | needed(group, name) | values})


def test_groups_hold_what_the_members_say() -> None:
    assert {group: set(GROUPS[group]) for group in config.MEMBERS} == {
        group: set(members) for group, members in config.MEMBERS.items()
    }
    assert all(cls.name == name for members in GROUPS.values() for name, cls in members.items())


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_defaults_build_and_come_back(group: str, name: str) -> None:
    e = of(group, name)
    assert build(config.Experiment, to_dict(e)) == e
    assert type(getattr(e, group)) is config.MEMBERS[group][name]
    assert with_numbers(e, numbers(e)) == e
    assert structure(structure(e)) == structure(e)


def test_needed_options_are_refused_when_missing() -> None:
    for group, name in MEMBERS:
        values = needed(group, name)
        for option in values:
            rest = {k: v for k, v in values.items() if k != option}
            with pytest.raises(RequestError, match=rf"^{group}\.{option} is required"):
                experiment(**{group: {"name": name, **rest}})


@pytest.mark.parametrize(("group", "name", "option", "values"), WRONG)
def test_values_out_of_range_are_refused_by_path(
    group: str, name: str, option: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(RequestError) as caught:
            of(group, name, **{option: value})
        said = str(caught.value)
        assert f"{group}.{option}" in said, said
        leaf = next(iter(value.values()), value) if isinstance(value, dict) else value
        assert re.search(r"must|needs|required", said) and (
            str(leaf) in said or "name is required" in said
        ), said


def test_every_range_check_is_met() -> None:
    """Options named in a `require` of config.py, by their path."""
    source = inspect.getsource(config)
    groups = {*config.MEMBERS, *PLAIN}
    named = set(re.findall(rf"f?\"({'|'.join(sorted(groups))})\.([a-z_0-9]+)(?:\[|\.| must)", source))
    met = {(group, option) for group, _, option, _ in WRONG}
    assert named - met == set()


def test_what_excludes_each_other() -> None:
    with pytest.raises(RequestError, match=r"split\.valid \+ split\.test must be below 1, got 1\.1"):
        of("split", "natural", valid=0.6, test=0.5)
    with pytest.raises(RequestError, match=r"split\.folds and split\.leave_one_out exclude each other"):
        of("split", "natural", folds=5, leave_one_out=True)
    assert of("split", "natural", folds=5, valid=0.6, test=0.5)  # with folds, test has no meaning
    assert of("numerics", "", dtype="float64", x64=True)


@pytest.mark.parametrize(("option", "value"), [("rounds", 0), ("seed", -1), ("seed", 2**63)])
def test_the_experiment_itself(option: str, value: int) -> None:
    with pytest.raises(RequestError, match=rf"^{option} must be .* got {value}"):
        experiment(**{option: value})


def test_numbers_are_what_a_sweep_may_vary_without_compiling() -> None:
    e = experiment(
        algorithm="fedadam",
        privacy="gaussian",
        optimizer={"chain": [{"name": "trace", "decay": 0.9, "nesterov": False}]},
    )
    assert set(numbers(e)) == {
        "task.l2",
        "optimizer.step_size",
        "optimizer.decay",
        "optimizer.chain[0].decay",
        "privacy.clip_norm",
        "privacy.noise_multiplier",
        *(f"algorithm.{x}" for x in ("server_step_size", "beta1", "beta2", "tau", "v0")),
    }
    moved = with_numbers(e, {"optimizer.chain[0].decay": 0.1, "task.l2": 3.0})
    assert structure(moved) == structure(e) and moved.optimizer.chain[0]["decay"] == 0.1
    other = experiment(algorithm="fedadam", privacy="gaussian", optimizer={"batch_size": 3})
    assert structure(other) != structure(e)


def test_configs_do_not_change() -> None:
    e = experiment()
    with pytest.raises(dataclasses.FrozenInstanceError):
        e.rounds = 3  # type: ignore[misc]
