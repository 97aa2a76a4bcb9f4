"""What is known of values in tables.yaml before there are runs."""

from fedsim.report.known import ALWAYS
from fedsim.simulate.judged import SETS


def test_sets_are_those_that_judge_a_run() -> None:
    assert ALWAYS["set"] == SETS
