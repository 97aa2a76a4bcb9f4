"""What liars do: to their rows, to their own message, or together to all of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from fedsim.config.attack import AttackConfig
from fedsim.data.rng import generator
from fedsim.model import Spec

Tree = Any
Array = jax.Array
Key = jax.Array


@dataclass(frozen=True)
class Attack:
    """One attack; what is None is left as it is. Channel and mechanism come after it.

    rows: (batch, what the data are) -> the batch that liars train on.
    message: (message, clients of a round for each liar in it, key) -> what a liar sends.
    collude: (messages [n, ...], present bool[n], liar bool[n]) -> what every liar sends, one message
      without a leading axis. Liars know the honest messages; absent rows hold zeros.
    trigger: (batch, what the data are) -> the batch with the sign on every row that the attacked model is
      to obey: with it the attack's success is measured.
    """

    rows: Callable[[dict[str, Array], Spec], dict[str, Array]] | None = None
    message: Callable[[Tree, Array, Key], Tree] | None = None
    collude: Callable[[Tree, Array, Array], Tree] | None = None
    trigger: Callable[[dict[str, Array], Spec], dict[str, Array]] | None = None


def liars(cfg: AttackConfig, seed: int, clients: int) -> np.ndarray:
    """Which of `clients` training clients lie; bool[clients]."""
    lie = np.zeros(clients, bool)
    if many := round(cfg.share * clients):
        lie[generator(seed, "attack").permutation(clients)[:many]] = True
    return lie
