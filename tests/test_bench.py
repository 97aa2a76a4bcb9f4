"""When a benchmark counts as slower, and how committed runs are kept; nothing is timed."""

import json

import pytest

from fedsim import bench
from fedsim.base import RequestError

KIND = bench.Kind("Some(R) Make(TM) X-1 @ 2.00GHz", "0123abcd", 2, "0.10.2")


@pytest.mark.parametrize(
    ("ratios", "slower"),
    [
        ([1.31, 1.4, 2.0], True),
        ([1.31, 1.4, 1.29], False),  # one repeat within the limit is enough
        ([1.31, 1.4], False),  # too few to say
        ([1.3, 1.3, 1.3], False),  # at the limit, not above it
        ([0.5, 0.6, 0.7], False),
    ],
)
def test_slower_are_three_repeats_that_all_exceed_the_committed_ratio_by_30_percent(ratios, slower):
    assert bench.is_slower(ratios, 1.0) == slower
    assert bench.is_slower([2 * r for r in ratios], 2.0) == slower  # it is the quotient that counts


@pytest.mark.parametrize(
    ("ratios", "committed", "measured"),
    [
        ([1.1, 9.0, 9.0], 1.0, 1),  # the first settles it
        ([9.0, 1.1, 9.0], 1.0, 2),
        ([9.0, 9.0, 9.0, 1.0], 1.0, 3),
        ([1.1, 1.0, 1.2, 1.0], None, 3),  # a run to be recorded has them all
    ],
)
def test_no_more_is_measured_than_can_change_the_answer(ratios, committed, measured):
    left = iter(ratios)
    found = list(bench.repeat(lambda: bench.Repeat(next(left), 1.0), committed))
    assert [one.ratio for one in found] == ratios[:measured]
    assert bench.judge(found, committed).slower == (committed is not None and min(ratios[:3]) > 1.3)


def test_what_is_recorded_is_read_again_and_keeps_the_other_size(tmp_path):
    assert bench.committed(tmp_path, KIND, reduced=True) is None
    repeats = [bench.Repeat(3.0, 2.0), bench.Repeat(2.4, 2.0), bench.Repeat(9.0, 2.0)]
    bench.record(tmp_path, KIND, True, "abc", {"mlp": repeats})
    path = bench.record(tmp_path, KIND, False, "def", {"mlp": repeats[:2], "cnn": repeats[2:]})
    assert bench.committed(tmp_path, KIND, reduced=True) == {"commit": "abc", "ratios": {"mlp": 1.5}}
    found = bench.committed(tmp_path, KIND, reduced=False)
    assert found == {"commit": "def", "ratios": {"mlp": 1.35, "cnn": 4.5}}
    assert path.name == "some-make-x-1-2.00ghz-0123abcd-2-cores-jaxlib-0.10.2.json"


@pytest.mark.parametrize("text", ["{", "[]", '{"reduced": {"commit": "abc"}}', '{"reduced": {"ratios": 3}}'])
def test_a_file_that_is_no_run_is_named(tmp_path, text):
    path = bench.record(tmp_path, KIND, False, "abc", {})
    path.write_text(text)
    with pytest.raises(RequestError, match=r"some-make.*\.json is no run of benchmarks .*; remove it"):
        bench.committed(tmp_path, KIND, reduced=True)


def test_committed_runs_name_no_host(root):
    known = {"processor", "features", "cores", "jaxlib"}
    for path in (root / bench.COMMITTED).glob("*.json"):
        held = json.loads(path.read_text())
        assert set(held) <= {"machine", "full", "reduced"} and set(held["machine"]) == known
        assert path.name == f"{bench.Kind(**held['machine']).name}.json"
        for size in held.keys() - {"machine"}:
            assert len(held[size]["commit"]) == 40


def test_benchmarks_need_a_checkout(tmp_path, monkeypatch):
    assert (bench.checkout() / "pyproject.toml").is_file()
    monkeypatch.setattr(bench, "_PACKAGE", tmp_path / "fedsim")
    with pytest.raises(RequestError, match="benchmarks are not part of an installed fedsim"):
        bench.checkout()
