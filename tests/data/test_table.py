# mypy: disable-error-code="arg-type, index, union-attr"
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.base import RequestError, build
from fedsim.config import Natural, Preprocess, Table
from fedsim.data import describe, load
from fedsim.data.partition import partitions
from fedsim.data.preprocess import fit
from fedsim.data.splits import assign
from fedsim.data.table import with_site

GOOD = """hospital,age,sex,smoker,nyha,died
Örebro,70,F,true,2,0
Halland,61,M,false,3,1
Örebro,55,,true,1,1
Halland,,M,,2,0
Kronoberg,80,F,false,4,1
"""


@pytest.fixture
def read(tmp_path):
    def read(text, *, name="cohort.csv", encoding="utf-8", **options):
        path = tmp_path / name
        if text is not None:
            path.write_bytes(text.encode(encoding))
        return load(build(Table, {"path": str(path), "client": "hospital", "label": "died"} | options))

    return read


def test_numbers_categories_and_missing_values(read):
    fed = read(GOOD)
    assert list(fed.names) == ["Halland", "Kronoberg", "Örebro"]
    assert fed.features == ("age", "sex=M", "smoker", "nyha")
    nan = np.nan
    expected = [[61, 1, 0, 3], [nan, 1, nan, 2], [80, 0, 0, 4], [70, 0, 1, 2], [55, nan, 1, 1]]
    np.testing.assert_array_equal(fed.columns["x"], np.array(expected, np.float32))
    assert fed.columns["y"].tolist() == [1, 0, 1, 0, 1]
    assert (fed.kind, fed.classes, fed.labels) == ("binary", 2, ("0", "1"))


def test_parquet_and_other_delimiters_give_the_same(read, tmp_path):
    fed = read(GOOD)
    assert read(GOOD.replace(",", ";"), name="semicolon.csv", delimiter=";").fingerprint == fed.fingerprint
    assert read("\ufeff" + GOOD, name="mark.csv").fingerprint == fed.fingerprint
    from pyarrow import csv

    frame = csv.read_csv(tmp_path / "cohort.csv")
    frame = frame.set_column(2, "sex", pa.array(["F", "M", None, "M", "F"]).dictionary_encode())
    pq.write_table(frame, tmp_path / "cohort.parquet")
    assert read(None, name="cohort.parquet").fingerprint == fed.fingerprint


def test_an_event_is_a_label_with_times(read):
    named = read(GOOD, time="nyha", event="died", label=None)
    assert named.fingerprint == read(GOOD, time="nyha").fingerprint
    assert read(GOOD, time="nyha", event="died").fingerprint == named.fingerprint
    assert named.kind == "survival" and named.columns["y"].tolist() == [1, 0, 1, 0, 1]


def test_columns_can_be_chosen(read):
    assert read(GOOD, features=["nyha", "age"]).features == ("nyha", "age")
    assert read(GOOD, drop=["sex", "smoker"]).features == ("age", "nyha")
    fed = read(GOOD, categorical=["nyha"], drop=["age", "sex"])
    assert fed.features == ("smoker", "nyha=2", "nyha=3", "nyha=4")


def test_a_column_of_one_level_is_noted(read):
    text = "hospital,age,sex,drug,died\nA,60,F,,0\nA,61,F,yes,1\nB,50,,yes,0\nB,51,F,,1\nC,70,M,yes,1\n"
    fed = read(text, external="C")
    assert fed.features == ("age",) and fed.metadata["C"] == {"unknown_categories": {"sex": 1}}
    made = "in the rows that train, so it makes no feature; if its"
    sex, drug = fed.notes
    assert sex.startswith(f"column 'sex' has one level (F) {made} 1 empty cells mean another level, write")
    assert drug.startswith(f"column 'drug' has one level (yes) {made} 2 empty cells mean")
    assert describe(fed)["notes"] == list(fed.notes)
    (full,) = read(text.replace("B,50,,", "B,50,F,"), external="C", drop=["drug"]).notes
    assert full == "column 'sex' has one level (F) in the rows that train, so it makes no feature"
    assert read(text).notes == (drug,)  # of sex there are two now
    assert read(GOOD).notes == ()


