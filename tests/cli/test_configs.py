"""Every member of every group has a YAML file, and it says what the dataclass says."""

import dataclasses
from typing import Any

import pytest

from fedsim import config
from fedsim.base import build, build_choice, to_dict
from fedsim.cli import listing
from fedsim.cli.compose import compose
from fedsim.cli.submit import settings
from fedsim.config.slurm import SlurmConfig
from fedsim.plan import CHOICES
from fedsim.resources import folder
from tests.members import MEMBERS, needed

# Groups of one dataclass: a member is a choice of values, the first is the default.
VARIANTS = {
    "optimizer": (config.OptimizerConfig, ("sgd", "adam", "adamw", "momentum")),
    "numerics": (config.Numerics, ("default", "float64")),
}


def test_the_groups_are_the_fields_of_an_experiment():
    assert set(config.MEMBERS) | set(VARIANTS) == set(CHOICES)
    assert set(CHOICES) <= {f.name for f in dataclasses.fields(config.Experiment)}


@pytest.fixture(scope="module")
def composed():
    """(group, member) -> its options; one composition takes a member of every group."""
    names = {group: list(known) for group, known in config.MEMBERS.items()}
    names |= {group: list(known) for group, (_, known) in VARIANTS.items()}
    found: dict[tuple[str, str], Any] = {}
    for i in range(max(map(len, names.values()))):
        row = {group: known[i % len(known)] for group, known in names.items()}
        values = compose([f"{group}={name}" for group, name in row.items()])
        found |= {pick: values[pick[0]] for pick in row.items()}
    return found


@pytest.mark.parametrize(("group", "name"), MEMBERS)
def test_a_member_holds_every_default_of_its_dataclass(group, name, composed):
    values, own = composed[group, name], needed(group, name)
    expected = config.MEMBERS[group][name](**own)
    assert build_choice(group, values | own, group) == expected
    assert values.keys() == to_dict(expected).keys() - own.keys()


@pytest.mark.parametrize("group", VARIANTS)
def test_variants_build_and_the_first_is_the_default(group, composed):
    cls, names = VARIANTS[group]
    made: list[Any] = [build(cls, composed[group, name], group) for name in names]
    assert made[0] == cls()
    assert len({repr(variant) for variant in made}) == len(names)


def test_there_are_no_stray_files():
    expected = {f"{group}/{name}.yaml" for group, name in MEMBERS}
    expected |= {"config.yaml", "slurm/default.yaml"}
    expected |= {f"{group}/{name}.yaml" for group, (_, names) in VARIANTS.items() for name in names}
    root = folder("configs")
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == expected


def test_the_config_as_it_is_builds_with_the_defaults_of_its_dataclasses():
    experiment = config.experiment(compose([]))
    assert (experiment.tune, experiment.evaluate) == (config.Tune(), config.Evaluate())
    assert (experiment.algorithm, experiment.results) == (config.FedAvg(), "results/store")


def test_what_slurm_is_asked_for_has_the_defaults_of_its_dataclass():
    assert settings([]) == (SlurmConfig(), [])


@pytest.mark.parametrize("group", CHOICES)
def test_every_file_opens_with_a_sentence_on_what_it_is(group):
    for path in (folder("configs") / group).glob("*.yaml"):
        said = listing.comment(path)
        assert said.endswith(".") and len(said) > 8, path
        lines = path.read_text(encoding="utf-8").splitlines()
        first = next(line for line in lines if not line.startswith("#"))
        assert first == f"name: {path.stem}"


def test_optimizers_are_what_they_are_called(composed):
    import jax.numpy as jnp
    import optax

    from fedsim import local

    reference = {
        "sgd": optax.sgd(0.05),
        "momentum": optax.sgd(0.05, momentum=0.9),
        "adam": optax.adam(0.001),
        "adamw": optax.adamw(0.001),
    }
    start, grads = jnp.float32([1.0, -2.0]), jnp.float32([0.3, 0.1])
    for name, expected in reference.items():
        cfg = build(config.OptimizerConfig, composed["optimizer", name])
        ours = local.optimizer(cfg, jnp.int32(0))
        w, state, v, theirs = start, ours.init(start), start, expected.init(start)
        for _ in range(3):
            w, state = ours.update(grads, state, w)
            change, theirs = expected.update(grads, theirs, v)
            v = optax.apply_updates(v, change)
        assert jnp.allclose(w, v, rtol=1e-6, atol=0), name
