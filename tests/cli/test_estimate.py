import csv
import io
import json
import re

import numpy as np
import pytest

COHORT = "data=table data.path=cohort.csv data.client=hospital data.label=died data.time=days"


@pytest.fixture
def cohort(here):
    rng = np.random.default_rng(0)
    n = 90
    rows = zip(
        rng.choice(["Lund", "Umeå"], n),
        rng.integers(0, 2, n),
        rng.integers(1, 200, n),
        rng.integers(0, 2, n),
        rng.integers(0, 30, n),
        strict=True,
    )
    text = "hospital,treated,days,died,person\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    (here / "cohort.csv").write_text(text, encoding="utf-8")
    return here


def test_json_is_one_document_with_all_of_the_curve(fedsim, cohort):
    said = fedsim(f"estimate kaplan_meier {COHORT} data.drop=[person] by=treated --json")
    found = json.loads(said.out)
    assert said.code == 0 and found["what"] == "kaplan_meier" and set(found["bytes"]) == {"Lund", "Umeå"}
    assert [g["group"] for g in found["groups"]] == ["treated=0", "treated=1"]
    assert sum(g["n"] for g in found["groups"]) == 90
    curve = found["groups"][0]["curve"]
    assert len(curve["time"]) == len(curve["survival"]) == len(curve["low"])


def test_the_account_is_printed_with_what_it_rests_on(fedsim, cohort):
    line = f"estimate kaplan_meier {COHORT} data.patient=person epsilon=2 horizon=150 bins=3"
    said = fedsim(f"{line} unit=patient rows_per_patient=4")
    assert said.code == 0, said.err
    for text in ("epsilon 2 at delta 0", "unit: patient", "relation: add_or_remove_one", "4 at most"):
        assert text in said.out
    gaussian = fedsim(f"{line} mechanism=discrete_gaussian delta=1e-6")
    assert "at delta 1e-06" in gaussian.out and "accountant: rdp" in gaussian.out


def test_tables_can_be_had_as_csv_and_markdown(fedsim, here):
    line = "estimate table_one data=heart_disease variables=[age,label]"
    rows = list(csv.reader(io.StringIO(fedsim(f"{line} --format csv").out)))
    assert rows[0] == ["variable", "", "Cleveland", "Hungary", "Long Beach", "Switzerland", "all", "smd"]
    assert rows[1][2:7] == ["303", "294", "200", "123", "920"]
    assert {len(row) for row in rows} == {8}
    lines = fedsim(f"{line} --format markdown").out.splitlines()
    assert lines[1] == "|---|---|---|---|---|---|---|---|" and lines[0].startswith("| variable |")


@pytest.mark.parametrize(
    "line",
    [
        "logrank {} by=treated",
        "logrank {} by=client --format markdown",
        "quantiles {} variables=[time] epsilon=1 range=[0,200]",
        "quantiles {} variables=[time,person] minimum_count=5 --format csv",
        "table_one {} minimum_count=5",
    ],
)
def test_every_statistic_answers(fedsim, cohort, line):
    said = fedsim("estimate " + line.format(COHORT))
    assert said.code == 0 and len(said.out.splitlines()) > 1, said.err
    assert json.loads(fedsim("estimate " + line.format(COHORT) + " --json").out)["what"] == line.split()[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kaplan_meyer", "unknown statistic 'kaplan_meyer'; .* did you mean 'kaplan_meier'"),
        ("kaplan_meier", "needs data; set data=NAME"),
        ("kaplan_meier data=heart_disease", "no times to an event.*set data.time=COLUMN"),
        ("kaplan_meier data=heart_disease horizn=3", "unknown option horizn; .* did you mean 'horizon'"),
        ("kaplan_meier data=heart_disease by=age by=sex", "by is given twice"),
        ("kaplan_meier data=heart_disease at=1,2", r"at has several values; write a list, as in \[1,2\]"),
        ("kaplan_meier data=heart_disease epsilon=x", "epsilon must be a number, got 'x'"),
        ("quantiles data=heart_disease variables=[agee]", "no feature 'agee'; .* did you mean 'age'"),
        ("quantiles data=digits", "features have no names"),
        ("quantiles data=blobs", "rows are made while training"),
        (
            "table_one data=heart_disease --format pdf",
            "unknown format 'pdf'; choose one of csv, markdown",
        ),
        ("table_one data=heart_disease --formt csv", "unknown option '--formt'"),
        ("table_one data=heart_disease epsilon=1", "table_one is not there with differential privacy"),
        ("logrank data=heart_disease", "a log-rank test compares groups; set by=FEATURE"),
    ],
)
def test_a_wrong_request_says_what_to_do(fedsim, here, line, message):
    said = fedsim(f"estimate {line}")
    assert (said.code, said.out) == (2, "") and re.search(message, said.err), said.err


def test_times_that_are_not_above_0_and_no_event_are_refused(fedsim, here):
    (here / "cohort.csv").write_text("hospital,days,died,x\na,0,1,1\nb,2,0,2\n")
    assert "must be finite and above 0" in fedsim(f"estimate kaplan_meier {COHORT}").err
    (here / "cohort.csv").write_text("hospital,days,died,x\na,1,0,1\nb,2,0,2\n")
    assert "no event happened" in fedsim(f"estimate kaplan_meier {COHORT}").err
