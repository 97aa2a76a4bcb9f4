"""Rows of many runs that are kept together: those of the runs' own files, whatever became of these."""

import json
import os
import shutil
import threading
from contextlib import suppress

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.report import rows
from fedsim.store import ResultStore, kept, summaries
from tests.store.stored import result


@pytest.fixture
def tables(tmp_path):
    """80 runs of two rows; every fourth has a column of its own, and every fifth no rows at all."""
    for i in range(80):
        (tmp_path / f"{i:02d}").mkdir()
        write_rows(tmp_path, f"{i:02d}", i, odd=i % 4 == 0, count=0 if i % 5 == 0 else 2)
    return tmp_path


def write_rows(root, run, value, odd=False, count=2):
    columns = {"round": [1, 2][:count], "loss": [float(value), None][:count]}
    types = {"round": pa.int64(), "loss": pa.float64(), "own": pa.string()}
    columns |= {"own": ["x", "y"][:count]} if odd else {}
    made = {name: pa.array(values, types[name]) for name, values in columns.items()}
    pq.write_table(pa.table(made), root / run / "rounds.parquet")


def gather(root, runs):
    """Rows as the file of many has them, beside those of each file; and how many were opened."""
    opened = []

    def one(path):
        opened.append(path.parent.name)
        return pq.read_table(path)

    table, names = kept.read(root, "rounds.parquet", runs, one)
    found = [{k: v for k, v in row.items() if v is not None} for row in table.to_pylist()]
    expected = [
        {k: v for k, v in (row | {"run": i}).items() if v is not None}
        for i, run in enumerate(runs)
        for row in pq.read_table(root / run / "rounds.parquet").to_pylist()
    ]
    assert found == expected
    return set(names), opened


def test_kept_rows_are_those_of_the_files(tables):
    runs = [f"{i:02d}" for i in range(79, -1, -1)]
    assert gather(tables, runs) == ({"round", "loss", "own"}, runs)
    assert gather(tables, runs) == ({"round", "loss", "own"}, [])
    few = [run for run in runs if int(run) % 4]
    write_rows(tables, "79", 0.5)
    write_rows(tables, "03", 0.25, odd=True, count=1)
    assert gather(tables, few[:10]) == ({"round", "loss"}, few[:10])  # so few are faster read one by one
    names, opened = gather(tables, [*few, *(run for run in runs if int(run) % 4 == 0 and int(run) > 50)])
    assert (names, opened) == ({"round", "loss", "own"}, ["79", "03"])


def test_columns_of_runs_that_are_not_asked_for_are_not_named(tables):
    for i in range(64):
        (tables / f"x{i:02d}").mkdir()
        write_rows(tables, f"x{i:02d}", i)
    plain, odd = [f"x{i:02d}" for i in range(64)], [f"{i:02d}" for i in range(80)]
    gather(tables, plain + odd)
    assert gather(tables, plain) == ({"round", "loss"}, [])


def test_a_spoilt_or_old_segment_is_made_anew(tables):
    runs = [f"{i:02d}" for i in range(80)]
    gather(tables, runs)
    [file] = (tables / ".kept").iterdir()
    for spoilt in (b"", b"ARROW1", file.read_bytes()[:-100]):
        file.write_bytes(spoilt)
        assert gather(tables, runs)[1] == runs
        assert gather(tables, runs)[1] == []
        [file] = (tables / ".kept").iterdir()
    for run in runs:
        write_rows(tables, run, 7)
    assert gather(tables, runs)[1] == runs
    for i in range(64):
        (tables / f"y{i:02d}").mkdir()
        write_rows(tables, f"y{i:02d}", i)
    more = [f"y{i:02d}" for i in range(64)]
    assert gather(tables, more)[1] == more
    assert gather(tables, runs + more)[1] == []  # what was kept before stays
    assert len([*(tables / ".kept").iterdir()]) == 1


# --- segments of those who store ---------------------------------------------------------------


