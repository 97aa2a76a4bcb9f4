"""fedsim report --decision: pages, JSON, and what is missing."""

import json

import numpy as np

from tests.report.decision.made import arm, values


def declared(tiny):
    regions = [{"site": site, "patients": values()["regions"][0]["patients"]} for site in ("Lund", "Umeå")]
    (tiny / "decision.yaml").write_text(json.dumps(values(regions=regions)))


def predicted():
    """Forty rows, of which the first ten of each client's twenty are positive."""
    return {
        "round": np.full(40, 3, np.int32),
        "replica": np.zeros(40, np.int32),
        "set": ["test"] * 40,
        "client": ["Lund"] * 20 + ["Umeå"] * 20,
        "row": np.arange(40),
        "label": np.tile(np.repeat(np.array([1, 0], np.int32), 10), 2),
        "score": np.tile(np.linspace(1, 0, 20, dtype=np.float32), 2),
    }


def test_an_arm_that_no_cell_can_be_is_named(fedsim, tiny, here):
    for changes, words in (
        ({"where": {"algorithm": "fedvag"}}, "where: the sweep has no algorithm=fedvag; choose one of"),
        ({"choice": arm("together", "fedavgg")}, "together: where: the sweep has no algorithm=fedavgg; "),
        ({"others": [arm("one", "poled")]}, "one: where: the sweep has no algorithm=poled; choose one of"),
    ):
        (tiny / "decision.yaml").write_text(json.dumps(values(**changes)))
        said = fedsim("report tiny --decision")
        assert said.code == 2 and f"tiny: {words}" in said.err and not said.out


def test_pages_in_both_languages_and_json(fedsim, engine, tiny, here):
    said = fedsim("report tiny --decision")
    assert said.code == 2 and "tiny has no decision.yaml in" in said.err
    declared(tiny)
    said = fedsim("report tiny --decision --reduced")
    assert said.code == 2 and "run: fedsim sweep tiny --reduced" in said.err  # nothing is stored
    assert fedsim("sweep tiny --reduced --quiet").code == 0
    said = fedsim("report tiny --decision --reduced")
    assert said.code == 2 and "kept no predictions" in said.err and "Traceback" not in said.err
    for run in (here / "results/store").iterdir():
        if (run / "manifest.json").is_file():
            write(run / "predictions.parquet")
    said = fedsim("report tiny --decision --reduced")
    pages = [f"results/tiny/reduced/decision.{language}.html" for language in ("en", "sv")]
    assert (said.code, said.out.split()) == (0, pages)
    english, swedish = ((here / page).read_text() for page in pages)
    assert "Shall we?" in english and "Ska vi?" in swedish
    assert "fedsim sweep tiny --reduced\nfedsim report tiny --reduced --decision" in english

    found = json.loads(fedsim("report tiny --decision --reduced --json").out)
    assert found["regions"]["Lund"]["difference"]["base"] == 0 and found["total"]["gain"] == "no_gain"
    assert all((here / found["store"] / run).is_dir() for run in found["arms"]["together"]["runs"].values())

    said = fedsim("report tiny --decision --language sv --to board.html --quiet")
    assert (said.code, said.out) == (3, "") and "2 of 4 cells are not done" in said.err
    assert 'lang="sv"' in (here / "board.html").read_text()


def write(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(predicted()), path)


def test_wrong_requests(fedsim, engine, tiny):
    declared(tiny)
    said = fedsim("report tiny --decision --to board.html")
    assert said.code == 2 and "add --language en or --language sv" in said.err
    assert "--json goes with --decision" in fedsim("report tiny --json").err
    assert "--language goes with --decision" in fedsim("report tiny --language sv").err
    assert fedsim("report tiny --decision --language fi").code == 2
    text = (tiny / "decision.yaml").read_text().replace('"reach"', '"rech"')
    (tiny / "decision.yaml").write_text(text)
    said = fedsim("report tiny --decision")
    assert said.code == 2 and "did you mean 'reach'?" in said.err
