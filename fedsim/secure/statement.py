"""What a secure sum hides from whom, in words, and what those who collude learn all the same."""

from __future__ import annotations

from typing import Any

from fedsim.config.secure import LightSecAgg, SecAggPlus, SecureSum
from fedsim.secure.attendance import terms

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def word(n: int) -> str:
    """A small number as a word."""
    return _WORDS[n] if n < len(_WORDS) else str(n)


def statement(cfg: SecureSum, n: int) -> dict[str, Any]:
    """For rounds that n clients begin; `learned` are sentences."""
    agreed = terms(cfg, n)
    others = f"{word(n - 1)} of them" if n > 2 else "one of them"
    last = "third" if n == 3 else "other" if n == 2 else "last"
    learned = [
        f"With {word(n)} clients, {others} and the server learn the {last} one's message exactly: the sum "
        "minus their own."
    ]
    if agreed.threshold < n:
        few = agreed.threshold - 1
        learned.append(
            f"A round counts with as few as {word(agreed.threshold)} messages: of these, {word(few)} "
            f"client{'s' * (few != 1)} and the server learn the other one's."
        )
    if isinstance(cfg, LightSecAgg):
        learned.append(
            f"More than {word(agreed.hidden)} client{'s' * (agreed.hidden != 1)} colluding with the server "
            "hold shares that tell something of every mask."
        )
    else:
        whose = "neighbours of a client" if isinstance(cfg, SecAggPlus) else "clients"
        learned.append(
            f"{word(agreed.shares).capitalize()} {whose}, colluding with the server, can rebuild another's "
            "masks, and so its message."
        )
    learned.append(
        "All learn what the sum itself tells, also from the model that they are sent: messages are hidden, "
        "and what follows from their sum is not bounded."
    )
    simulated = {
        "exact": "the protocol was run, with keys made from the run's seed",
        "fast": "masks were added and taken off, keys and shares were not made",
    }
    return {
        "protocol": cfg.name,
        "mode": cfg.mode,
        "simulated": simulated[cfg.mode],
        "clients": n,
        "threshold": agreed.threshold,
        "hides": "single messages and weights, from a server that follows the protocol",
        "learned": learned,
        "not_hidden": ["metrics", "who takes part and who is lost", "a power of two no weight exceeds"],
    }