def fill(root, runs, value=1.0, source="now"):
    """Store these runs, and keep them together."""
    store = ResultStore(root, source=source)
    fresh = store.fresh()
    for i, run in enumerate(runs):
        own = dict.fromkeys(("predictions", "tuning", "model", *(() if i % 4 else ("clients",))))
        store.write(
            run, result(value=value + i, cell={"seed": i}, manifest={"seconds": float(i)}, **own), fresh
        )
    fresh.save()
    return store


@pytest.fixture
def stored(tmp_path):
    """150 runs, of which every fourth has no clients: three segments of rounds, two of clients."""
    return fill(tmp_path, [f"{i:03d}" for i in range(150)])


def in_files(root):
    return sorted(path.name.rpartition("-")[0] for path in (root / ".kept").iterdir())


def without(root, monkeypatch, call):
    """What `call` gives where nothing is kept, or used."""
    with monkeypatch.context() as patch:
        for module in (kept, summaries):
            patch.setattr(module, "FEW", 10**9)
        return call()


def of_rounds(store, runs):
    """Rows and manifests' lines, and how many files were opened for them."""
    opened = []

    def one(path):
        opened.append(path)
        return rows._part(path)

    table, names = kept.read(store.root, "rounds.parquet", runs, one)
    return table, names, store.about(runs), len(opened)


def test_rows_kept_while_storing_are_those_of_the_files(stored, monkeypatch):
    assert in_files(stored.root) == ["clients.parquet"] * 3 + ["manifest.json"] * 3 + ["rounds.parquet"] * 3
    runs = stored.ids()[::-1]
    expected = without(stored.root, monkeypatch, lambda: of_rounds(stored, runs))
    assert expected[3] == 150
    monkeypatch.setattr(stored, "_manifest", lambda run: pytest.fail(f"{run} was opened"))
    for _ in range(2):
        found = of_rounds(stored, runs)
        assert found[0].schema == expected[0].schema
        assert found[0].equals(expected[0])
        assert found[1:] == (*expected[1:3], 0)
    some = [run for run in runs if int(run) % 4]
    table, names = kept.read(
        stored.root, "clients.parquet", some, lambda path: pytest.fail(f"{path} was opened")
    )
    assert names == ["name", "auc", "undefined"] and table.num_rows == 2 * len(some)
    assert len(in_files(stored.root)) == 9  # few as they are, they stay


def test_a_run_that_was_replaced_is_read_anew_and_the_rest_is_not(stored, monkeypatch):
    runs = stored.ids()
    newer = fill(stored.root, ["003", "070"], value=1000.0, source="newer")
    assert in_files(newer.root).count("rounds.parquet") == 4
    ResultStore(newer.root, source="newest").write(
        "140", result(value=7.0)
    )  # by a process that keeps nothing
    shutil.rmtree(newer.root / "009")
    runs.remove("009")
    expected = without(newer.root, monkeypatch, lambda: of_rounds(newer, runs))
    table, names, about, opened = of_rounds(newer, runs)
    assert table.equals(expected[0]) and (names, about) == expected[1:3]
    assert opened == 1
    assert {1000.0, 7.0} <= {*table["loss"].to_pylist()}
    assert newer.states(["003", "004", "009", *runs[10:80]])["009"] == "missing"
    # Rows of a run that a faster process stored do not count, nor those of one that was never stored.
    late = newer.fresh()
    for run in ("never", "003"):
        folder = newer.root / run / "copy"
        folder.mkdir(parents=True)
        (folder / "rounds.parquet").write_bytes(b"other")
        late.add(run, folder, {"rounds.parquet": pa.table({"loss": [99.0]})})
    late.save()
    assert of_rounds(newer, runs)[0].equals(expected[0])