def test_two_units_in_a_column_of_numbers_are_noted_where_they_are(read):
    cells = [(f"{k}", "A", 80.0 + k, k % 2) for k in range(60)]
    cells += [(f"{k}", "B", (80 + k) / (88.4 if k % 3 == 0 else 1), k % 2) for k in range(60)]
    rows = "\n".join(f"{who},{age},{value:.3f},{died}" for age, who, value, died in cells)
    (note,) = read(f"hospital,age,creatinine,died\n{rows}\n").notes
    assert note.startswith("B: column 'creatinine' has 20 values around 1.2") and "write them in one" in note


def test_a_column_of_which_a_client_has_no_value_is_named(read):
    text = "hospital,phenotype,ef,died\nA,,,0\nA,,,1\nB,reduced,30,0\nB,preserved,,1\nC,reduced,NA,1\n"
    fed = read(text, external="C")
    assert fed.metadata["A"] == {"without_values": {"phenotype": 2, "ef": 2}} and "B" not in fed.metadata
    assert fed.metadata["C"]["without_values"] == {"ef": 1}
    assert describe(fed)["per_client"][0]["without_values"] == {"phenotype": 2, "ef": 2}


def test_stages_and_doses_are_categories(read):
    rows = ["1,5 mg,1 vessel", "2,10 mg,2 vessels", "3a,5 mg,2 vessels", "3b,20 mg,none", "3a,10 mg,none"]
    text = "hospital,stage,dose,disease,died\n" + "".join(f"A,{r},{i % 2}\n" for i, r in enumerate(rows))
    found = read(text)
    assert found.features == (
        *("stage=2", "stage=3a", "stage=3b"),
        *("dose=20 mg", "dose=5 mg"),
        *("disease=2 vessels", "disease=none"),
    )


def test_numbers_as_categories_sort_by_value(read):
    text = "hospital,code,died\nA,1234568,0\nA,9,1\nB,1234567,1\nB,,0\nB,10.5,0\n"
    fed = read(text, categorical=["code"])
    assert fed.features == ("code=10.5", "code=1234567", "code=1234568")
    np.testing.assert_array_equal(fed.columns["x"][3], [np.nan] * 3)
    np.testing.assert_array_equal(fed.columns["x"][1], [0, 0, 0])


def test_levels_come_from_clients_that_train(read):
    text = GOOD.replace("Kronoberg,80,F,false", "Karolinska,80,X,false")
    fed = read(text, external="Karolinska")
    assert fed.external == frozenset({1}) and fed.names[1] == "Karolinska"
    assert fed.features[1:2] == ("sex=M",)
    outside = fed.columns["x"][fed.client_of_row() == 1]
    assert outside[0, 1] == 0  # as the reference level, not missing
    assert fed.metadata == {"Karolinska": {"unknown_categories": {"sex": 1}}}
    assert describe(fed)["per_client"][1]["unknown_categories"] == {"sex": 1}
    assert "sex=X" in read(text).features


def test_a_time_makes_the_label_an_event(read):
    text = "hospital,age,died,days,w\nA,1,no,10,1\nA,2,yes,3.5,2\nB,3,yes,7,0.5\n"
    fed = read(text, time="days", weight="w")
    assert (fed.kind, fed.classes, fed.labels, fed.features) == ("survival", 2, ("no", "yes"), ("age",))
    for column, expected in {"time": [10, 3.5, 7], "weight": [1, 2, 0.5]}.items():
        assert fed.columns[column].tolist() == expected and fed.columns[column].dtype == np.float32
    rows = np.array([2, 0])
    assert fed.labels_of(rows).tolist() == [1, 0] and fed.times_of(rows).tolist() == [7, 10]
    assert describe(fed)["per_client"][0] | {"missing_share": 0} == {
        "name": "A", "rows": 2, "external": False, "label_share": {"no": 0.5, "yes": 0.5},
        "time_median": 6.75, "missing_share": 0,
    }  # fmt: skip
    everyone = read("hospital,age,died,days\nA,1,1,10\nB,3,1,7\n", time="days")
    assert (everyone.kind, everyone.columns["y"].tolist()) == ("survival", [1, 1])
    assert read(text, weight="w").times_of(rows) is None


