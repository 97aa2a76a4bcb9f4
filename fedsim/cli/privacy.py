"""fedsim privacy: ask the accountants directly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsim.base import SUCCESS, Refusal, RequestError, nearest, require
from fedsim.cli import output
from fedsim.cli.arguments import Options, Parser, add_json

ACTIONS = ("epsilon", "calibrate")


def describe(parser: Parser) -> None:
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument(
        "values",
        nargs="*",
        default=[],
        metavar="option=value",
        help="as in: sampling=poisson q=0.01 noise_multiplier=1.3 steps=1500 delta=1e-5 (docs/privacy.md)",
    )
    add_json(parser)


def main(options: Options) -> int:
    require(
        options.action in ACTIONS, f"unknown action {options.action!r}; {nearest(options.action, ACTIONS)}"
    )
    try:
        found = _answer(options.action, options.values)
    except Refusal:
        raise
    except RequestError as error:
        reason, _, advice = str(error).partition("; ")
        raise Refusal(reason, advice or "see fedsim privacy --help") from None
    if options.json:
        output.document(options.out, found)
    else:
        output.columns(options.out, [(key, _shown(value)) for key, value in found.items()])
    return SUCCESS


def _answer(action: str, words: Sequence[str]) -> dict[str, Any]:
    from fedsim.accounting import question

    asked, steps = question.read(_values(words))
    answer = question.answer_epsilon if action == "epsilon" else question.answer_calibration
    return answer(asked, steps)


def _values(words: Sequence[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        require(equals and name, f"{word!r} is no option=value; write it as in q=0.01")
        require(name not in found, f"{name} is given twice; give it once")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RequestError(
                f"{name} has no value that can be read, got {value!r}; give a number"
            ) from None
    return found


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else output.show(value)
