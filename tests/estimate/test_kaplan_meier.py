import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.base import RequestError
from fedsim.config.estimate import KaplanMeier
from fedsim.data.federation import gather
from fedsim.estimate import asked, estimate, shown
from fedsim.estimate.groups import groups_of
from fedsim.estimate.kaplan_meier import send_noised
from fedsim.estimate.noise import calibrated
from fedsim.estimate.sites import Post, sites_of
from tests.estimate.made import exponential, leukaemia, slow_curve, survival

LONG = ("discrete_gaussian",)
NOISY = {"epsilon": 0.05, "horizon": 4.0, "bins": 4}
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 12), st.booleans()), min_size=1, max_size=60
).filter(lambda rows: any(event for _, _, event in rows))


def curves(federation, **options):
    found = estimate("kaplan_meier", asked("kaplan_meier", options), federation)
    return found | {"groups": {group["group"]: group for group in found["groups"]}}


# --- exact -----------------------------------------------------------------------------------


def test_the_textbook_s_curve():
    found = curves(leukaemia(), by="group", at=[6, 7, 10, 13, 16, 22, 23])["groups"]
    treated = found["group=1"]
    # Kalbfleisch and Prentice, and every textbook since; three digits are printed.
    assert [p["survival"] for p in treated["at"]] == pytest.approx(
        [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=6e-4
    )
    curve = treated["curve"]
    errors = dict(zip(curve["time"], curve["std_error"], strict=True))
    assert [errors[t] for t in (6, 7, 10, 13, 16, 22, 23)] == pytest.approx(
        [0.0764, 0.0869, 0.0963, 0.1068, 0.1141, 0.1282, 0.1346], abs=6e-5
    )
    assert [p["at_risk"] for p in treated["at"]] == [21, 17, 15, 12, 11, 7, 6]
    assert treated["median"] == {"value": 23, "low": 13, "high": None}  # R's survfit, conf.type="log-log"
    assert found["group=0"]["median"]["value"] == 8
    assert (treated["n"], treated["events"]) == (21, 9)


def test_rossi_s_curve_follows_from_its_counts():
    """Nobody is censored before week 52: 54 of 432 were arrested by week 26, 114 by week 52."""
    weeks = [1 + i % 26 for i in range(54)] + [27 + i % 26 for i in range(60)] + [52] * 318
    found = curves(survival([i % 4 for i in range(432)], weeks, [1] * 114 + [0] * 318), at=[26, 52])
    assert [p["survival"] for p in found["groups"]["all"]["at"]] == pytest.approx([0.875, 0.736111], abs=5e-7)


@given(ROWS)
def test_it_is_the_pooled_curve_however_rows_are_divided(rows):
    site, time, event = zip(*rows, strict=True)
    curve = curves(survival(site, time, event))["groups"]["all"]["curve"]
    assert curve == curves(survival(["one"] * len(rows), time, event))["groups"]["all"]["curve"]
    slow = slow_curve(time, event)
    assert curve["time"] == [t for t, _, _ in slow]
    assert curve["survival"] == pytest.approx([s for _, s, _ in slow], abs=1e-12)
    for i, (_, s, g) in enumerate(slow):
        if s < 1e-12:
            assert curve["std_error"][i] is None and curve["low"][i] is None
        else:
            assert curve["std_error"][i] == pytest.approx(s * math.sqrt(g), abs=1e-12)
        if 1e-12 < s < 1 - 1e-12:
            half = 1.959964 * math.sqrt(g) / abs(math.log(s))
            ends = [math.exp(math.log(s) * math.exp(sign * half)) for sign in (1, -1)]
            assert [curve["low"][i], curve["high"][i]] == pytest.approx(ends, abs=1e-6)
        elif s > 1 - 1e-12:
            assert curve["low"][i] is None and curve["high"][i] is None


def test_the_restricted_mean_is_the_area_and_its_variance_the_textbook_s():
    fed = leukaemia()
    mean = curves(fed, by="group", horizon=20.0)["groups"]["group=1"]["restricted_mean"]
    treated = [(t, e) for t, e, g in _rows(fed) if g == 1]
    steps = slow_curve(*zip(*treated, strict=True))

    def s(t):
        return next((value for at, value, _ in reversed(steps) if at <= t), 1.0)

    fine = np.arange(0, 20, 0.001)
    assert mean["value"] == pytest.approx(sum(map(s, fine)) * 0.001, abs=1e-6)
    variance = 0.0
    for t in {t for t, e in treated if e and t <= 20}:
        n, d = sum(u >= t for u, _ in treated), sum(u == t and e for u, e in treated)
        area = sum(s(u) for u in fine if u >= t) * 0.001
        variance += area**2 * d / (n * (n - d))
    assert mean["std_error"] == pytest.approx(math.sqrt(variance), abs=1e-5)


def test_beyond_the_last_time_nothing_is_known_unless_all_had_the_event():
    found = curves(leukaemia(), by="group", at=[30, 40], horizon=40.0)["groups"]
    assert found["group=1"]["at"][1]["survival"] is None
    assert found["group=1"]["restricted_mean"]["value"] is None
    assert found["group=0"]["at"][1]["survival"] == 0
    assert found["group=0"]["restricted_mean"]["value"] == pytest.approx(np.mean(_times(leukaemia(), 0)))


def test_ties_everywhere_and_a_site_without_events():
    found = curves(survival("aaab", [5, 5, 5, 5], [1, 1, 0, 0]), by="client")["groups"]
    assert found["a"]["curve"]["survival"] == pytest.approx([1 / 3])
    assert found["b"]["curve"]["survival"] == [1] and found["b"]["median"]["value"] is None
    assert found["b"]["events"] == 0 and found["b"]["at"][-1]["low"] is None


# --- groups ----------------------------------------------------------------------------------


def test_groups_of_a_number_a_category_and_rows_without_one():
    x = np.array([[50, 1, 0], [60, 0, 1], [70, 0, 0], [np.nan, np.nan, np.nan]])
    fed = survival("abab", [1, 2, 3, 4], [1, 1, 1, 1], x, ("age", "stage=2", "stage=3"))
    assert list(curves(fed, by="age", cuts=[55, 65])["groups"]) == ["age < 55", "55 <= age < 65", "age >= 65"]
    found = curves(fed, by="stage")["groups"]
    assert {name: g["curve"]["time"] for name, g in found.items()} == {
        "stage=2": [1.0], "stage=3": [2.0], "stage: another": [3.0]
    }  # fmt: skip
    assert list(curves(fed, by="age", levels=[60])["groups"]) == ["age=60"]
    assert list(curves(fed, by="stage=2")["groups"]) == ["stage=2=0", "stage=2=1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "grup"}, "by: no feature 'grup'; .*did you mean 'group'"),
        ({"by": "group", "levels": [7]}, "no row is in any of the groups group=7"),
        (
            {"by": "group", "minimum_count": 5},
            r"by the rows themselves; name them, as in levels=\[0,1\]",
        ),
        ({"by": "group", "epsilon": 1, "horizon": 10}, "said by the rows themselves"),
        ({"by": "group", "levels": [0, 1], "cuts": [1]}, "levels and cuts both make groups"),
        ({"levels": [0, 1]}, "levels and cuts are of a feature, and by is None"),
        ({"epsilon": 0, "horizon": 10}, r"epsilon must be in \(0, inf\), got 0"),
        ({"epsilon": -1, "horizon": 10}, r"epsilon must be in \(0, inf\), got -1"),
        ({"epsilon": 1}, "epsilon needs public times .* set horizon=TIME"),
        ({"epsilon": 1, "horizon": 10, "minimum_count": 5}, "two ways to protect"),
        ({"epsilon": 1, "horizon": 10, "at": [11]}, r"at=\[11.0\] goes beyond the horizon 10"),
        ({"epsilon": 1, "grid": [3, 2]}, "grid must be rising numbers above 0"),
        ({"epsilon": 1, "horizon": 10, "unit": "patient"}, "needs to know whose each row is"),
        ({"epsilon": 1, "horizon": 10, "rows_per_patient": 2}, "says nothing where unit=record"),
        ({"grid": [1, 2]}, "set epsilon, or leave it out"),
        ({"minimum_count": 2}, "minimum_count must be >= 3, got 2"),
        ({"minimum_count": 100}, "no site has 100 rows with the event .* lower minimum_count"),
        ({"sites": ["9"]}, "sites: no client '9'"),
        ({"confidence": 1}, r"confidence must be in \(0, 1\)"),
    ],
)
def test_what_cannot_be_had_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        curves(leukaemia(), **options)


