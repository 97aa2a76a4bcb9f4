"""The experiments that come with fedsim plan as they say."""

from collections import Counter
from math import prod
from typing import Any

import pytest

from fedsim import plan
from fedsim.base import RequestError
from fedsim.cli import requested
from fedsim.cli.compose import compose, parse
from fedsim.resources import folder
from fedsim.store import run_id

NAMES = sorted(path.parent.name for path in folder("experiments").glob("*/sweep.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_plans_in_both_variants(name):
    full, small = plan.read(name), plan.read(name, reduced=True)
    assert full.name == name
    cells = plan.cells(full, compose, parse)
    assert 0 < len(plan.cells(small, compose, parse)) < len(cells)
    text = (folder("experiments") / name / "sweep.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# fedsim sweep {name}\n") and "# Headline: " in text and "# Cost: " in text
    assert (folder("experiments") / name / "README.md").is_file()
    assert len({run_id(cell.experiment, "any data") for cell in cells}) == len(cells)
    # Pictures in idx files are the user's own: without them there is nothing to identify.
    here = [cell for cell in cells if cell.experiment.data.name != "idx"]
    try:
        assert here and len(requested.identify(here)) == len(here)
    except RequestError as error:
        if "data.path: no folder" not in str(error):
            raise
        pytest.skip(f"its data are not in the repository: {error}")


def test_heart_disease_is_236_cells_from_one_composition():
    calls = []

    def counted(picks, more):
        calls.append((picks, more))
        return compose(picks, more)

    cells: Any = plan.cells(plan.read("heart_disease"), counted, parse)
    assert len(cells) == 236 and len(calls) == 1
    private = [cell for cell in cells if cell.labels["epsilon"] != "none"]
    assert len(private) == 6 and not any(cell.experiment.tune.grid for cell in private)
    cells = [cell for cell in cells if cell not in private]
    count = Counter((cell.labels["algorithm"], cell.labels["split"]) for cell in cells)
    assert set(count.values()) == {10} and len(count) == 23
    assert ("local", "leave_one_out") not in count
    for cell in cells:
        split = cell.experiment.split
        assert split.leave_one_out == (cell.labels["split"] == "leave_one_out") == (split.folds == 0)
        assert cell.experiment.algorithm.name == cell.labels["algorithm"]

    # As many candidates for every method.
    tuned = [cell.experiment.tune for cell in cells]
    assert len({prod(len(values) for values in tune.grid.values()) for tune in tuned}) == 1
    assert len({tune.rounds for tune in tuned}) == 1
