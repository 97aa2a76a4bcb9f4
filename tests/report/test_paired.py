import itertools

import numpy as np
import pytest
from scipy import stats

from fedsim.base import RequestError
from fedsim.report import read
from fedsim.report.paired import Difference, differences, holm, signs, smallest


@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_permutation_test_tries_every_sign(n):
    d = np.random.default_rng(n).normal(0.4, 1.0, n)
    both = [abs(np.mean(np.array(s) * d)) for s in itertools.product((1, -1), repeat=n)]
    expected = np.mean([b >= abs(d.mean()) - 1e-12 for b in both])
    assert signs(d.tolist()) == expected
    test = stats.permutation_test(
        (d, np.zeros(n)), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=10**6
    )
    assert signs(d.tolist()) == pytest.approx(test.pvalue, abs=1e-12)


def test_equal_differences_are_as_unlikely_as_pairs_allow():
    assert signs([0.1] * 10) == 2 / 2**10 == smallest(10)
    assert signs([0.0] * 5) == 1.0


def test_many_pairs_are_drawn_and_agree_with_the_normal_law():
    d = np.random.default_rng(0).normal(0.2, 1.0, 100)
    z = d.sum() / np.sqrt(np.sum(d**2))
    assert signs(d.tolist()) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)
    assert signs(d.tolist()) == signs(d.tolist())


def test_holm_is_held_within_each_metric():
    def one(metric, p):
        return Difference({}, metric, "a", 5, 0.0, 0.0, 0.0, p)

    found = holm(
        [one("auroc", p) for p in (0.01, 0.04, 0.03, 0.9)] + [one("brier", 0.04), one("brier", None)]
    )
    assert [d.corrected for d in found] == pytest.approx([0.04, 0.09, 0.09, 0.9, 0.04, None])


def store(put, values):
    """values: (split, algorithm) -> AUROC of each seed."""
    ids = {}
    for (split, algorithm), by_seed in values.items():
        for seed, value in enumerate(by_seed):
            cell = {"split": split, "algorithm": algorithm, "seed": seed}
            if value is not None:
                put(cell, [{"auroc": value}], [{"name": "x", "auroc": value}])
            ids["-".join(f"{k}={v}" for k, v in cell.items())] = cell
    return ids


def test_pairs_share_seed_and_setting(put, tmp_path):
    nan = float("nan")
    ids = store(
        put,
        {
            ("iid", "fedavg"): [0.5, 0.6, 0.7, 0.8],
            ("iid", "local"): [0.4, 0.4, None, nan],
            ("natural", "fedavg"): [0.1, 0.2, 0.3, 0.4],
            ("natural", "local"): [0.2, 0.3, 0.4, 0.5],
        },
    )
    for level in ("pooled", "site"):
        rows = read(tmp_path / "store", ids, ["auroc"], [level])
        iid, natural = differences(rows, "algorithm", "fedavg", ["auroc"], level)
        assert (iid.where["split"], iid.choice, iid.pairs) == ("iid", "local", 2)
        assert iid.mean == pytest.approx(-0.15) and iid.p == 0.5
        assert natural.pairs == 4 and natural.mean == pytest.approx(0.1)
        assert natural.p == 2 / 16 and natural.corrected == 2 * natural.p
        # Every pair differs by the same: the interval is a point, though each method varies by seed.
        assert natural.low == pytest.approx(natural.high)
        assert iid.where.get("site") == ("x" if level == "site" else None)


def test_a_single_pair_has_no_interval_and_no_p(put, tmp_path):
    rows = read(tmp_path / "store", store(put, {("iid", "fedavg"): [0.5], ("iid", "local"): [0.4]}))
    (found,) = differences(rows, "algorithm", "local", ["auroc"])
    assert (found.pairs, found.low, found.p, found.corrected) == (1, None, None, None)


@pytest.mark.parametrize(
    ("axis", "baseline", "said"),
    [
        (
            "algoritm",
            "fedavg",
            "no choice of 'algoritm'; choose one of algorithm, split; did you mean 'algorithm'",
        ),
        (
            "algorithm",
            "fedavgg",
            "no run has algorithm=fedavgg; choose one of fedavg, local; did you mean 'fedavg'",
        ),
        ("split", "iid", "no two runs differ in split alone"),
    ],
)
def test_what_cannot_be_compared(put, tmp_path, axis, baseline, said):
    rows = read(tmp_path / "store", store(put, {("iid", "fedavg"): [0.5], ("iid", "local"): [0.4]}))
    with pytest.raises(RequestError, match=said):
        differences(rows, axis, baseline, ["auroc"])
