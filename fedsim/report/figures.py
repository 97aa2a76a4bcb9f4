"""Every figure that a tables.yaml declares. Same rows, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedsim.base import RequestError
from fedsim.report.against import against
from fedsim.report.benefit import benefit
from fedsim.report.calibration import calibration
from fedsim.report.convergence import convergence
from fedsim.report.drawing import Drawing, style
from fedsim.report.gain import gain
from fedsim.report.heat import heat
from fedsim.report.reach import reach
from fedsim.report.rows import Rows
from fedsim.report.size import size
from fedsim.report.spec import FigureSpec, ReportSpec
from fedsim.report.tables import leave_out, sources
from fedsim.report.wins import wins

Draw = Callable[[Rows, FigureSpec, Mapping[str, str], list[str]], Drawing]
KINDS: dict[str, Draw] = {
    "gain": gain,
    "convergence": convergence,
    "against": against,
    "heat": heat,
    "target": reach,
    "calibration": calibration,
    "benefit": benefit,
    "wins": wins,
    "size": size,
}


def figures(
    rows: Rows, spec: ReportSpec, stale: str = "refuse", without_runs: list[str] | None = None
) -> list[Drawing]:
    """Every declared figure; which runs were left out is in its caption.

    Args:
      without_runs: as in `report.tables`.

    Raises:
      RequestError: as `report.tables`.
    """
    footnote = sources(rows, stale)
    made = []
    for figure in spec.figures:
        try:
            with style():
                made.append(KINDS[figure.kind](rows, figure, spec.labels, footnote))
        except RequestError as error:
            leave_out(f"figure {figure.name}: {error}", error, without_runs)
    return made