def test_data_without_times_with_weights_or_generated_are_refused():
    plain = {"x": np.zeros((2, 1), np.float32), "y": np.array([0, 1], np.int32)}
    about: dict[str, Any] = {"classes": 2, "features": ("f",), "licence": "", "source": "made"}
    with pytest.raises(RequestError, match=r"no times to an event.*set data.time=COLUMN"):
        curves(gather(["a", "b"], plain, kind="binary", **about))
    with pytest.raises(RequestError, match=r"count rows.*leave data.weight out"):
        curves(gather(["a", "b"], plain | {"weight": np.ones(2, np.float32)}, kind="binary", **about))


# --- at least k rows -------------------------------------------------------------------------


@given(ROWS, st.integers(3, 6))
def test_no_number_nor_difference_of_numbers_is_of_fewer_than_k(rows, k):
    site, time, event = zip(*rows, strict=True)
    fed = survival(site, time, event)
    enough = {
        name
        for name in set(site)
        if min(sum(e == way for s, _, e in rows if s == name) for way in (True, False)) >= k
    }
    if not enough:
        with pytest.raises(RequestError, match="lower minimum_count"):
            curves(fed, minimum_count=k)
        return
    for by in (None, "client"):
        found = curves(fed, by=by, minimum_count=k)
        for group in found["groups"].values():
            curve = group["curve"]
            published = [group["n"], *curve["at_risk"], *(p["at_risk"] for p in group["at"]), 0]
            gaps = {abs(a - b) for a in published for b in published}
            assert all(gap == 0 or gap >= k for gap in gaps)
            assert all(n == 0 or n >= k for n in (*curve["events"], *curve["censored"]))
        assert {one["site"] for one in found["left_out"]} == set(site) - enough
        assert sum(g["n"] for g in found["groups"].values()) == sum(s in enough for s in site)


