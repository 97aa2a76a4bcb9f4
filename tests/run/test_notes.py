"""What a run says of its data before it trains."""

from pathlib import Path

from fedsim import config
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.run.progress import Silent
from tests.run.hospitals import BASE


class Told(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_run_says_what_is_to_be_said_of_its_rows_once(tmp_path: Path) -> None:
    rows = "".join(f"{'ab'[i % 2]},{50 + i},F,{i // 2 % 2}\n" for i in range(20))
    (tmp_path / "cohort.csv").write_text(f"hospital,age,sex,died\n{rows}")
    table = {"name": "table", "path": str(tmp_path / "cohort.csv"), "client": "hospital", "label": "died"}
    cells = [Cell(config.experiment(BASE | {"data": table, "rounds": r}), {}) for r in (2, 4)]
    store, told = tmp_path / "store", Told()
    assert len(run_experiments(cells, store, progress=told).done) == 2
    said = "note: column 'sex' has one level (F) in the rows that train, so it makes no feature"
    assert told.notes == [said]
    again = Told()
    run_experiments(cells, store, progress=again)
    assert again.notes == []  # nothing is run
