"""Columns of Arrow from NumPy and back, without pandas."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedsim.store.columns import NONE, column, floats, ints, numbers, repeated, table, tables, texts
from fedsim.store.files import _parquet

HALVES: list[float | None] = [0.5, None, float("nan"), 2.5, None, -1.0, 7.0, 8.0, None, 10.0]
CODE = """
import sys
import numpy as np
import pyarrow as pa
from fedsim.store.columns import column, floats, ints, numbers, repeated, tables, texts

some = {'a': [0.5, None], 'b': [1, 2], 'c': ['x', 'y'], 'd': np.zeros(2), 'e': [True, False]}
tables([some, some | {'f': repeated(['x'], np.zeros(2, int))}, some])
lists = {"a": column([0.5, None]), "b": column([1, 2]), "c": texts(["x", "y"])}
assert pa.table(lists | {"d": column(np.zeros(2)), "e": column(np.zeros((2, 3)))}).num_rows == 2
rows = pa.Table.from_arrays([ints(np.arange(3))], names=["run"])
rows = rows.append_column("more", ints(numbers(rows["run"]))).take(ints(np.array([2, 0])))
assert floats(rows["more"]).tolist() == [2, 0]
assert "pandas" not in sys.modules
"""


def test_there_and_back() -> None:
    values = np.array([[3, 1], [-(2**62), 5], [7, 9]])[:, 0]  # not next to each other in memory
    assert ints(values).to_pylist() == values.tolist() and ints(values).type == pa.int64()
    chunks = pa.chunked_array([[1, 2], [], [3]], pa.int32())
    assert numbers(chunks).tolist() == [1, 2, 3] and numbers(chunks.chunk(0)).tolist() == [1, 2]
    assert numbers(NONE["run"]).size == 0
    with pytest.raises(ValueError, match="nulls"):
        numbers(pa.array([1, None]))


def test_a_table_has_each_column_as_it_would_be_alone() -> None:
    named: dict[str, Any] = {
        "halves": HALVES,
        "whole": list(range(10)),
        "undefined": [None] * 10,
        "large": [2**63 - 1, -(2**63), *range(8)],
        "some": [None, 7, *range(8)],
        "mixed": [1, 2.5, None] * 3 + [4],
        "set": ["test"] * 10,
        "array": np.arange(10, dtype=np.int32),
        "floats": [0.1 * i for i in range(10)],
        "curve": np.arange(20.0).reshape(10, 2),
    }
    found = table(named)
    found.validate(full=True)
    assert found.equals(pa.table({name: column(values) for name, values in named.items()}))
    assert found["halves"].null_count == 4 and found["floats"].to_pylist() == named["floats"]
    assert table({"run": [], "n": []}).num_rows == 0
    with pytest.raises(ValueError, match="named b"):
        table({"a": [1, 2], "b": [1]})


def test_tables_made_together_are_those_made_alone() -> None:
    """To the byte as files, though one's columns are parts of all's."""
    rng = np.random.default_rng(0)
    losses: list[list[float | None]] = [[None, None], [0.5, None], [0.5, 1.5], [math.nan, None]]
    many: list[dict[str, Any]] = [
        {
            "round": list(range(n)),
            "set": [f"{n}"] * n,
            "loss": losses[i % 4] * (n // 2),
            "undefined": [None, None if i % 2 else 3] * (n // 2),
            "chosen": [True, False] * (n // 2),
            "row": np.arange(n, dtype=np.int32),
            "score": rng.random((n, 2), np.float32) if i % 3 else rng.random(n),
            "client": repeated(["Örebro", f"{i}"], np.arange(n) % 2),
        }
        for i, n in enumerate([2, 6, 4, 0, 12, 8, 2, 10, 0, 4, 6, 2])
    ]
    together = tables([*many, {}, {"loss": [1.0]}])
    assert [found.num_rows for found in together[-2:]] == [0, 1]
    for named, found in zip(many, together, strict=False):
        alone = table(named)
        found.validate(full=True)
        assert found.schema == alone.schema and found.equals(alone)
        assert _parquet(found).to_pybytes() == _parquet(alone).to_pybytes()
    with pytest.raises(ValueError, match="named b"):
        tables([{"a": [1, 2], "b": [1]}, {"a": [1], "b": [1]}])
    with pytest.raises(ValueError, match="named b"):  # which together would fit
        tables([{"a": [1, 2], "b": [1]}, {"a": [1], "b": [1, 2]}])


@pytest.mark.parametrize(
    "values",
    [
        [],
        [None, None],
        HALVES,
        [0.5, 1.5],
        [3, 2**63 - 1, -(2**63)],
        [None, 7, *range(12), None],
        [1, 2.5, None],
        [True, False, True],
        [True, None],
        ["a", "", "Örebro län", "医院", "b"],
        ["Cleveland"] * 20,
        ["a", None],
        [[1, 2], None, []],
        ["x", np.str_("y")],
        ("a", "b"),
        np.array(HALVES, np.float64),
        np.array(HALVES, np.float32),
        np.arange(20, dtype=np.int32)[::3],
        np.arange(3, dtype=np.uint8),
        np.arange(11) % 3 == 0,
        np.zeros(0, np.float32),
        np.array(["a", "b"], object),
    ],
    ids=repr,
)
def test_a_column_is_what_pyarrow_makes_of_the_values(values: Any) -> None:
    made, wanted = column(values), pa.array(values, from_pandas=True)
    made.validate(full=True)
    assert made.type == wanted.type and made.equals(wanted)
    assert made.null_count == wanted.null_count


def test_a_row_may_be_a_list_of_numbers() -> None:
    made = column(np.array([[1.0, np.nan], [3.0, 4.0], [5.0, 6.0]]))
    made.validate(full=True)
    assert made.type == pa.list_(pa.float64(), 2)
    assert made.to_pylist() == [[1.0, None], [3.0, 4.0], [5.0, 6.0]]


def test_text_that_repeats() -> None:
    found = repeated(["Halland", "", "Örebro"], np.array([2, 0, 0, 1], np.int32))
    assert found.type == pa.string() and found.to_pylist() == ["Örebro", "Halland", "Halland", ""]
    assert repeated(["a"], np.zeros(0, np.int64)).equals(pa.array([], pa.string()))
    assert column(found) is found


def test_no_text_is_text() -> None:
    assert texts([]).type == pa.string() and len(texts([])) == 0


@pytest.mark.parametrize("begin", [0, 1, 3, 9])
def test_nulls_are_nan(begin: int) -> None:
    for whole in (pa.chunked_array([HALVES]), pa.chunked_array([HALVES[:4], HALVES[4:]])):
        wanted = [np.nan if x is None else x for x in HALVES[begin:]]
        np.testing.assert_array_equal(floats(whole.slice(begin)), wanted)
    assert floats(pa.chunked_array([[1, None, 3]])).tolist()[::2] == [1.0, 3.0]
    assert np.isnan(floats(pa.chunked_array([pa.nulls(3)]))).all()
    assert floats(pa.chunked_array([], pa.float64())).size == 0
    assert floats(pa.chunked_array([[True, False]])).tolist() == [1.0, 0.0]


def test_without_pandas() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True)
