import csv

import pytest

from fedsim.base import RequestError
from fedsim.report import read
from fedsim.report.figures import figures
from fedsim.report.spec import parse

FIGURE = {"name": "frontier", "kind": "against", "metric": "auroc", "x": "epsilon"}


def runs(put):
    ids = {}
    for algorithm, gain in (("fedavg", 0.1), ("local", 0.0)):
        for epsilon in ("inf", "8", "1"):
            for seed in range(3):
                cell = {"algorithm": algorithm, "epsilon": epsilon, "seed": seed}
                value = 0.6 + gain + 0.01 * seed
                sites = [{"name": name, "auroc": value + d} for name, d in (("Lund", 0.0), ("Umeå", 0.1))]
                ids[put(cell, [{"auroc": value}], sites)] = cell
    return ids


def drawn(put, tmp_path, **options):
    spec = parse({"labels": {"inf": "∞"}, "figures": [FIGURE | options]})
    rows = read(tmp_path / "store", runs(put))
    (figure,) = figures(rows, spec)
    return figure, list(csv.DictReader(figure.csv.splitlines()))


def test_all_rows_together_are_one_panel(put, tmp_path):
    figure, lines = drawn(put, tmp_path)
    assert list(lines[0]) == ["algorithm", "epsilon", "seed", "auroc"] and len(lines) == 18
    # Values stand in the plan's order, not in that of their numbers.
    assert list(dict.fromkeys(line["epsilon"] for line in lines)) == ["inf", "8", "1"]
    assert figure.png.startswith(b"\x89PNG") and b"</svg>" in figure.svg


def test_sites_are_panels_on_one_scale(put, tmp_path):
    figure, lines = drawn(put, tmp_path, **{"from": "site"})
    assert list(lines[0]) == ["site", "algorithm", "epsilon", "seed", "auroc"] and len(lines) == 36
    assert {line["site"] for line in lines} == {"Lund", "Umeå"}
    assert len(figure.png) > 10_000


def test_a_dimension_belongs_to_this_kind_alone():
    for options in ({"x": None}, {"kind": "gain"}):
        with pytest.raises(RequestError, match="x is the dimension of kind=against"):
            parse({"figures": [FIGURE | options]})