def test_rows_of_a_patient_lie_side_by_side(read):
    text = "hospital,who,age,died\nB,p2,1,0\nA,p9,2,1\nB,p1,3,1\nB,p2,4,0\nA,p2,5,1\nA,p9,6,0\n"
    fed = read(text, patient="who")
    assert fed.features == ("age",)
    assert fed.columns["patient"].dtype == np.int32
    groups = [fed.columns["x"][fed.columns["patient"] == p, 0].tolist() for p in range(4)]
    assert sorted(map(tuple, groups)) == [(1, 4), (2, 6), (3,), (5,)]  # p2 of A is another than p2 of B
    assert (np.diff(fed.columns["patient"]) >= 0).all()
    assert fed.client_of_row()[np.searchsorted(fed.columns["patient"], range(4))].tolist() == [0, 0, 1, 1]
    assert "patient" not in read(text, drop=["who"]).columns


@pytest.mark.parametrize(
    ("labels", "options", "expected"),
    [
        (["no", "yes", "no"], {}, ("binary", 2, ("no", "yes"), [0, 1, 0])),
        ([2, 1, 2], {}, ("binary", 2, ("1", "2"), [1, 0, 1])),
        (["a", "c", "b"], {}, ("multiclass", 3, ("a", "b", "c"), [0, 2, 1])),
        ([5, 1, 3], {}, ("multiclass", 3, ("1", "3", "5"), [2, 0, 1])),
        ([0.5, 1.5, 2.5], {}, ("regression", 0, (), [0.5, 1.5, 2.5])),
        ([0, 1, 1], {"kind": "regression"}, ("regression", 0, (), [0, 1, 1])),
        (["true", "false", "true"], {}, ("binary", 2, ("0", "1"), [1, 0, 1])),
    ],
)
def test_kinds_of_labels(read, labels, options, expected):
    rows = "".join(f"A,{i},{label}\n" for i, label in enumerate(labels))
    fed = read("hospital,age,died\n" + rows, **options)
    assert (fed.kind, fed.classes, fed.labels, fed.columns["y"].tolist()) == expected


def test_many_whole_numbers_are_a_quantity(read):
    text = "hospital,age,died\n" + "".join(f"A,{i},{i}\n" for i in range(21))
    assert read(text).kind == "regression"
    assert read(text, kind="multiclass").classes == 21


def test_a_client_with_one_row_trains_with_it(read):
    fed = read(GOOD)
    (part,) = partitions(fed, assign(fed, Natural(), 0), Natural(test=0.4, valid=0.2), 0)
    assert (part.train[1], part.valid[1], part.test[1]) == (1, 0, 0)
    for scope in ("federated", "client", "pooled"):
        constants = fit(fed.columns["x"], part, Preprocess(scope=scope))
        assert np.isfinite(constants.scale).all() and np.isfinite(constants.impute).all()
    assert describe(fed)["per_client"][1]["label_share"] == {"0": 0.0, "1": 1.0}


