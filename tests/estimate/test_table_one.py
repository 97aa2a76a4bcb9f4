import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.base import RequestError
from fedsim.config import HeartDisease
from fedsim.data import load
from fedsim.data.federation import gather
from fedsim.estimate import asked, estimate, shown
from fedsim.estimate.sites import sites_of
from fedsim.estimate.table_one import Category, said, send

FEATURES = ("age", "female", "stage=2", "stage=3")


@pytest.fixture(scope="module")
def federation():
    rng = np.random.default_rng(0)
    n = 120
    stage = rng.integers(1, 4, n)
    x = np.stack([rng.normal(60, 10, n), rng.random(n) < 0.4, stage == 2, stage == 3], axis=1)
    x[rng.random(n) < 0.1, 0] = np.nan
    x[:8, 2:] = np.nan
    return gather(
        ["abc"[i % 3] for i in range(n)],
        {"x": x.astype(np.float32), "y": (rng.random(n) < 0.3).astype(np.int32)},
        kind="binary", classes=2, features=FEATURES, labels=("alive", "dead"), licence="", source="made",
    )  # fmt: skip


def table(federation, **options):
    return estimate("table_one", asked("table_one", options), federation)


def test_it_is_what_pooled_rows_give(federation):
    found = table(federation)
    by = {one["variable"]: one for one in found["variables"]}
    assert list(by) == ["age", "label", "female", "stage"] and found["n"] == {
        "a": 40,
        "b": 40,
        "c": 40,
        "all": 120,
    }
    x, owner = federation.columns["x"].astype(np.float64), federation.client_of_row()
    for column, rows in {"a": owner == 0, "b": owner == 1, "all": owner >= 0}.items():
        age = x[rows, 0]
        age, cell = age[~np.isnan(age)], by["age"]["cells"][column]
        assert cell["missing"] == rows.sum() - len(age)
        assert cell["mean"] == pytest.approx(age.mean()) and cell["sd"] == pytest.approx(age.std(ddof=1))
        assert cell["quartiles"] == pytest.approx(np.quantile(age, [0.25, 0.5, 0.75]).tolist())
        stage = x[rows, 2:]
        stage, cell = stage[~np.isnan(stage[:, 0])], by["stage"]["cells"][column]
        counts = [stage[:, 0].sum(), stage[:, 1].sum(), (stage.sum(axis=1) == 0).sum()]
        assert list(cell["counts"].items()) == list(zip(["2", "3", "another"], counts, strict=True))
        assert list(cell["shares"].values()) == pytest.approx([c / len(stage) for c in counts])
        assert cell["missing"] == rows.sum() - len(stage)
        assert by["label"]["cells"][column]["counts"]["dead"] == federation.columns["y"][rows].sum()


def test_differences_are_those_of_the_paper(federation):
    by = {one["variable"]: one for one in table(federation)["variables"]}
    x, owner = federation.columns["x"].astype(np.float64), federation.client_of_row()
    ages = [a[~np.isnan(a)] for a in (x[owner == k, 0] for k in range(3))]
    pairs = [(0, 1), (0, 2), (1, 2)]
    wanted = max(
        abs(ages[i].mean() - ages[j].mean()) / np.sqrt((ages[i].var(ddof=1) + ages[j].var(ddof=1)) / 2)
        for i, j in pairs
    )
    assert by["age"]["smd"] == pytest.approx(wanted)
    # Of two levels it is |p - q| over the root of the mean variance.
    p = [x[owner == k, 1].mean() for k in range(3)]
    wanted = max(abs(p[i] - p[j]) / np.sqrt((p[i] * (1 - p[i]) + p[j] * (1 - p[j])) / 2) for i, j in pairs)
    assert by["female"]["smd"] == pytest.approx(wanted)
    # Of several the Mahalanobis distance, whichever level is left out.
    counts = np.array([list(by["stage"]["cells"][c]["counts"].values()) for c in "abc"], float)
    share = counts / counts.sum(axis=1, keepdims=True)
    found = []
    for i, j in pairs:
        a, b = share[i][:2], share[j][:2]
        spread = (np.diag(a) - np.outer(a, a) + np.diag(b) - np.outer(b, b)) / 2
        found.append(np.sqrt((a - b) @ np.linalg.solve(spread, a - b)))
    assert by["stage"]["smd"] == pytest.approx(max(found))


