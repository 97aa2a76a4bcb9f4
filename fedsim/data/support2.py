"""SUPPORT2: 9,105 seriously ill adults in five US centres, in eight disease groups.

Source: Knaus et al., "The SUPPORT prognostic model", Annals of Internal Medicine 1995;122:191-203,
doi:10.3886/ICPSR02957; UCI Machine Learning Repository, data set 880.

The table is no part of fedsim: `data.path` is a folder with support2.csv, plain or gzipped. It names no
centre; clients are disease groups.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fedsim.base import RequestError, nearest, require
from fedsim.config import Support2
from fedsim.data.federation import Federation, Kind, gather
from fedsim.data.known import Features, numbers, read, words
from fedsim.data.labels import events, times

FILE = "support2.csv"
SHA256 = "217a9d3f3ec20e71ce9b074ef7d8ca92ddb6b4e7e5b1d7723b1f9327eb7c276a"
WHENCE = "the originators' support2 without its column of row numbers"
CLIENTS = {"group": "dzgroup", "class": "dzclass"}
# Known by the third day in the study. In adlsc missing answers are imputed, by a model that is not published:
# the answers themselves are taken.
NUMBERS = (
    "age", "num.co", "edu", "scoma", "hday", "diabetes", "dementia", "meanbp", "wblc", "hrt", "resp", "temp",
    "pafi", "alb", "bili", "crea", "sod", "ph", "glucose", "bun", "urine", "adlp", "adls",
)  # fmt: skip
WORDS = {"sex": "female", "race": "white", "income": "under $11k", "ca": "no", "dzgroup": "ARF/MOSF w/Sepsis"}
# What would tell the outcome, and why.
LEAKS = {
    **dict.fromkeys(("death", "hospdead", "d.time", "slos"), "is or holds the outcome"),
    **dict.fromkeys(("charges", "totcst", "totmcst"), "is known when the stay is over"),
    **dict.fromkeys(("surv2m", "surv6m", "sps", "aps"), "is a score fitted to these outcomes"),
    **dict.fromkeys(("prg2m", "prg6m"), "is the physician's own prediction of the outcome"),
    **dict.fromkeys(("dnr", "dnrday"), "is decided in view of the outcome"),
    "sfdm2": "is measured two months later, or says that the patient has died",
    "avtisst": "is a mean over days 3 to 25",
    "adlsc": "has imputed answers, by a model that is not published",
}
# Fill-in values of a normal physiology that the originators recommend (hbiostat.org/data, description of
# support). Urine in ml a day, BUN in mg/dl.
NORMAL = {
    "alb": 3.5, "pafi": 333.3, "bili": 1.01, "crea": 1.01, "bun": 6.51, "wblc": 9.0, "urine": 2502.0,
}  # fmt: skip
DAYS = 180


def support2(cfg: Support2) -> Federation:
    """Load the patients whose outcome is known. Features are those known by the third day, and no others.

    death_180: whether a patient died within 180 days of entering the study (nobody was lost before then);
    hospital_death: before discharge; survival: days to death or censoring; length_of_stay: days from entry
    to discharge; cost: total cost by ratio of costs to charges, US dollars, without the 888 for whom there
    is none.

    Raises:
      RequestError: no folder or file, another table than the expected one, or `data.features` that are
        unknown or tell the outcome.
    """
    chosen = _chosen(cfg)
    frame = read("support2", cfg.path, FILE, SHA256, WHENCE)
    if cfg.outcome == "cost":
        frame = frame.filter(pa.array(~np.isnan(numbers(frame, "totcst"))))
    features = Features()
    for name in NUMBERS:
        if name in chosen:
            values = numbers(frame, name)
            if cfg.impute_normal and name in NORMAL:
                values = np.where(np.isnan(values), NORMAL[name], values)
            features.number(name, values)
    for name, reference in WORDS.items():
        if name in chosen:
            features.levels(name, words(frame, name), reference)
    columns = {"x": features.x, "y": np.empty(0)}
    kind: Kind = "binary"
    classes = 2
    labels: tuple[str, ...] = ("survived", "died")
    died, days = numbers(frame, "death"), numbers(frame, "d.time")
    if cfg.outcome == "survival":
        columns["y"], kind, classes, labels = events(died, "data.path: death")
        columns["time"] = times(days, "data.path: d.time")
    elif cfg.outcome in ("length_of_stay", "cost"):
        column = "slos" if cfg.outcome == "length_of_stay" else "totcst"
        columns["y"], kind, classes, labels = numbers(frame, column).astype(np.float32), "regression", 0, ()
    else:
        late = (died == 1) & (days <= DAYS)
        columns["y"] = (late if cfg.outcome == "death_180" else numbers(frame, "hospdead") == 1).astype(
            np.int32
        )
    return gather(
        words(frame, CLIENTS[cfg.clients]).tolist(),
        columns,
        kind=kind,
        classes=classes,
        features=tuple(features.names),
        labels=labels,
        licence="CC BY 4.0 as listed by UCI (data set 880); offered freely by the originators",
        source="SUPPORT2, doi:10.3886/ICPSR02957; Knaus et al., Ann Intern Med 1995;122:191-203",
    )


def _chosen(cfg: Support2) -> tuple[str, ...]:
    """Columns of the table that become features. Where clients are disease groups, the group is none."""
    known = tuple(name for name in (*NUMBERS, *WORDS) if name != CLIENTS[cfg.clients])
    for name in cfg.features:
        if name in LEAKS:
            raise RequestError(
                f"data.features: {name} {LEAKS[name]}, so a model that sees it is no prediction; leave it out"
            )
        require(name in known, f"data.features: no feature {name!r}; {nearest(name, known)}")
    return tuple(name for name in known if not cfg.features or name in cfg.features)