def test_a_coarse_curve_is_near_the_exact_one():
    fed = exponential(3000)
    exact, coarse = (
        curves(fed, at=[0.5, 1, 1.5, 2], minimum_count=k)["groups"]["all"]["at"] for k in (None, 5)
    )
    gaps = [abs(a["survival"] - b["survival"]) for a, b in zip(exact, coarse, strict=True)]
    # A batch of 5 moves an event by the time that 5 of a site take: a few thousandths of the curve.
    assert 0 < max(gaps) < 0.01


# --- with noise ------------------------------------------------------------------------------


def test_the_statement_says_what_is_promised():
    said = curves(exponential(100), epsilon=0.5, horizon=2)["privacy"]
    assert (said["epsilon"], said["delta"], said["unit"]) == (0.5, 0.0, "record")
    assert said["noise_multiplier"] == pytest.approx(2) and said["accountant"] is None
    said = curves(exponential(100), epsilon=0.5, horizon=2, relation="replace_one")["privacy"]
    assert said["noise_multiplier"] == pytest.approx(4)
    options = {"epsilon": 0.5, "horizon": 2, "mechanism": "discrete_gaussian", "delta": 1e-6}
    said = curves(exponential(100), **options)["privacy"]
    assert said["epsilon"] == pytest.approx(0.5, rel=1e-5) and said["epsilon"] <= 0.5
    assert (said["delta"], said["accountant"]) == (1e-6, "rdp") and said["conversion"].startswith(
        "from Rényi"
    )


def test_with_little_noise_the_curve_is_the_exact_one():
    fed = exponential(20_000)
    at = [0.5, 1, 1.5, 2]
    exact, noised = (
        curves(fed, at=at, horizon=2, **more)["groups"]["all"] for more in ({}, {"epsilon": 1000, "bins": 40})
    )
    for a, b in zip(exact["at"], noised["at"], strict=True):
        assert b["survival"] == pytest.approx(a["survival"], abs=1e-3)
        assert b["high"] - b["low"] == pytest.approx(a["high"] - a["low"], rel=0.02)
    assert noised["median"]["value"] == pytest.approx(exact["median"]["value"], abs=0.01)
    for key in ("value", "std_error"):
        got, wanted = noised["restricted_mean"][key], exact["restricted_mean"][key]
        assert got == pytest.approx(wanted, rel=0.01)


