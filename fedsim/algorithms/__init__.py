"""Every algorithm by name: a builder `(oracle, optimizer, cfg) -> Algorithm`, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedsim.algorithms.agnostic import agnostic
from fedsim.algorithms.algorithm import (
    Algorithm,
    Cohort,
    Exchange,
    Reduction,
    Stack,
    Survey,
    added,
    no_memory,
    nothing,
    weighted_mean,
    whole_numbers,
)
from fedsim.algorithms.apfl import apfl
from fedsim.algorithms.boosting import boosting
from fedsim.algorithms.ditto import ditto
from fedsim.algorithms.dpsgd import dpsgd
from fedsim.algorithms.fedala import fedala
from fedsim.algorithms.fedasync import fedasync
from fedsim.algorithms.fedavg import fedavg, local_sgd
from fedsim.algorithms.fedavgm import fedavgm
from fedsim.algorithms.fedbn import fedbn
from fedsim.algorithms.fedbuff import fedbuff
from fedsim.algorithms.feddyn import feddyn
from fedsim.algorithms.fedexp import fedexp
from fedsim.algorithms.fedmgda import fedmgda
from fedsim.algorithms.fednova import fednova
from fedsim.algorithms.fedopt import fedadagrad, fedadam, fedyogi
from fedsim.algorithms.fedper import fedper
from fedsim.algorithms.fedprox import fedprox
from fedsim.algorithms.fedrep import fedrep
from fedsim.algorithms.fedsam import fedsam
from fedsim.algorithms.fedsgd import fedsgd
from fedsim.algorithms.finetune import finetune
from fedsim.algorithms.ifca import ifca
from fedsim.algorithms.lgfedavg import lgfedavg
from fedsim.algorithms.local import local
from fedsim.algorithms.mime import mime
from fedsim.algorithms.mimelite import mimelite
from fedsim.algorithms.moon import moon
from fedsim.algorithms.mrmtl import mrmtl
from fedsim.algorithms.newton import newton
from fedsim.algorithms.perfedavg import perfedavg
from fedsim.algorithms.pfedme import pfedme
from fedsim.algorithms.pooled import pooled
from fedsim.algorithms.qfedavg import qfedavg
from fedsim.algorithms.scaffold import scaffold
from fedsim.base import register

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "local": local,
    "pooled": pooled,
    "fedsgd": fedsgd,
    "newton": newton,
    "boosting": boosting,
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "fedadagrad": fedadagrad,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fednova": fednova,
    "feddyn": feddyn,
    "fedexp": fedexp,
    "qfedavg": qfedavg,
    "fedsam": fedsam,
    "mime": mime,
    "mimelite": mimelite,
    "agnostic": agnostic,
    "fedmgda": fedmgda,
    "moon": moon,
    "ditto": ditto,
    "mrmtl": mrmtl,
    "pfedme": pfedme,
    "apfl": apfl,
    "fedper": fedper,
    "lgfedavg": lgfedavg,
    "fedrep": fedrep,
    "fedbn": fedbn,
    "ifca": ifca,
    "fedbuff": fedbuff,
    "fedasync": fedasync,
    "dpsgd": dpsgd,
    "finetune": finetune,
    "perfedavg": perfedavg,
    "fedala": fedala,
}


def register_algorithm(name: str, config: type, builder: Callable[..., Any]) -> None:
    """Make `algorithm=name` available: its frozen config dataclass, and its builder."""
    register("algorithm", name, config)
    ALGORITHMS[name] = builder


__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Cohort",
    "Exchange",
    "Reduction",
    "Stack",
    "Survey",
    "added",
    "local_sgd",
    "no_memory",
    "nothing",
    "register_algorithm",
    "weighted_mean",
    "whole_numbers",
]