BAD = {
    "empty": ("", {}, "cohort.csv is empty"),
    "no rows": ("hospital,age,died\n", {}, "header but no rows"),
    "delimiter": (
        GOOD.replace(",", ";"),
        {},
        "only one column was found in cohort.csv with data.delimiter=','; the header looks separated by ';'",
    ),
    "delimiter of two": (GOOD, {"delimiter": "::"}, "data.delimiter must be one character"),
    "ragged": ("hospital,age,died\nA,1,0\nB,2\n", {}, "cannot be read.*Expected 3 columns, got 2"),
    "patient missing": (
        "hospital,who,age,died\nA,1,1,0\nB,,2,1\n",
        {"patient": "who"},
        "data.patient: column 'who' is empty in 1 rows, first in row 2",
    ),
    "same column": ("hospital,age,age,died\nA,1,1,0\n", {}, r"two columns called \['age'\]"),
    "client column": (
        GOOD,
        {"client": "hospitl"},
        "data.client: no column 'hospitl'.*did you mean 'hospital'",
    ),
    "label column": (GOOD, {"label": "dead"}, "data.label: no column 'dead'.*did you mean 'died'"),
    "feature column": (GOOD, {"features": ["aeg"]}, "data.features: no column 'aeg'.*did you mean 'age'"),
    "dropped column": (GOOD, {"drop": ["Age"]}, "data.drop: no column 'Age'"),
    "label as feature": (GOOD, {"features": ["died"]}, "'died' is already the label column"),
    "used and dropped": (GOOD, {"features": ["age"], "drop": ["age"]}, "'age' is in data.drop too"),
    "two roles": (GOOD, {"weight": "died"}, "are both column 'died'"),
    "external": (GOOD, {"external": "Karolinska"}, "data.external: no client 'Karolinska'"),
    "all external": (GOOD, {"external": ["Örebro", "Halland", "Kronoberg"]}, "are external, so none is left"),
    "one class": (
        GOOD.replace(",1\n", ",0\n"),
        {},
        r"column 'died' has only one value \(0.0\) in all 5 training rows",
    ),
    "one class inside": (
        "hospital,age,died\nA,1,0\nA,2,0\nB,3,1\n",
        {"external": "B"},
        "only one value .* in all 2 training rows",
    ),
    "label missing": (
        GOOD.replace("3,1\n", "3,\n"),
        {},
        "data.label: column 'died' is empty in 1 rows, first in row 2",
    ),
    "label infinite": ("hospital,age,died\nA,1,0\nA,2,inf\n", {}, "'died' is infinite in row 2"),
    "label not binary": (
        GOOD,
        {"label": "nyha", "kind": "binary"},
        r"4 distinct values \(1, 2, 3, 4\), but data.kind=binary needs 2; make a label of two",
    ),
    "label not a number": (GOOD, {"label": "hospital", "client": "sex", "kind": "regression"}, "client"),
    "text regression": (
        "hospital,age,died\nA,1,no\nB,2,yes\n",
        {"kind": "regression"},
        "holds text .*data.kind=regression",
    ),
    "client missing": (
        GOOD.replace("Halland,61", ",61"),
        {},
        "data.client: column 'hospital' is empty in 1 rows, first in row 2",
    ),
    "client spaces": (
        GOOD.replace("Halland,61", "Halland ,61"),
        {},
        "'Halland' and 'Halland ' .* differ only",
    ),
    "client capitals": (
        GOOD.replace("Halland,61", "HALLAND,61"),
        {},
        "'HALLAND' and 'Halland' .* differ only",
    ),
    "client letters": (
        GOOD.replace("Örebro,70", "O\u0308rebro,70"),
        {},
        "differ only in spaces, capitals or",
    ),
    "all missing": (
        "hospital,age,bmi,died\nA,1,,0\nB,2,NA,1\n",
        {},
        r"'bmi' has no value.*data.drop=\[bmi\]",
    ),
    "all missing inside": (
        "hospital,age,bmi,died\nA,1,,0\nA,2,,1\nB,2,25,1\n",
        {"external": "B"},
        "'bmi' has no value in any training",
    ),
    "infinite": (GOOD.replace("80", "inf"), {}, r"column 'age' has an infinite value .* \(inf\) in row 5"),
    "too large": (GOOD.replace("80", "1e300"), {}, r"'age' .* beyond float32 \(1e\+300\) in row 5"),
    "text in numbers": (
        GOOD.replace("80", "eighty"),
        {},
        r"column 'age' holds numbers, but 'eighty' in row 5 is text \(1 such",
    ),
    "decimal comma": (
        GOOD.replace(",", ";").replace("70;", "70,5;").replace("61;", "61,2;").replace("80;", "80,1;"),
        {"delimiter": ";"},
        "'age' writes decimals with a comma .'70,5' in row 1",
    ),
    "units": (
        "hospital,hb,died\nA,131,0\nA,12.5 g/dL,1\nB,13.1 g/dL,0\nB,11.9g/dL,1\n",
        {},
        "'hb' mixes units: '131' in row 1, '12.5 g/dL' in row 2; write numbers of one unit.*data.categorical",
    ),
    "two units": (
        "hospital,hb,died\n"
        + "".join(f"A,{110 + i} g/L,{i % 2}\nB,{11 + i / 10} g/dL,0\n" for i in range(30)),
        {},
        "'hb' mixes units: '110 g/L' in row 1, '11.0 g/dL' in row 2",
    ),
    "dates": ("hospital,age,died\nA,2020-01-01,0\nB,2021-01-01,1\n", {}, "'age' holds date32.*data.drop"),
    "identifiers": (
        "hospital,name,died\n" + "".join(f"A,patient {i},{i % 2}\n" for i in range(50)),
        {},
        "'name' has 50 distinct values in 50 training rows.*identifier",
    ),
    "no features": (GOOD, {"drop": ["age", "sex", "smoker", "nyha"]}, "no feature column is left"),
    "three events": (
        GOOD,
        {"label": "nyha", "time": "age"},
        r"'nyha' has 4 distinct values \(1, .*, but with times",
    ),
    "no event": (
        "hospital,age,died,t\nA,1,0,1\nB,2,0,4\n",
        {"time": "t"},
        "'died' is 0 in all 2 rows: no event",
    ),
    "no event inside": (
        "hospital,age,died,t\nA,1,0,1\nB,2,1,4\n",
        {"time": "t", "external": "B"},
        "no event in any training row",
    ),
    "negative time": (
        "hospital,age,died,t\nA,1,0,-1\nB,2,1,4\n",
        {"time": "t"},
        "data.time.*got -1 in row 1",
    ),
    "time of 0": (
        "hospital,age,died,t\nA,1,0,1\nB,2,1,0\n",
        {"time": "t"},
        "above 0 .1 of 2.*got 0 in row 2",
    ),
    "time missing": (
        "hospital,age,died,t\nA,1,0,1\nB,2,1,\n",
        {"time": "t"},
        "data.time: column 't' is empty in 1",
    ),
    "time infinite": (
        "hospital,age,died,t\nA,1,0,1\nB,2,1,inf\n",
        {"time": "t"},
        "data.time.*infinite in row 2",
    ),
    "event without time": (GOOD, {"event": "died"}, "data.event=died says whether.*set data.time=COLUMN"),
    "event and another label": (GOOD, {"event": "sex", "time": "age"}, "sex and data.label=died.*differ"),
    "neither event nor label": (GOOD, {"label": None}, "data.label names the column.*missing"),
    "absent event": (GOOD, {"event": "dead", "label": None, "time": "age"}, "data.event: no column 'dead'"),
    "time as text": (GOOD, {"time": "sex"}, "data.time"),
    "absent time": (GOOD, {"time": "days"}, "data.time: no column 'days'"),
    "kind without time": (GOOD, {"kind": "survival"}, "data.kind=survival needs the times.*data.time=COLUMN"),
    "time of a class": (GOOD, {"kind": "binary", "time": "age"}, "data.kind=binary asks for something else"),
    "text weight": (
        GOOD.replace(",,true", ",F,true"),
        {"weight": "sex"},
        "data.weight.*must hold numbers, got 'F'",
    ),
    "zero weight": ("hospital,age,died,w\nA,1,0,0\nB,2,1,0\n", {"weight": "w"}, "0 in every row"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_explained(read, case):
    text, options, message = BAD[case]
    with pytest.raises(RequestError, match=message):
        read(text, **options)


def test_unreadable_files_are_explained(read, tmp_path):
    with pytest.raises(RequestError, match=r"data.path: no file .*absent.csv"):
        read(None, name="absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RequestError, match="is a folder"):
        read(None, name="folder.csv")
    with pytest.raises(RequestError, match=r"cohort.parquet is not a readable Parquet file"):
        read(GOOD, name="cohort.parquet")
    with pytest.raises(RequestError, match=r"column 'hospital' of latin.csv is not UTF-8"):
        read(GOOD, name="latin.csv", encoding="latin-1")
    with pytest.raises(RequestError, match=r"the header of latin.csv is not UTF-8"):
        read(GOOD.replace("age", "ålder"), name="latin.csv", encoding="latin-1")


def test_missing_values_that_nothing_fills_are_refused(read):
    with pytest.raises(RequestError, match=r"feature age has missing values.*impute=mean"):
        read(GOOD, preprocess={"impute": "none"})
    with pytest.raises(RequestError, match=r"data.mode=generated needs a source that makes its rows"):
        read(GOOD, mode="generated")


def test_a_calendar_and_kept_columns_are_no_features(read):
    text = "hospital,died,when,sex,deprivation,age\n"
    text += "b,1,2020-01-02,f,,60\na,0,1970-01-02,m,2,70\na,1,2019-12-31,,3,80\n"
    fed = read(text, calendar="when", keep=("sex", "deprivation"))
    assert fed.features == ("age",) and set(fed.columns) == {"x", "y"}
    assert fed.calendar.tolist() == [1, 18_261, 18_263]  # clients are sorted by name
    assert fed.kept["sex"].tolist() == ["m", "", "f"]
    np.testing.assert_array_equal(fed.kept["deprivation"], [2, 3, np.nan])
    both = read(text, calendar="when", keep=("deprivation",), features=("age", "deprivation"))
    assert both.features == ("age", "deprivation") and "deprivation" in both.kept
    for date in ("2020-01-02", "1970-01-02", "2019-12-31"):
        text = text.replace(date, date[:4])
    years = read(text, calendar="when")
    assert years.calendar.tolist() == [1970, 2019, 2020]
    prints = {f.fingerprint for f in (fed, both, years, read(text, drop=("when", "sex")))}
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (("2020-01-02", ""), {"calendar": "when"}, "'when' is empty in 1 rows, first in row 1"),
        (
            ("2020-01-02", "soon"),
            {"calendar": "when"},
            "neither a date nor a number; write dates as 2024-12-31",
        ),
        (("", ""), {"calendar": "date"}, "no column 'date'"),
        (("", ""), {"keep": ("gender",)}, "data.keep: no column 'gender'"),
        (("", ""), {"calendar": "died"}, "are both column 'died'"),
    ],
)
def test_calendars_that_are_none_are_explained(read, change, options, words):
    text = "hospital,died,when,age\nb,1,2020-01-02,60\na,0,1970-01-02,70\na,1,2019-12-31,80\n"
    with pytest.raises(RequestError, match=words):
        read(text.replace(*change) if change[0] else text, **options)


SITE = """age,died,sex,nyha,extra
66,1,F,3,9
59,0,X,2,9
"""


@pytest.fixture
def beside(tmp_path):
    """GOOD, and a site's own file."""

    def call(text, name="site.csv", **options):
        (tmp_path / "cohort.csv").write_text(GOOD)
        (tmp_path / name).write_text(text)
        asked = {"path": str(tmp_path / "cohort.csv"), "client": "hospital", "label": "died"} | options
        return with_site(build(Table, asked), str(tmp_path / name), "Karolinska")

    return call


def test_a_sites_own_file_is_coded_as_the_table_is(read, beside):
    """As if its rows were in the table: the levels of clients that train, what has no column missing."""
    fed = beside(SITE)
    together = GOOD + "Karolinska,66,F,,3,1\nKarolinska,59,X,,2,0\n"
    same = read(together, external="Karolinska")
    assert fed.fingerprint == same.fingerprint and fed.features == read(GOOD).features
    assert [fed.names[k] for k in fed.external] == ["Karolinska"]
    known = {"unknown_categories": {"sex": 1}, "without_values": {"smoker": 2}}
    assert fed.metadata == same.metadata == {"Karolinska": known}
    column = fed.features.index("smoker")
    assert np.isnan(fed.columns["x"][fed.client_of_row() == fed.names.index("Karolinska"), column]).all()


def test_of_a_file_of_many_sites_one_is_taken(beside):
    many = SITE.replace("age", "hospital,age").replace("66", "Karolinska,66").replace("59", "Lund,59")
    fed = beside(many)
    assert fed.rows == 6 and "Lund" not in fed.names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("died", "dead"), "site.csv has no column 'died'"),
        (lambda text: text.replace("66", "old").replace("59", "young"), "column 'age' holds string"),
        (lambda text: text.replace("F", "1").replace("X", "0"), "column 'sex' holds int64"),
        (
            lambda text: "hospital," + text.replace("\n6", "\nLund,6").replace("\n5", "\nLund,5"),
            "no client 'Karol",
        ),
        (lambda text: text.replace("66,1", "66,"), "is empty in 1 rows"),
    ],
)
def test_a_sites_file_that_does_not_fit_is_explained(beside, change, said):
    with pytest.raises(RequestError, match=said):
        beside(change(SITE))
