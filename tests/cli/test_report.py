TABLES = """
tables:
  - {name: pooled, title: AUROC, rows: [algorithm], metrics: [auroc]}
"""


def test_a_page_of_what_is_stored(fedsim, engine, tiny, here):
    assert "has no tables.yaml" in fedsim("report tiny").err
    (tiny / "tables.yaml").write_text(TABLES)
    (tiny / "README.md").write_text("# Tiny\n\nWhat is *claimed*.\n\nMore.\n")
    assert fedsim("report tiny").code == 2  # nothing stored
    assert fedsim("sweep tiny --reduced --quiet").code == 0
    said = fedsim("report tiny --reduced --watts 40")
    assert (said.code, said.out) == (0, "results/tiny/reduced/report.html\n")
    text = (here / "results/tiny/reduced/report.html").read_text()
    assert "What is *claimed*." in text and "at 40 W" in text and "0.88" in text
    assert "fedsim sweep tiny --reduced\nfedsim report tiny --reduced --watts 40" in text

    said = fedsim("report tiny --to elsewhere/page.html --quiet")
    assert (said.code, said.out) == (3, "") and "2 of 4 cells are not done" in said.err
    assert "2 not in the store" in (here / "elsewhere/page.html").read_text()
    said = fedsim("report tiny --reduced --to elsewhere/page.html/in")
    assert said.code == 1 and said.err.endswith(
        "elsewhere/page.html/in cannot be written (elsewhere/page.html is no folder); give --to a file that "
        "can be written, then run fedsim report tiny --reduced again: what was there before was kept\n"
    )
    said = fedsim("report tiny --watts 0")
    assert said.code == 2 and "--watts must be > 0 and finite, got 0" in said.err
