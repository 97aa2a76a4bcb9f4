"""Privacy accounts of runs: what they state, the noise a target takes, the round a budget ends at."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedsim import config, world
from fedsim.accounting import releases
from fedsim.accounting.accountants import epsilon
from fedsim.accounting.events import Gaussian, PoissonGaussian
from fedsim.base import RequestError, numbers
from fedsim.plan import Cell, structure_key
from fedsim.run import budget, run_experiments, train
from fedsim.run.sources import Sources, with_choices
from fedsim.store import ResultStore
from tests.run.hospitals import BASE

SOURCES = Sources()
HALF = {"name": "poisson", "rate": 0.5}


def make(world="all", rounds=6, **privacy):
    changes = {
        "split": {"name": "natural", "test": 0.2},
        "algorithm": {"name": "fedavg", "weighting": "uniform"},
        "privacy": {"name": "gaussian"} | privacy,
        "world": world,
        "rounds": rounds,
        "evaluate": {"every": 2},
    }
    return config.experiment(BASE | changes)


def lanes(experiment):
    return SOURCES.lanes(experiment)


def state(experiment):
    return budget.statement(experiment, lanes(experiment), SOURCES.split(experiment)[0])


def spent(noise, rounds, delta=1e-5):
    return epsilon([(Gaussian(noise_multiplier=noise), rounds)], delta, "add_or_remove_one").epsilon


def test_a_target_finds_the_noise():
    e = make(epsilon=3.0, noise_multiplier=None)
    (lane,) = lanes(e)
    noise = lane.experiment.privacy.noise_multiplier
    assert lane.rounds == 6 and spent(noise, 6) <= 3.0 < spent(noise * (1 - 1e-5), 6)
    (sampled,) = lanes(make(world=HALF, epsilon=3.0, noise_multiplier=None))
    assert sampled.experiment.privacy.noise_multiplier < noise


def test_a_budget_ends_training():
    last = max(r for r in range(1, 7) if spent(2.0, r) <= 4.0)
    assert 1 < last < 6
    (lane,) = lanes(make(epsilon=4.0, noise_multiplier=2.0))
    assert lane.rounds == last
    (rich,) = lanes(make(epsilon=40.0, noise_multiplier=2.0))
    assert rich.rounds == 6


def test_options_of_an_account_are_no_part_of_a_program():
    """A sweep over them is one pack, and its runs share what is compiled."""
    several = [
        make(),
        make(noise_multiplier=3.0),
        make(epsilon=8.0),
        make(epsilon=2.0, noise_multiplier=None, delta=1e-6, accountant="rdp"),
        make(relation="replace_one"),
    ]
    assert len({structure_key(e) for e in several}) == 1
    plain = [lanes(e)[0].experiment for e in several]
    assert len({tuple(numbers(e)) for e in plain}) == 1
    assert len({(e.privacy.relation, e.privacy.accountant, e.privacy.delta) for e in plain}) == 1


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (make(world={"name": "uniform", "cohort": 2}), "fixed size.*set relation=replace_one.*world=poisson"),
        (make(world={"name": "by_size", "cohort": 2}), "how many rows.*set world=poisson"),
        (make(world={"name": "diurnal", "cohort": 2}), "no Poisson sample.*set world=poisson"),
        (make(world="cyclic"), "by their places.*set world=poisson"),
        (make(world=HALF, accountant="rdp", relation="replace_one"), "set relation=add_or_remove_one"),
        (make(world=HALF, accountant="gdp"), "set accountant=pld"),
        (make(epsilon=0.001), "does not pay for one round.*noise_multiplier=null"),
    ],
)
def test_what_has_no_account_is_refused_before_anything_is_run(experiment, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        run_experiments([Cell(experiment, {})], tmp_path)
    assert not list(tmp_path.glob("*/manifest.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 1.0, "noise_multiplier": 0.0}, "cannot be kept with privacy.noise_multiplier=0"),
        ({"noise_multiplier": None}, "privacy.epsilon, which is null too"),
        ({"epsilon": 0.0}, r"privacy.epsilon must be in \(0, inf\)"),
        ({"delta": 1.0}, r"privacy.delta must be in \(0, 1\)"),
        ({"delta": 0.0}, r"privacy.delta must be in \(0, 1\)"),
    ],
)
def test_what_cannot_be_is_a_wrong_request(options, message):
    with pytest.raises(RequestError, match=message):
        make(**options)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Runs by name: budget, target, sampled, silent; all but the sampled one are one pack."""
    root = tmp_path_factory.mktemp("private")
    asked = {
        "budget": make(epsilon=4.0, noise_multiplier=2.0),
        "target": make(epsilon=3.0, noise_multiplier=None),
        "silent": make(noise_multiplier=0.0, delta=0.3),
        "warned": make(noise_multiplier=50.0, delta=0.3),
    }
    run_experiments([Cell(e, {"n": n}) for n, e in asked.items()], root)
    store = ResultStore(root)
    return root, store, {store.manifest(run)["cell"]["n"]: run for run in store.ids()}, asked