def test_numbers_may_be_counted(federation):
    rounded = np.array(federation.columns["x"])
    rounded[:, 0] = np.round(rounded[:, 0], -1)
    fed = gather(
        ["ab"[i % 2] for i in range(120)], {"x": rounded, "y": federation.columns["y"]},
        kind="binary", classes=2, features=FEATURES, labels=("0", "1"), licence="", source="made",
    )  # fmt: skip
    (one,) = table(fed, variables=["age"], categorical=["age"])["variables"]
    assert sum(one["cells"]["all"]["counts"].values()) + one["cells"]["all"]["missing"] == 120
    assert "60" in one["levels"]
    with pytest.raises(RequestError, match="leave categorical out"):
        table(fed, categorical=["age"], minimum_count=5)


# --- at least k rows -------------------------------------------------------------------------


@given(st.integers(3, 6), st.lists(st.booleans(), min_size=3, max_size=40))
def test_nothing_that_leaves_a_site_is_of_fewer_than_k_rows(k, missing):
    n = len(missing)
    x = np.where(missing, np.nan, np.arange(n)).astype(np.float32)
    kinds = (np.arange(n) % 7 == 0).astype(np.float32)
    fed = gather(
        ["a"] * n, {"x": np.stack([x, kinds], axis=1), "y": np.zeros(n, np.int32)},
        kind="binary", classes=2, features=("x", "kind"), licence="", source="made",
    )  # fmt: skip
    (site,) = sites_of(fed)
    message = send(site, ["x"], [Category("kind", ("0", "1"), values=(0.0, 1.0))], k)
    present = int(message["present"][0])
    assert present == 0 or present >= k
    assert n - present == 0 or n - present >= min(k, n)
    assert message["batch_size"].sum() == present and (message["batch_size"] >= k).all()
    assert all(c in (-1, 0) or c >= k for c in message["counts/0"].tolist())
    # How many are missing follows from nothing: 1 to k of them give as many values.
    few = [said(_missing(fed, m), "x", k).size for m in range(1, min(k, n) + 1)]
    assert len(set(few)) == 1


def _missing(fed, m):
    x = np.arange(fed.rows, dtype=np.float32)
    x[:m] = np.nan
    columns = {**fed.columns, "x": np.stack([x, x], axis=1)}
    made = gather(
        ["a"] * fed.rows, columns,
        kind="binary", classes=2, features=("x", "kind"), licence="", source="made",
    )  # fmt: skip
    return sites_of(made)[0]


def test_sites_that_are_too_small_are_left_out(federation):
    fed = gather(
        ["a"] * 9 + ["b"] * 4,
        {"x": np.arange(13, dtype=np.float32)[:, None], "y": np.arange(13, dtype=np.int32) % 2},
        kind="binary", classes=2, features=("x",), labels=("0", "1"), licence="", source="made",
    )  # fmt: skip
    found = table(fed, minimum_count=5)
    assert found["left_out"] == [{"site": "b"}] and found["n"] == {"a": 9, "all": 9}
    with pytest.raises(RequestError, match="minimum_count=41: no site has 41 rows"):
        table(federation, minimum_count=41)


def test_a_total_is_hidden_where_a_site_hides():
    found = table(load(HeartDisease()), minimum_count=5)
    for one in found["variables"]:
        if "levels" not in one:
            continue
        for level in one["levels"]:
            parts = [one["cells"][c]["counts"][level] for c in found["columns"]]
            *own, whole = parts
            assert whole == (None if None in own else sum(own))
            assert all(c is None or c == 0 or c >= 5 for c in parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": ["agee"]}, "variables: no variable 'agee'; .*did you mean 'age'"),
        ({"categorical": ["stag"]}, "categorical: no variable 'stag'"),
        ({"minimum_count": 2}, "minimum_count must be >= 3, got 2"),
        ({"sites": ["d"]}, "sites: no client 'd'"),
    ],
)
def test_what_cannot_be_had_is_refused(federation, options, message):
    with pytest.raises(RequestError, match=message):
        table(federation, **options)


# --- shown -----------------------------------------------------------------------------------


def test_markdown_and_csv_have_the_cells_of_the_table(federation):
    (made,) = shown.tables(table(federation, variables=["age", "label"]))
    lines = shown.markdown(made).splitlines()
    assert lines[:2] == ["| variable |  | a | b | c | all | smd |", "|---|---|---|---|---|---|---|"]
    assert len(lines) == 2 + len(made.rows)
    first = shown.to_csv(made).splitlines()
    assert first[0] == "variable,,a,b,c,all,smd" and first[1] == "n,,40,40,40,120,"


def test_hidden_numbers_are_shown_as_such():
    (made,) = shown.tables(table(load(HeartDisease()), minimum_count=5))
    cells = [cell for row in made.rows for cell in row[2:]]
    assert "<k" in cells and "<=5" in cells
    assert not {"1", "2", "3", "4"} & {cell.partition(" (")[0] for cell in cells}
