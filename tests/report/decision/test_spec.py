"""decision.yaml: what is refused, and with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from yaml import safe_load

from fedsim.base import RequestError
from fedsim.report.decision import spec
from tests.report.decision.made import told, values, write


def refused(tmp_path: Path, **changes: Any) -> str:
    with pytest.raises(RequestError) as error:
        spec.load(write(tmp_path / "decision.yaml", **changes))
    return str(error.value)


def assumed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    found = values()["assumptions"]
    change(found)
    return {"assumptions": found}


def test_what_is_written_is_read(tmp_path: Path):
    found = spec.load(write(tmp_path / "decision.yaml"))
    assert found.assumptions.effect.assumed and found.regions[1].site == "Där"
    assert [arm.name for arm in found.arms] == ["alone", "together"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.update(rech=a.pop("reach")), "unknown option assumptions.rech; choose one of"),
        (lambda a: a.update(rech=a.pop("reach")), "did you mean 'reach'?"),
        (lambda a: a.pop("effect"), "assumptions.effect is required"),
        (
            lambda a: a.update(hour_cost=told(-1, 600, 700, "SEK/hour")),
            "assumptions.hour_cost must lie in 0 to 1e+15 SEK/hour, got -1, 600, 700; correct low",
        ),
        (lambda a: a.update(reach=told(0.5, 0.6, 60, "share")), "assumptions.reach must lie in 0 to 1 share"),
        (lambda a: a.update(reach=told(0.5, 0.4, 0.6, "share")), "low <= base <= high, got 0.5, 0.4, 0.6"),
        (
            lambda a: a.update(bed_day_cost=told(1, 2, 3, "EUR/day")),
            "assumptions.bed_day_cost.unit must be SEK/day, got EUR/day; give the numbers in SEK/day",
        ),
        (lambda a: a["reach"].pop("source"), "assumptions.reach.source is required"),
        (lambda a: a["reach"].update(shape="normal"), "shape must be one of triangular, uniform"),
        (lambda a: a["reach"].update(low=float("nan")), "assumptions.reach.low must be a number"),
    ],
)
def test_wrong_assumptions(tmp_path: Path, change: Callable[[dict[str, Any]], Any], said: str):
    assert said in refused(tmp_path, **assumed(change))


def test_other_errors(tmp_path: Path):
    first = values()["regions"][0]
    negative = told(-5, 1, 2, "patients/year")
    assert "capacity must lie in (0, 1), got 10" in refused(tmp_path, capacity=10)
    assert "years must lie in 1 to 100, got 0" in refused(tmp_path, years=0)
    assert "worthwhile must be >= 0 bed days, got -1" in refused(tmp_path, worthwhile=-1)
    assert "draws must lie in 1,000 to 1,000,000, got 10" in refused(tmp_path, draws=10)
    assert "regions must name at least one region" in refused(tmp_path, regions=[])
    assert "'Här' is used twice" in refused(tmp_path, regions=[first, first])
    assert "arms: the name 'alone' is used twice" in refused(tmp_path, choice=values()["baseline"])
    assert "patients of X must lie in 0" in refused(tmp_path, regions=[{"site": "X", "patients": negative}])
    assert "the name 'a b' of an arm" in refused(tmp_path, choice={**values()["choice"], "name": "a b"})
    assert "question.sv is required" in refused(tmp_path, question={"en": "Only English"})
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(RequestError, match=r"bad.yaml, line 2: not YAML"):
        spec.load(tmp_path / "bad.yaml")
    with pytest.raises(RequestError, match="does not exist; declare the decision there"):
        spec.load(tmp_path / "gone.yaml")


def test_those_of_the_experiments_can_be_read(root: Path):
    for path in root.glob("experiments/*/decision.yaml"):
        assert spec.load(path).regions, path


def test_the_example_of_the_docstring_is_one(tmp_path: Path):
    text = (spec.__doc__ or "").split("\n\n")[1].replace("source: ...", "source: x")
    found = safe_load(text)
    found["assumptions"] = {**values()["assumptions"], **found["assumptions"]}
    assert spec.load(write(tmp_path / "decision.yaml", **found)).years == 3