def test_a_run_says_what_it_spent_and_how_that_is_known(stored):
    _, store, runs, _ = stored
    said = store.manifest(runs["target"])["privacy"]
    assert said["epsilon"] == pytest.approx(spent(said["noise_multiplier"], 6))
    assert 2.999 < said["epsilon"] <= 3.0
    stated = {name: said[name] for name in ("delta", "unit", "relation", "accountant", "rounds")}
    assert stated == {
        "delta": 1e-5, "unit": "client", "relation": "add_or_remove_one", "accountant": "gdp", "rounds": 6
    }  # fmt: skip
    assert said["regions"] == [
        {"region": "all clients", "epsilon": said["epsilon"], "delta": 1e-5, "units": 4}
    ]
    assert said["covered"] and not said["warnings"]
    assert any("standardisation" in what for what in said["uncovered"])
    assert any("validation and test" in what for what in said["uncovered"])
    query = (
        'select "accounted.epsilon" as e, "privacy.epsilon" as asked from runs where "cell.n" = \'target\''
    )
    assert store.query(query).to_pylist() == [{"e": said["epsilon"], "asked": 3.0}]


def test_the_rounds_that_were_run_are_stored(stored):
    _, store, runs, _ = stored
    manifest = store.manifest(runs["budget"])
    last = manifest["rounds"]
    assert last == manifest["privacy"]["rounds"] == 3
    assert manifest["privacy"]["epsilon"] == pytest.approx(spent(2.0, last)) and spent(2.0, last + 1) > 4.0
    rounds = store.read(runs["budget"], "rounds")["round"].to_pylist()
    assert sorted(set(rounds)) == [2, 3]
    assert set(store.read(runs["budget"], "predictions")["round"].to_pylist()) == {3}
    assert sorted(set(store.read(runs["target"], "rounds")["round"].to_pylist())) == [2, 4, 6]


def test_no_noise_is_no_epsilon_and_a_large_delta_is_warned_of(stored):
    _, store, runs, _ = stored
    silent = store.manifest(runs["silent"])["privacy"]
    assert silent["epsilon"] is None and "noise multiplier is 0" in silent["reason"]
    warned = store.manifest(runs["warned"])["privacy"]
    assert "delta=0.3 is not below 1 / n (n = 4)" in warned["warnings"][0]


def test_a_resumed_run_spends_nothing_twice(stored, tmp_path, monkeypatch):
    """Stopped after its third round and resumed: the same account, the same rounds, the same bits."""
    _, store, runs, asked = stored
    experiments = [replace(e, executor=config.Inline(checkpoint_seconds=0.0)) for e in asked.values()]
    saved = train._save
    calls = []

    def stop(*arguments):
        saved(*arguments)
        calls.append(arguments[3])
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_save", stop)
    monkeypatch.setattr(train, "_CALL_SECONDS", 0.0)  # a round a call
    with pytest.raises(KeyboardInterrupt):
        run_experiments([Cell(e, {}) for e in experiments], tmp_path)
    assert calls == [1, 2, 3]
    monkeypatch.setattr(train, "_save", saved)
    run_experiments([Cell(e, {}) for e in experiments], tmp_path)
    again = ResultStore(tmp_path)
    for run in runs.values():
        one, other = store.manifest(run), again.manifest(run)
        assert (one["privacy"], one["rounds"], one["model_sha256"]) == (
            other["privacy"], other["rounds"], other["model_sha256"]
        )  # fmt: skip
        assert store.read(run, "rounds").to_pylist() == again.read(run, "rounds").to_pylist()


def test_folds_are_paid_for_one_by_one_and_all_together():
    e = make(noise_multiplier=3.0)
    folded = config.experiment(
        BASE | {"algorithm": {"name": "fedavg", "weighting": "uniform"}, "privacy": {"name": "gaussian",
        "noise_multiplier": 3.0}}
    )  # fmt: skip
    one = state(e)
    two = state(folded)
    assert "models" not in one and two["models"] == 2
    assert two["epsilon"] == pytest.approx(spent(3.0, 4))
    assert two["epsilon_of_all_models"] == pytest.approx(spent(3.0, 8))