def test_curves_with_noise_fall_and_noise_follows_from_the_seed():
    fed = exponential(300)
    options = {"epsilon": 0.3, "horizon": 2}
    first = curves(fed, **options)
    assert first == curves(fed, **options) != curves(fed, **options, seed=1)
    for seed in range(20):
        curve = curves(fed, **options, seed=seed)["groups"]["all"]["curve"]
        for key in ("survival", "low", "high"):
            known = [v for v in curve[key] if v is not None]
            assert known == sorted(known, reverse=True) and all(0 <= v <= 1 for v in known)


@pytest.mark.parametrize("case", ["laplace", *LONG])
def test_intervals_hold_the_truth_as_often_as_they_say(case):
    """Data and noise drawn anew; S(t) = exp(-t / 2). Of 200, 95 % +- 4.4 deviations."""
    at = [0.2, 0.6, 1.0, 1.4, 2.0]
    hits = np.zeros((2, len(at)))
    runs = 200
    for seed in range(runs):
        options = {"epsilon": 1, "horizon": 2, "bins": 10, "seed": seed, "mechanism": case, "at": at}
        group = curves(exponential(1500, seed=seed), **options)["groups"]["all"]
        truth = np.exp(-np.array(at) / 2)
        hits[0] += [p["low"] <= s <= p["high"] for p, s in zip(group["at"], truth, strict=True)]
        mean = group["restricted_mean"]
        hits[1] += mean["low"] <= 2 * (1 - math.exp(-1)) <= mean["high"]
    assert hits.min() / runs > 0.95 - 4.4 * math.sqrt(0.95 * 0.05 / runs), hits / runs
    assert hits.max() / runs < 0.95 + 4.4 * math.sqrt(0.95 * 0.05 / runs), hits / runs


def test_a_site_s_own_curve_has_its_own_noise_alone():
    cfg = asked("kaplan_meier", {"epsilon": 1, "horizon": 2, "by": "client"})
    assert isinstance(cfg, KaplanMeier)
    sites, noise = sites_of(exponential(300)), calibrated(cfg, 1, 41)
    groups = groups_of(sites, cfg, True, Post())
    for k, site in enumerate(sites):
        cells = send_noised(site, groups, cfg, noise)["cells"]
        assert cells.shape == (3, 41) and np.flatnonzero(cells.any(axis=1)).tolist() == [k]


def test_answers_to_different_requests_share_no_noise():
    """Or their difference would be exact: here of the same counts, asked for with another confidence."""
    fed, options = exponential(300), {"epsilon": 1, "horizon": 2}
    first, second = (curves(fed, **options, confidence=c)["groups"]["all"] for c in (0.9, 0.95))
    gaps = np.array(first["curve"]["events"]) - second["curve"]["events"]
    assert np.count_nonzero(gaps) > 5


def test_where_noise_drowns_the_rows_nothing_is_said():
    group = curves(exponential(30), epsilon=0.05, horizon=2)["groups"]["all"]
    assert group["curve"]["survival"] == [None] * 20 and group["median"]["value"] is None
    assert group["restricted_mean"]["value"] is None


def test_fewer_than_nobody_are_shown_as_nobody():
    """Counts with noise may be negative: tables have 0, and the answer itself what noise made them."""
    fed = exponential(30)
    answers = (estimate("kaplan_meier", asked("kaplan_meier", NOISY | {"seed": i}), fed) for i in range(20))
    found = next(one for one in answers if one["groups"][0]["at"][-1]["at_risk"] < -1)
    survival, over_time = shown.tables(found)
    assert min(float(row[2]) for row in over_time.rows) == 0 and over_time.rows[-1][2] == "0"
    assert all(float(row[k]) >= 0 for row in survival.rows for k in (1, 2))


# --- bytes -----------------------------------------------------------------------------------


def test_bytes_are_those_of_the_messages():
    fed = survival("aab", [1, 2, 1], [1, 0, 1])
    found = curves(fed)
    assert found["bytes"] == {"a": 2 * 18, "b": 18} and found["exchanges"] == 1
    assert curves(fed, epsilon=5, horizon=2, bins=4)["bytes"] == {"a": 72, "b": 72}


def _rows(fed):
    return list(
        zip(
            fed.columns["time"].tolist(),
            fed.columns["y"].tolist(),
            fed.columns["x"][:, 0].tolist(),
            strict=True,
        )
    )


def _times(fed, group):
    return [t for t, _, g in _rows(fed) if g == group]
