"""Every constant has a source, and docs/cohort.md shows all of them and all published figures as they are."""

from fedsim.cohort import constants as c
from fedsim.cohort import effects, regions
from tests.cohort import constants

CITED = ("SHFDB4", "Davidge", "Lindberg", "SwedeHF", "Zayed", "Halmstad", "Stålhammar", "Statistics Sweden")


def test_the_document_shows_the_constants_of_the_code():
    text = constants.DOCUMENT.read_text(encoding="utf-8")
    assert sorted(name for _, name, _ in constants.MARKED.findall(text)) == sorted(constants.TABLES)
    assert constants.written(text) == text, "docs/cohort.md is not what `make methods` writes"


def test_every_constant_names_its_source():
    for name, _, source in constants.rows():
        assert "assumed" in source or "solved" in source or any(who in source for who in CITED), name


def test_the_table_has_every_constant():
    names = " ".join(name for name, _, _ in constants.rows())
    risks = (effects.DEATH, effects.ADMISSION, effects.CARDIOVASCULAR)
    for table in (c.SHARES, c.SPREADS, c.LIMITS, c.LOADINGS, c.FIGURES, c.ADOPTION, *risks):
        for name in table:
            assert name in names
    assert "codes of heart failure" in names and all(region in names for region in regions.KNOWN)