def test_models_that_tuning_tried_are_paid_for_where_asked():
    tune = {"grid": {"optimizer.step_size": [0.1, 0.5]}, "rounds": [2, 4]}
    for counted in (False, True):
        e = config.experiment(
            BASE | {"split": {"name": "natural", "test": 0.2}, "tune": tune,
            "algorithm": {"name": "fedavg", "weighting": "uniform"},
            "privacy": {"name": "gaussian", "noise_multiplier": 3.0, "count_tuning": counted}}
        )  # fmt: skip
        said = state(e)
        assert said["epsilon"] == pytest.approx(spent(3.0, 4 + 2 * 4 * counted))
        listed = said["covered" if counted else "uncovered"]
        assert "the models that hyper-parameters were chosen by" in listed
        assert any("losses on validation rows" in what for what in said["uncovered"])


@pytest.mark.long
def test_candidates_are_paid_for_by_the_rows_and_the_noise_they_had():
    """They hold out rows, so that each of the others is drawn more often; and all models of a run have the
    noise that pays for all of them."""
    changes = {
        "split": {"name": "natural", "test": 0.2},
        "tune": {"grid": {"optimizer.step_size": [0.1, 0.5, 1.0]}, "valid": 0.5},
        "optimizer": {"batch_size": 8, "steps": 3},
        "rounds": 2,
    }
    promised = {"epsilon": 4.0, "noise_multiplier": None, "accountant": "rdp", "count_tuning": True}
    e = config.experiment(BASE | changes | {"privacy": {"name": "record"} | promised})
    (final,), (held,) = lanes(e), SOURCES.lanes(e, holding_out=0.5)
    noise = numbers(final.experiment)["privacy.noise_multiplier"]
    assert numbers(held.experiment)["privacy.noise_multiplier"] == noise
    rows = [(a, b) for a, b in zip(final.clients.train, held.clients.train, strict=True) if a]
    assert all(b < 0.6 * a for a, b in rows)

    def costs(n, models):
        return (PoissonGaussian(noise_multiplier=noise, rate=8 / n), 2 * 3 * models)

    whole = [
        epsilon([costs(int(a), 1), costs(int(b), 3)], 1e-5, "add_or_remove_one", "rdp").epsilon
        for a, b in rows
    ]
    said = budget.statement(e, [final], SOURCES.split(e)[0], [held])
    assert [region["epsilon"] for region in said["regions"]] == pytest.approx(whole)
    assert 4.0 * (1 - 1e-4) < said["epsilon"] <= 4.0
    alone = config.experiment(
        BASE | changes | {"privacy": {"name": "record"} | promised | {"count_tuning": False}}
    )
    assert numbers(lanes(alone)[0].experiment)["privacy.noise_multiplier"] < noise


def test_every_fold_is_accounted_for_with_the_noise_that_was_chosen_for_it():
    e = config.experiment(
        BASE
        | {
            "split": {"name": "natural", "folds": 2},
            "algorithm": {"name": "fedavg", "weighting": "uniform"},
            "privacy": {"name": "gaussian", "noise_multiplier": 3.0},
            "tune": {"grid": {"privacy.noise_multiplier": [2.0, 5.0]}},
            "world": "all",
            "rounds": 4,
        }
    )
    quiet, loud = (
        with_choices([lane], [{"privacy.noise_multiplier": z}], 4)[0]
        for lane, z in zip(lanes(e), (5.0, 2.0), strict=True)
    )
    said = budget.statement(e, [quiet, loud], SOURCES.split(e)[0])
    assert said["noise_multiplier"] == 2.0 and said["epsilon"] == pytest.approx(spent(2.0, 4))


def test_a_tuned_run_does_not_outlive_its_budget():
    """Candidates are trained for as many rounds as there are: where these are too many there is no run."""
    e = replace(
        make(noise_multiplier=2.0, epsilon=4.0), tune=config.Tune(grid={"optimizer.step_size": [0.1]})
    )
    with pytest.raises(
        RequestError, match=r"tune tries models of up to 6 rounds, and privacy\.epsilon=4 pays"
    ):
        lanes(e)


@pytest.mark.parametrize("path", ["privacy.epsilon", "privacy.delta"])
def test_what_is_promised_is_not_tuned(path):
    with pytest.raises(RequestError, match=rf"tune\.grid\.{path} is what a run promises"):
        replace(make(), tune=config.Tune(grid={path: [0.1, 0.5]}))


