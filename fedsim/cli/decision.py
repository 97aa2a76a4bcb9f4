"""fedsim report --decision: what a board asks of an experiment, one page per language."""

from __future__ import annotations

import sys
from pathlib import Path

from fedsim.base import INCOMPLETE, SUCCESS, RequestError, require
from fedsim.cli import output
from fedsim.cli.arguments import Options
from fedsim.cli.requested import Request


def write(request: Request, options: Options, commands: list[str]) -> int:
    """Write decision.LANGUAGE.html, or say the numbers as JSON.

    Args:
      commands: what makes the runs, and then this report.

    Raises:
      RequestError: there is no decision.yaml, it is wrong, or runs that it needs are not done.
    """
    folder = request.sweep.folder
    assert folder is not None
    name = request.sweep.name
    path = folder / "decision.yaml"
    require(path.is_file(), f"{name} has no decision.yaml in {folder}; declare the question there")
    from fedsim import __version__, report
    from fedsim.report import decide

    languages = decide.LANGUAGES if options.language == "both" else (options.language,)
    require(
        not options.to or len(languages) == 1,
        f"--to names one file, and there are {len(languages)} languages; add --language en or --language sv",
    )
    try:
        document, rows = decide.numbers(
            name, request.store, path, request.labels, commands, request.report_stale, request.axes
        )
    except RequestError as error:
        raise RequestError(f"{name}: {error}") from None
    if options.json:
        output.document(options.out, document)
    else:
        files = {}
        for language in languages:
            file = Path(options.to) if options.to else request.out / f"decision.{language}.html"
            files[file] = decide.page(document, language, __version__).encode()
        report.publish(files, commands[-1], "give --to a file that can be written")
        if not options.quiet:
            print(*files, sep="\n", file=options.out)
    gone = len(rows.missing) + sum(not run.done and not run.diverged for run in rows.runs)
    if gone:
        print(f"fedsim: {gone} of {len(request.cells)} cells are not done", file=sys.stderr)
    return INCOMPLETE if gone else SUCCESS
