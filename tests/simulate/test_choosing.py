"""Clients chosen by their loss: those on whom the server's model does worst, whoever does the work."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from fedsim import metrics, world
from fedsim.base import RequestError
from fedsim.config import PowerOfChoice
from fedsim.run.train import Memo, train
from fedsim.simulate import choosing
from fedsim.simulate.engine import simulate
from fedsim.simulate.judged import labels_of
from tests.simulate import small

CHOICE = {"name": "power_of_choice", "cohort": 2, "candidates": 4}


def lane(seed=3, **changes):
    world = CHOICE | changes.pop("world", {})
    return small.lane(small.experiment(world=world, seed=seed, rounds=5, **changes))


@cache
def alone(seed=3):
    return small.train([lane(seed)])


def losses(trained, labels, of):
    """Mean log loss of every client's training rows, by what the judging program says of all of them."""
    found = metrics.log_loss_rows("binary", labels, trained.scores("train")[0])
    return np.array([found[of == k].mean() for k in range(len(small.SIZES))])


@pytest.mark.long
def test_those_with_the_highest_loss_train() -> None:
    """Round by round, against scores of all training rows; steps 1 to 3 of the paper's section 4."""
    mine = lane()
    rows, of = labels_of(mine.judged, "train")
    labels = small.federation().labels_of(rows)
    en = small.engine([mine])
    (team,) = en.teams
    handles, seen = en.init(), []
    for rnd in range(5):
        now = losses(small.Trained(en, handles, [], []), labels, of)
        ((handles, result),) = simulate(en, handles, [rnd + 1], first=rnd)
        (chosen,) = (s for s in team.select(rnd) if s is not None)
        people = world.People(6, mine.clients.train, 3, rnd)
        asked = world.asked(mine.experiment.world, people)
        assert len(set(asked.tolist())) == 4
        want = sorted(asked[np.argsort(-now[asked])[:2]].tolist())
        assert chosen.positions.tolist() == want
        assert result.cohort[0] == 2
        assert en.spent(rnd + 1)[0][:3] == (4 * (rnd + 1), 2 * (rnd + 1), 4 * (rnd + 1))
        seen.append(tuple(want))
    assert len(set(seen)) > 1
    small.assert_same_bits(small.by_lane(en, en.fetch(handles)), alone().states)


def test_packed_and_in_one_call_or_many() -> None:
    packed = small.train([lane(9, optimizer={"step_size": 0.1}), lane()], stops=[2, 5])
    small.assert_same_bits(packed.states[1], alone().states[0])
    # Lanes of one seed and other numbers share candidates, and choose by their own models.
    other = lane(optimizer={"step_size": 2.0})
    packed = small.train([lane(), other])
    small.assert_same_bits(packed.states[0], alone().states[0])
    small.assert_same_bits(packed.states[1], small.train([other]).states[0])


def memo(folder: Path, told: list[str]) -> Memo:
    return Memo(folder / "pack", "owner", 0.0, told.append)


def run(folder, told):
    """Train to the end, with a checkpoint after every call."""
    en = small.engine([lane()])
    seen = train(en, [3, 5], memo(folder, told), list, lambda rows: None, lambda n: None)
    return en, seen


def test_resumed_from_what_the_checkpoint_holds(tmp_path: Path) -> None:
    told: list[str] = []
    begun, seen = run(tmp_path, told)
    next(seen)
    next(seen)  # saves round 3, then trains on
    en, seen = run(tmp_path, told)
    assert all((team.slots[0] == -1).all() for team in en.teams)
    *_, (handles, _) = seen
    assert told == ["resuming at round 3"] or told == ["resuming at round 4"]
    small.assert_same_bits(small.by_lane(en, en.fetch(handles)), alone().states)
    np.testing.assert_array_equal(en.teams[0].slots[0], begun.teams[0].slots[0])


def test_a_checkpoint_of_other_shapes_is_left(tmp_path: Path) -> None:
    """Such as another kind of machine left behind: teams of one lane, say, and then of two."""
    _, seen = run(tmp_path, [])
    next(seen)
    next(seen)
    told: list[str] = []
    en = small.engine([lane(), lane(9)])
    *_, (handles, _) = train(en, [3, 5], memo(tmp_path, told), list, lambda rows: None, lambda n: None)
    assert told == ["the checkpoint is of states that have other shapes; starting over"]
    small.assert_same_bits(small.by_lane(en, en.fetch(handles))[:1], alone().states)


def test_a_checkpoint_of_another_version_of_the_code_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen = run(tmp_path, [])
    next(seen)
    next(seen)
    told: list[str] = []
    monkeypatch.setattr("fedsim.run.train.source", lambda: "0123456789abcdef")
    en, seen = run(tmp_path, told)
    *_, (handles, _) = seen
    assert told == ["the checkpoint is another version's of the code; starting over"]
    small.assert_same_bits(small.by_lane(en, en.fetch(handles)), alone().states)


def test_a_batch_of_rows_estimates_the_loss() -> None:
    """Of a batch as large as the client, all rows; of a smaller one, that many."""
    mine = lane(world={"estimate": "batch"})
    rows = np.array([3, 4, 12])
    used, counts = choosing._used(mine, 0, np.array([0, 2, 5]), rows)
    assert counts.tolist() == [3, 4, 4] and used[:7].all() and used[7:].sum() == 4
    drawn = [choosing._used(mine, r, np.array([5]), np.array([12]))[0] for r in range(300)]
    assert stats.chisquare(np.sum(drawn, axis=0)).pvalue > 1e-3
    full, _ = choosing._used(lane(), 0, np.array([0, 2, 5]), rows)
    assert full.all()


def test_ties_are_broken_at_random_and_nan_is_the_worst() -> None:
    cfg = PowerOfChoice(cohort=2, candidates=5)
    asked = np.array([1, 4, 6, 8, 9])
    even = [tuple(world.chosen(cfg, 0, r, asked, np.ones(5, np.float32))) for r in range(2000)]
    times = [sum(k in pair for pair in even) for k in asked.tolist()]
    assert stats.chisquare(times).pvalue > 1e-3
    told = np.array([0.1, np.nan, 3.0, 2.0, 0.2], np.float32)
    assert world.chosen(cfg, 0, 0, asked, told).tolist() == [4, 6]


def test_candidates_are_drawn_in_proportion_to_their_rows() -> None:
    rows, cfg = np.array([1, 2, 3, 4, 90]), PowerOfChoice(cohort=1, candidates=1)
    drawn = [world.asked(cfg, world.People(5, rows, 0, r))[0] for r in range(4000)]
    assert stats.chisquare(np.bincount(drawn, minlength=5), rows * 40).pvalue > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world": CHOICE | {"candidates": 1}}, r"world\.candidates must be >= world\.cohort=2"),
        ({"world": CHOICE | {"staleness": 1}}, r"sends the current model to all candidates"),
        ({"world": CHOICE, "algorithm": "local"}, r"algorithm=local"),
        ({"world": CHOICE, "algorithm": "pooled"}, r"algorithm=pooled"),
        ({"world": CHOICE, "privacy": "gaussian"}, r"privacy=gaussian would promise nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message) -> None:
    with pytest.raises(RequestError, match=message):
        small.experiment(**changes)


def test_more_candidates_than_clients() -> None:
    cfg = PowerOfChoice(cohort=2, candidates=7)
    with pytest.raises(RequestError, match=r"world\.candidates=7 .* 6 training\s+clients.* at most 6"):
        world.asked(cfg, world.People(6, np.ones(6), 0, 0))
    assert replace(cfg, candidates=6).candidates == 6
