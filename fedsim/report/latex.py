"""A table as LaTeX, with the rules of the package booktabs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

# What TeX reads as commands, and signs that its usual text fonts lack.
_SIGNS = {
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after \\ or \item a bare one would be an argument
    "]": "{]}",
    "−": "$-$",
    "–": "--",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "∞": r"$\infty$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "·": r"\textperiodcentered{}",
    "²": r"\textsuperscript{2}",
    "°": r"\textdegree{}",
    "Δ": r"$\Delta$",
    **{
        letter: f"$\\{name}$"
        for letter, name in {
            **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta"},
            **{"θ": "theta", "λ": "lambda", "μ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau"},
        }.items()
    },
}
_ESCAPE = str.maketrans(_SIGNS)


def escape(text: str) -> str:
    """`text` as it is to be read, whatever it contains. Letters with accents stay: LaTeX reads UTF-8."""
    return text.translate(_ESCAPE)


def table(
    name: str,
    title: str,
    header: Sequence[str],
    stubs: Sequence[Sequence[str]],
    texts: Sequence[Sequence[str]],
    bold: Collection[tuple[int, int]],
    notes: Sequence[str],
) -> str:
    """A float `tab:name`: caption, rows, notes below.

    Args:
      header: a word for each column, those of the stubs first; stubs: [rows] the words that name a row.
      texts: [rows][columns]; bold: (row, column) of the texts in bold.
    """
    left = len(stubs[0])
    lines = [
        r"% Needs \usepackage{amssymb,booktabs,graphicx}, and \usepackage[T1]{fontenc} for accents.",
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{escape(title)}}}",
        rf"\label{{tab:{name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",  # shrunk only if too wide
        rf"\begin{{tabular}}{{@{{}}{'l' * left}{'r' * (len(header) - left)}@{{}}}}",
        r"\toprule",
        _row(map(escape, header)),
        r"\midrule",
    ]
    for i, (stub, row) in enumerate(zip(stubs, texts, strict=True)):
        if i and left > 1 and stub[0] != stubs[i - 1][0]:
            lines.append(r"\addlinespace")
        marked = [rf"\textbf{{{escape(t)}}}" if (i, j) in bold else escape(t) for j, t in enumerate(row)]
        lines.append(_row([*map(escape, stub), *marked]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    if notes:
        lines += [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [rf"{escape(note)}\par" for note in notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}", ""])


def _row(words: Iterable[str]) -> str:
    return " & ".join(words) + r" \\"