def test_a_poisson_sample_is_accounted_for_as_one():
    e = make(world=HALF, noise_multiplier=2.0)
    said = state(e)
    event = PoissonGaussian(noise_multiplier=2.0, rate=0.5)
    assert said["accountant"] == "pld" and said["sampling"] == "Poisson sample of clients"
    assert said["epsilon"] == epsilon([(event, 6)], 1e-5, "add_or_remove_one", "pld").epsilon
    assert np.isfinite(said["epsilon"])


def test_entries_may_ask_how_long_messages_are_and_how_many_arrive(monkeypatch):
    seen = []

    def entry(experiment, clients, rounds):
        seen.append(clients)
        return releases.client_gaussian(experiment, clients, rounds)

    monkeypatch.setitem(releases.RELEASES, config.GaussianPrivacy, entry)
    releases.MEASURED.append(config.GaussianPrivacy)
    try:
        e = make(world=HALF | {"dropout": 0.3}, epsilon=3.0, noise_multiplier=None)
        (lane,) = lanes(e)
    finally:
        releases.MEASURED.remove(config.GaussianPrivacy)
    came = tuple(len(world.cohort(lane.experiment.world, 0, r, 4)) for r in range(6))
    assert seen[0].came == came and len(set(came)) > 1
    weights = len(SOURCES.split(e)[0].features) + 1
    assert weights <= seen[0].numbers < 2 * weights and seen[0].numbers.bit_count() == 1


def test_records_are_paid_for_at_each_region():
    """The smaller a region, the more often each of its records is drawn; as often as the algorithm asks."""
    changes = {"split": {"name": "natural", "test": 0.2}, "optimizer": {"batch_size": 16}, "rounds": 2}
    e = config.experiment(BASE | changes | {"privacy": {"name": "record", "noise_multiplier": 4.0}})
    (lane,) = lanes(e)
    said = state(e)
    rows = lane.clients.train[lane.clients.train > 0].tolist()
    assert [region["units"] for region in said["regions"]] == rows
    for region in said["regions"]:
        event = PoissonGaussian(noise_multiplier=4.0, rate=16 / region["units"])
        steps = 2 * -(-region["units"] // 16)
        assert region["epsilon"] == epsilon([(event, steps)], 1e-5, "add_or_remove_one", "pld").epsilon
    assert said["epsilon"] == max(region["epsilon"] for region in said["regions"])
    assert (said["unit"], said["relation"]) == ("record", "add_or_remove_one")
    twice = replace(e, algorithm=config.experiment(BASE | {"algorithm": "ditto"}).algorithm)
    assert state(twice)["epsilon"] > said["epsilon"]
    target: Any = {"epsilon": 1.0, "noise_multiplier": None, "accountant": "rdp"}
    wanted = replace(e.privacy, **target)
    (found,) = lanes(replace(e, privacy=wanted))
    assert found.experiment.privacy.noise_multiplier > 1.0


def test_randomised_labels_cost_their_epsilon_once_for_every_model():
    e = make(name="randomised_response", epsilon=2.0)
    said = state(e)
    assert (said["epsilon"], said["delta"], said["unit"]) == (2.0, 0.0, "label")
    assert "models" not in said


def test_randomised_counts_cover_what_is_announced_and_nothing_else():
    told = {"name": "randomised_counts", "epsilon": 0.5, "places": 400}
    e = config.experiment(BASE | {"split": {"name": "natural", "test": 0.2}, "privacy": told})
    said = state(e)
    assert (said["epsilon"], said["delta"], said["unit"]) == (0.5, 0.0, "record")
    assert said["relation"] == "add_or_remove_one" and "announced counts alone" in said["notes"][0]
    assert any("clients' messages" in word for word in said["uncovered"])
    assert said["covered"] == [
        "how many training rows each client says it has, by which messages are weighted"
    ]
    folds = config.experiment(BASE | {"split": {"name": "natural", "folds": 3}, "privacy": told})
    assert state(folds)["epsilon_of_all_models"] == 1.5


def test_who_is_lost_in_a_secure_sum_takes_its_noise_along():
    """Four hospitals add a share each; one that is lost under way is one share less in every round."""

    def came(**secure):
        shares = {"privacy": {"name": "skellam", "contributors": 3.0, "noise_multiplier": 3.0}}
        masked = config.experiment(BASE | shares | {"secure": {"name": "bonawitz", "threshold": 3} | secure})
        return state(replace(make(), privacy=masked.privacy, secure=masked.secure))["epsilon"]

    assert came() < came(drop={"Cleveland": "mask"})
    # It has sent its message when it is lost, so that it is in the sum.
    assert came() == came(drop={"Cleveland": "unmask"})
