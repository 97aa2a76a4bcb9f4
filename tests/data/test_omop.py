"""data=omop: a client per region, and what is said of it. The pipeline has its tests in tests/omop."""

import json

import numpy as np
import pytest
import yaml

from fedsim.base import RequestError, build
from fedsim.config import Omop
from fedsim.data import describe, load
from tests.omop.made import INDEX, MEASUREMENTS, OUTCOMES, base, death, lab, period, put

FEATURES = {
    "age": {"table": "person", "take": "age"},
    "potassium": {"table": "measurement", "take": "last", "measurement": "potassium"},
    "lvef": {"table": "measurement", "take": "last", "measurement": "lvef"},
}


def regions(folder, **changes):
    """Two regions, lund and malmö: the first of three patients dies; the second has no ejection
    fraction."""
    for name in ("malmö", "lund"):
        labs = [lab(i, i, 10, 4.0 + i / 10) for i in (1, 2, 3)]
        if name == "lund":
            labs += [lab(9, 1, 10, 35.0, unit="%", code="lvef")]
        tables = base(3, death=[death(1, INDEX + 90)], measurement=labs)
        put(folder, tables | changes.get(name, {}), name)


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "index": {"codes": ["I50"]},
                "features": FEATURES,
                "measurements": MEASUREMENTS,
                "outcomes": OUTCOMES,
            },
            sort_keys=False,
        )
    )

    def asked(**options):
        values = {"path": str(tmp_path / "regions"), "features": str(path)} | options
        return load(build(Omop, values, "data"))

    return asked


def test_regions_are_clients_in_name_order(asked, tmp_path):
    regions(tmp_path / "regions")
    fed = asked(external="malmö")
    assert (list(fed.names), fed.kind, fed.classes, fed.labels) == (
        ["lund", "malmö"],
        "binary",
        2,
        ("alive", "died"),
    )
    assert fed.external == {1} and fed.features == tuple(FEATURES)
    np.testing.assert_allclose(fed.columns["x"][:, 1], [4.1, 4.2, 4.3] * 2, rtol=1e-6)
    assert fed.columns["y"].tolist() == [1, 0, 0, 1, 0, 0]
    assert fed.calendar.tolist() == [18_262 + INDEX] * 6  # the index date; day 0 is 2020-01-01
    survival = asked(outcome="survival")
    assert (survival.kind, survival.columns["time"].tolist()) == ("survival", [90, 1900, 1900] * 2)
    assert asked(outcome="length_of_stay").kind == "regression"


def test_a_phenotype_that_is_nowhere_in_a_region_is_missing_there_and_said(asked, tmp_path):
    regions(tmp_path / "regions")
    fed = asked()
    assert np.isnan(fed.columns["x"][3:, 2]).all() and fed.columns["x"][0, 2] == 35
    told = json.loads(json.dumps(describe(fed), allow_nan=False))["per_client"]
    assert told[1]["empty"] == ["lvef"] and "empty" not in told[0]
    with pytest.raises(
        RequestError, match=r"lvef has no value in any region that trains; .*data.drop=\[lvef\]"
    ):
        asked(external="lund")
    assert asked(external="lund", drop=["lvef"]).features == ("age", "potassium")


def test_a_region_that_is_empty_in_a_column_can_train(asked, tmp_path):
    from fedsim.config import Natural, Preprocess
    from fedsim.data.partition import partitions
    from fedsim.data.preprocess import fit
    from fedsim.data.splits import assign

    regions(tmp_path / "regions")
    fed = asked()
    (part,) = partitions(fed, assign(fed, Natural(test=0.0), 0), Natural(test=0.0), 0)
    made = fit(fed.columns["x"], part, Preprocess())
    assert np.isfinite(
        np.concatenate([np.ravel(v) for v in vars(made).values() if isinstance(v, np.ndarray)])
    ).all()


REFUSED: dict[str, tuple[dict, dict, str]] = {
    "external": ({"external": "malmo"}, {}, r"data.external: no region 'malmo' in .*did you mean 'malmö'"),
    "all": ({"external": ["lund", "malmö"]}, {}, r"all regions \(lund, malmö\) are external"),
    "outcome": ({"outcome": "death"}, {}, r"data.outcome: no outcome 'death'"),
    "history": ({"history": -1}, {}, r"data.history must be >= 0 days, got -1"),
    "one": (
        {},
        {"lund": {"death": []}, "malmö": {"death": []}},
        r"data.outcome=death_1y is alive for all 6 patients",
    ),
    "events": (
        {"outcome": "survival"},
        {"lund": {"death": []}, "malmö": {"death": []}},
        r"data.outcome=survival is alive for all 6 patients",
    ),
    "nobody": (
        {},
        {"lund": {"observation_period": [period(i, last=INDEX + 5) for i in (1, 2, 3)]}},
        r"no patient of lund has an index date and a known death_1y; left out: not_followed 3",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_refused(asked, tmp_path, case):
    options, changes, message = REFUSED[case]
    regions(tmp_path / "regions", **changes)
    with pytest.raises(RequestError, match=message):
        asked(**options)
