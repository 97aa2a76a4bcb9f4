"""Plans count by their bytes, and attempts are only added to."""

import hashlib
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from fedsim.base import RequestError
from fedsim.validation.attempts import Attempts, attempt_id, read_plan, text_of
from tests.validation import made

TIMED = {"metrics": ("c_index",), "thresholds": (), "updates": ("keep",)}
FOUND = {"site": "S", "choice": {"update": "keep"}}


def test_a_plan_is_its_bytes(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_bytes(text_of(made.plan()))
    plan, found = read_plan(path)
    assert plan == made.plan() and text_of(plan) == path.read_bytes()
    assert found == hashlib.sha256(path.read_bytes()).hexdigest()
    assert text_of(made.plan(alpha=0.01)) != path.read_bytes()
    assert b"horizon" not in path.read_bytes()  # as plans were written before there was one
    assert b"groups" not in path.read_bytes()
    columns: list[dict[str, Any]] = [{}, {"age": [65]}, {"age": [65, 80]}, {"sex": []}]
    apart = [made.plan(groups=groups) for groups in columns]
    assert len({text_of(one) for one in apart}) == 4 and text_of(apart[0]) == path.read_bytes()
    path.write_bytes(text_of(apart[2]))
    assert read_plan(path)[0] == apart[2]
    path.write_bytes(text_of(made.plan(horizon=2.5, **TIMED)))
    assert read_plan(path)[0].horizon == 2.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("alpha: 0.05", "alpha: 0.050"), "edited by hand"),
        (lambda text: text + "# a remark\n", "edited by hand"),
        (lambda text: text.replace("alpha: 0.05", "alpha: 2"), "alpha must be in (0, 1), got 2"),
        (lambda text: text + "beta: 1\n", "unknown option beta"),
        (lambda text: "[", "is no YAML"),
        (lambda text: "- 1\n", "must be a mapping"),
    ],
)
def test_a_plan_that_was_changed_is_refused(tmp_path, change, said):
    path = tmp_path / "plan.yaml"
    path.write_text(change(text_of(made.plan()).decode()))
    with pytest.raises(RequestError) as error:
        read_plan(path)
    assert said in str(error.value)
    with pytest.raises(RequestError, match=r"no plan .*other\.yaml; write one with --write-plan"):
        read_plan(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": ("auc",)}, "metrics must be of"),
        ({"metrics": ()}, "metrics must name one"),
        ({"metrics": ("auroc", "auroc"), "thresholds": ()}, "metrics must differ"),
        ({"thresholds": (0.5, 0.1)}, "thresholds must rise"),
        ({"thresholds": (0.0,)}, "thresholds must rise"),
        ({"thresholds": ()}, "net_benefit and thresholds go together"),
        ({"updates": ("intercept",)}, "keep among them"),
        ({"updates": ("keep", "slope", "intercept")}, "in this order"),
        ({"alpha": 0.0}, "alpha must be in"),
        ({"bootstrap": 10}, "bootstrap must be in"),
        ({"folds": 1}, "folds must be in"),
        ({"seed": -1}, "seed must be in"),
        ({"ridge": -1.0}, "ridge must be in"),
        ({"groups": {"age": [65, 60]}}, "groups.age must be rising numbers"),
        ({"horizon": 0.0, **TIMED}, "horizon must be in"),
        (
            {"horizon": 1.0, **TIMED, "updates": ("keep", "baseline", "intercept")},
            "updates must be of keep, intercept, slope",
        ),
        (
            {"horizon": 1.0, **TIMED, "updates": ("keep", "slope", "baseline")},
            "updates must be of keep, baseline, slope",
        ),
        ({"horizon": 1.0, **TIMED, "metrics": ("auroc",)}, "metrics must be of c_index"),
        ({"updates": ("keep", "baseline")}, "updates must be of keep, intercept, slope"),
    ],
)
def test_plans_have_ranges(options, said):
    with pytest.raises(RequestError, match=said):
        made.plan(**options)


def test_what_was_known_when_a_plan_was_written_stays(tmp_path):
    attempts = Attempts(tmp_path, "a1")
    first, note = attempts.register(made.plan(), judged=False)
    assert note["looked"] == [] and attempts.registered(first) == note
    assert attempts.registered("0" * 64) is None
    attempts.write("0123", FOUND, {"metrics": [{"value": 0.5}, {"value": None}], "updates": []})
    second, later = attempts.register(made.plan(alpha=0.01), judged=True)
    assert second != first and later["looked"] == [
        "attempt 0123",
        "the run itself, which stored metrics there",
    ]
    assert attempts.register(made.plan(), judged=True) == (first, note)  # as it was written
    assert attempts.register(made.plan(site="T"), judged=False)[1]["looked"] == []
    assert Attempts(tmp_path, "other").registered(first) is None


def test_attempts_are_added_never_changed(tmp_path):
    attempts = Attempts(tmp_path, "a1")
    stored = attempts.write("0123", FOUND, {"metrics": [{"value": 0.5}, {"value": None}], "updates": []})
    again = attempts.write("0123", FOUND | {"choice": {"update": "refit"}}, {"metrics": []})
    assert again == stored == attempts.stored("0123") and stored["choice"]["update"] == "keep"
    folder = tmp_path / ".validation" / "a1" / "0123"
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "metrics.parquet"}
    assert pq.read_table(folder / "metrics.parquet").to_pydict() == {"value": [0.5, None]}
    assert json.loads((folder / "manifest.json").read_text())["source"]
    attempts.write("4567", FOUND | {"site": "T"}, {})
    assert [one["attempt"] for one in attempts.list()] == ["0123", "4567"]
    assert [one["attempt"] for one in attempts.list("T")] == ["4567"]
    assert not list(folder.parent.glob(".tmp-*"))


def test_an_id_follows_from_plan_and_rows():
    assert attempt_id("a", "b") == attempt_id("a", "b") != attempt_id("a", "c") != attempt_id("b", "b")
    assert len(attempt_id("a", "b")) == 16
