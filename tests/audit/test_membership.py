"""Membership attacks: scores against slow loops from the papers, rates, intervals, groups, and whose rows."""

import numpy as np
import pytest
from scipy import stats

from fedsim.audit import membership, shadows
from tests.simulate import small


def made(shadow_count=16, rows=60, strength=3.0, seed=0):
    """phi of a target and of shadows that each trained on half of the rows, which they are surer of."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=rows)
    inside = rng.random((shadow_count, rows)) < 0.5
    others = hard + strength * inside + rng.normal(size=inside.shape)
    member = rng.random(rows) < 0.5
    return hard + strength * member + rng.normal(size=rows), others, inside, member


def test_log_odds_are_of_the_rows_label():
    binary = membership.log_odds(np.array([1, 0]), np.array([0.8, 0.8]))
    np.testing.assert_allclose(binary, [np.log(4), -np.log(4)])
    several = membership.log_odds(np.array([2, 0]), np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]))
    np.testing.assert_allclose(several, [np.log(0.7 / 0.3), 0.0], atol=1e-12)
    assert np.isfinite(membership.log_odds(np.array([1, 1]), np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("count", [16, 70])
def test_lira_is_algorithm_1(count):
    """Carlini et al. 2022: one spread for all rows below 64 models, each row's own from there on."""
    target, others, inside, _ = made(count)
    found = membership.attacks(target, others, inside, 2.0)["lira"]
    sides = (inside, ~inside)
    within = [
        sum(np.sum((others[s[:, j], j] - others[s[:, j], j].mean()) ** 2) for j in range(60)) for s in sides
    ]
    for j in range(60):
        log = []
        for side, ss in zip(sides, within, strict=True):
            mine = others[side[:, j], j]
            spread = mine.std(ddof=1) if count >= 64 else np.sqrt(ss / (side.sum() - 60))
            log.append(stats.norm.logpdf(target[j], mine.mean(), spread))
        assert found[j] == pytest.approx(log[0] - log[1])


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rmia_is_the_share_of_rows_that_are_less_likely(gamma):
    target, others, inside, _ = made()
    found = membership.attacks(target, others, inside, gamma)["rmia"]
    p = 1 / (1 + np.exp(-others))
    own = 1 / (1 + np.exp(-target))
    ratio = [
        own[j] / ((p[inside[:, j], j].mean() + p[~inside[:, j], j].mean()) / 2) for j in range(len(target))
    ]
    for j in range(len(target)):
        assert found[j] == np.mean([ratio[j] / z >= gamma for z in ratio])


def test_the_bayesian_form_lies_between_one_spread_and_each_rows_own():
    """With many models it is LiRA with spreads of its own; with few, close to one spread for all."""
    for count, like in ((4000, "own"), (6, "shared")):
        target, others, inside, _ = made(count, rows=40)
        found = membership.attacks(target, others, inside, 2.0)
        if like == "own":
            np.testing.assert_allclose(found["bayes"], found["lira"], rtol=0.05, atol=0.05)
        else:
            assert np.corrcoef(found["bayes"], found["lira"])[0, 1] > 0.95


def test_attacks_with_shadows_tell_more_than_the_loss():
    target, others, inside, member = made(64, 2000)
    aucs = {
        name: membership.rates(scores, member, 0.95)["auc"]
        for name, scores in membership.attacks(target, others, inside, 1.0).items()
    }
    assert min(aucs[name] for name in ("lira", "bayes")) > aucs["loss"] + 0.02
    assert aucs["lira"] > 0.95


def test_rates_are_at_the_bound_that_non_members_give():
    scores = np.concatenate([np.arange(200.0), np.arange(150.0, 350.0)])
    member = np.arange(400) >= 200
    found = membership.rates(scores, member, 0.95)
    one = found["tpr_at_0.01"]
    assert (one["false_positives"], one["non_members"]) == (2, 200)
    assert one["tpr"] == np.mean(np.arange(150, 350) > 197)
    assert found["tpr_at_0.001"]["false_positives"] == 0  # 200 rows allow none
    exact = stats.binomtest(int(one["tpr"] * 200), 200).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose(one["interval"], exact)
    assert membership.interval(0, 10, 0.95)[0] == 0 and membership.interval(10, 10, 0.95)[1] == 1
    assert membership.interval(0, 0, 0.95) == (0.0, 1.0)


def test_who_says_nothing_is_not_told_apart():
    rng = np.random.default_rng(3)
    member = np.arange(4000) < 2000
    found = membership.rates(rng.normal(size=4000), member, 0.95)
    assert abs(found["auc"] - 0.5) < 0.04
    assert found["tpr_at_0.01"]["interval"][0] < 0.01 < found["tpr_at_0.01"]["interval"][1]


def test_the_most_exposed_group_comes_first():
    rng = np.random.default_rng(4)
    member = rng.random(3000) < 0.5
    region = np.where(np.arange(3000) < 300, "small", "large")
    scores = rng.normal(size=3000) + np.where(region == "small", 4.0, 0.5) * member
    groups = membership.by_group(scores, member, {"client": region}, 0.95)
    assert [g["group"] for g in groups] == ["small", "large"]
    assert groups[0]["tpr"] > 0.8 > 0.2 > groups[1]["tpr"]
    assert sum(g["members"] for g in groups) == member.sum()


# --- whose rows ------------------------------------------------------------------------------


def test_shadows_train_on_as_many_other_rows_of_each_client():
    e = small.experiment(split={"name": "natural", "test": 0.4, "valid": 0.1})
    part = small.partition(small.federation(), e.split, e.seed)
    rows, client, member = shadows.pool(part)
    assert len(set(rows.tolist())) == len(rows) and member.sum() == part.train.sum()
    times = np.zeros(small.federation().rows)
    for number in range(200):
        other = shadows.redrawn(part, e.seed, number)
        np.testing.assert_array_equal(shadows.redrawn(part, e.seed, number).rows, other.rows)
        np.testing.assert_array_equal(other.train, part.train)
        here, owner, trained = shadows.pool(other)
        assert sorted(zip(here.tolist(), owner.tolist(), strict=True)) == sorted(
            zip(rows.tolist(), client.tolist(), strict=True)
        )
        valid = [p.part("valid")[0].tolist() for p in (part, other)]
        assert valid[0] == valid[1]
        times[here[trained]] += 1
    share = (part.train / np.maximum(part.train + part.test, 1))[client]
    off = np.abs(times[rows] / 200 - share)
    assert (off < 5 * np.sqrt(share * (1 - share) / 200) + 1e-9).all()
