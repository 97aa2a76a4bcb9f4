"""Tables as LaTeX: what it looks like, and that LaTeX takes it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.report import latex
from fedsim.report import spec as declared
from tests.report.made import BASIC, Put, build, three_seeds

ODD = r"50 % of #1_a & {b}$^~\ <c> |d| ε ≤ ∞ ± − – Å, Umeå R²"


def odd_table(tmp_path: Path, put: Put) -> report.Table:
    """Every sign that a table can contain, in the words and in the cells."""
    runs = three_seeds(put, {"local": (0.6, 0.7, None), "fedavg": (-0.7, 0.8)})
    runs.append(put({"algorithm": "newton", "split": "natural", "seed": 1}, status="diverged"))
    known: dict[str, Any] = {"value": 0.6, "band": 0.1, "source": "A & B"}
    table = {
        **BASIC,
        "rows": ["algorithm", "split"],
        "columns": [],
        "metrics": ["auroc", "brier"],
        "title": ODD,
    }
    table["reference"] = {"algorithm": "local"}
    table["published"] = [
        known | {"where": {"algorithm": a, "split": "natural", "metric": "auroc"}}
        for a in ("local", "fedavg")
    ]
    spec = declared.parse({"tables": [table], "labels": {"local": ODD, "auroc": "AUROC [0, 1]"}})
    return report.tables(report.read(tmp_path / "store", runs, levels=["pooled"]), spec)[0]


def test_rules_columns_and_bold(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.6), "fedavg": (0.7, 0.7)})
    text = build(tmp_path, runs, columns=["split"], metrics=["auroc", "brier"]).latex()
    lines = text.splitlines()
    assert r"\caption{A title}" in lines and r"\label{tab:t}" in lines
    assert r"\begin{tabular}{@{}lrr@{}}" in lines
    assert [line for line in lines if "rule" in line] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [line for line in lines if line.endswith(r" \\")]
    dot = r"\textperiodcentered{}"
    assert rows[0] == rf"algorithm & natural {dot} AUROC & natural {dot} Brier score \\"
    assert rows[2].startswith(r"fedavg & \textbf{0.700 {[}0.700, 0.700{]}} & ")
    assert all(row.count(" & ") == 2 for row in rows)
    assert "Mean over 2 seeds" in text


def test_what_is_read_as_a_command_is_escaped(tmp_path: Path, put: Put) -> None:
    assert latex.escape("a_b & 5 %") == r"a\_b \& 5 \%"
    assert latex.escape("\\") == r"\textbackslash{}"
    text = odd_table(tmp_path, put).latex()
    body = text[text.index(r"\caption") :]
    # Nothing is left but commands, maths that was meant, and letters.
    assert not re.search(r"(?<!\\)[%#](?!\n)", body)
    assert not set(body) & set("−–±∞ε†‡✓✗·²Δ≤")
    assert body.count("{") == body.count("}")
    assert "Umeå" in body and r"50 \% of \#1\_a \& \{b\}\$" in body


@pytest.mark.long
def test_latex_takes_it(tmp_path: Path, put: Put) -> None:
    program = shutil.which("pdflatex") or shutil.which("tectonic")
    if program is None:
        pytest.skip("no LaTeX: neither pdflatex (Debian: texlive-latex-base) nor tectonic is installed")
    packages = r"\usepackage[T1]{fontenc}\usepackage{amssymb,booktabs,graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}" + "\n"
    (tmp_path / "t.tex").write_text(document + odd_table(tmp_path, put).latex() + r"\end{document}" + "\n")
    flags = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in program else []
    done = subprocess.run(
        [program, *flags, "t.tex"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 10_000
    assert "Missing character" not in done.stdout and "Overfull" not in done.stdout
