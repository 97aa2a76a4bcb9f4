"""Every constant has a source, and docs/cohort.md shows all of them as they are."""

from fedsim.cohort import constants as c
from fedsim.cohort import regions
from tests.cohort import constants

CITED = ("SHFDB4", "Davidge", "Lindberg", "SwedeHF", "Zayed", "Halmstad", "Stålhammar", "Statistics Sweden")


def test_the_document_shows_the_constants_of_the_code():
    text = constants.DOCUMENT.read_text(encoding="utf-8")
    assert constants.written(text) == text, "docs/cohort.md is not what tests/cohort/constants.py writes"


def test_every_constant_names_its_source():
    for name, _, source in constants.rows():
        assert "assumed" in source or "solved" in source or any(who in source for who in CITED), name


def test_the_table_has_every_constant():
    names = " ".join(name for name, _, _ in constants.rows())
    for table in (c.SHARES, c.SPREADS, c.LIMITS, c.LOADINGS, c.DEATH, c.ADMISSION, c.FIGURES, c.ADOPTION):
        for name in table:
            assert name in names
    assert all(region in names for region in regions.KNOWN)