def test_many_segments_become_one_that_has_what_is_still_so(stored, monkeypatch):
    runs = stored.ids()
    more = [f"x{i:03d}" for i in range(150)]
    fill(stored.root, more)
    monkeypatch.setattr(kept, "_MANY", 5)
    shutil.rmtree(stored.root / "000")
    assert in_files(stored.root).count("rounds.parquet") == 6
    expected = without(stored.root, monkeypatch, lambda: of_rounds(stored, runs[1:]))
    found = of_rounds(stored, runs[1:])
    assert found[0].equals(expected[0]) and found[3] == 0
    assert in_files(stored.root) == ["clients.parquet"] * 6 + ["manifest.json", "rounds.parquet"]
    assert [name for name in os.listdir(stored.root) if name.startswith(".tmp")] == []
    assert of_rounds(stored, more)[3] == 0  # which were not asked for then
    [one] = kept._load(stored.root / ".kept", "rounds.parquet").values()
    assert one is not None and len(one.entries) == 299
    assert "000" not in [entry.run for entry in one.entries]


def test_without_segments_files_are_read_and_one_is_made(stored, monkeypatch):
    expected = of_rounds(stored, stored.ids())
    shutil.rmtree(stored.root / ".kept")
    found = of_rounds(stored, stored.ids())
    assert found[0].equals(expected[0]) and found[3] == 150
    assert in_files(stored.root) == ["manifest.json", "rounds.parquet"]
    assert of_rounds(stored, stored.ids())[3] == 0


def damage(path, **changes):
    """Another segment in the place of this one."""
    table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
    about = json.loads(table.schema.metadata[b"fedsim"]) | changes
    table = table.replace_schema_metadata({b"fedsim": json.dumps(about).encode()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"runs": []},
        {"runs": 7},
        {"runs": [["000", [1, 2, 3], 0]]},
        {"runs": [["000", [1, 2, 3], 9, 450]]},
        {"runs": [["000", None, 0, -3], ["001", None, 0, 195]]},
        {"runs": [["000", None, 0, 192]]},
        {"columns": [["round", "loss", "other"]]},
    ],
)
def test_a_segment_that_is_not_what_it_says_is_not_used(stored, changes, monkeypatch):
    expected = without(stored.root, monkeypatch, lambda: of_rounds(stored, stored.ids()))
    first = min((stored.root / ".kept").glob("rounds*"), key=lambda path: -path.stat().st_size)
    damage(first, **changes)
    found = of_rounds(stored, stored.ids())
    assert found[0].equals(expected[0]) and found[1:3] == expected[1:3]
    assert found[3] == 64


def test_failing_to_keep_rows_fails_no_run(tmp_path, monkeypatch):
    (tmp_path / ".kept").write_text("in the way")
    store = fill(tmp_path, ["a", "b"])
    assert store.ids() == ["a", "b"]
    assert sorted(os.listdir(tmp_path)) == [".kept", "a", "b"]


def test_readers_that_merge_at_once_lose_nothing(stored):
    """Three of them, while segments are added and taken away."""
    runs = stored.ids()
    table = of_rounds(stored, runs)[0]
    start = threading.Barrier(4)
    wrong: list[object] = []

    def read():
        try:
            start.wait(60)
            for _ in range(10):
                if not of_rounds(stored, runs)[0].equals(table):
                    wrong.append("rows")
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    start.wait(60)
    for turn in range(1000):
        if not any(reader.is_alive() for reader in readers):
            break
        for i, path in enumerate(sorted((stored.root / ".kept").glob("rounds*"))):
            with suppress(FileNotFoundError):  # another merged it meanwhile
                for k in range(10 // (i + 1)):
                    aside = shutil.copy(path, stored.root / ".kept" / "aside")
                    os.replace(aside, path.with_name(f"rounds.parquet-{turn}-{i}-{k}.arrow"))
                if turn % 3 == 2:
                    path.unlink()
    for reader in readers:
        reader.join(60)
    assert not wrong and not any(reader.is_alive() for reader in readers)
    assert of_rounds(stored, runs)[0].equals(table)
    assert [name for name in os.listdir(stored.root) if name.startswith(".tmp")] == []
