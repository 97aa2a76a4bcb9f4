"""A federation: named clients over flat arrays of rows, in name order. NumPy only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from fedsim.base import nearest, require
from fedsim.data.names import IndexNames, client_ids

Kind = Literal["binary", "multiclass", "regression", "survival"]
CHUNK_BYTES = 1 << 26  # rows are scanned in pieces of this size, for arrays larger than memory


class RowGenerator(Protocol):
    """Makes the rows of any client from integers alone, with NumPy or inside a compiled program."""

    @property
    def sizes(self) -> np.ndarray:
        """int32[K]: rows per client."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row's features."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the features: float32 or uint8."""
        ...

    def rows(self, xp: Any, client: Any, position: Any) -> dict[str, Any]:
        """Rows `position` of `client`, both uint32[...]: x [..., *shape] and y int32[...]."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Federation:
    """Clients and their rows.

    names: clients in name order; built on demand in a generated population.
    ids: uint64[K], made of the names (`client_ids`), or the index in a generated population.
    offsets: int64[K + 1]; client k holds rows offsets[k] to offsets[k + 1].
    columns: `x` [N, ...], float32 (NaN = missing) or uint8; `y` [N], int32 for classification and
      float32 for regression; optionally `weight`, float32[N], and `patient`, int32[N], rising: whose each
      row is, a person at two clients being two patients. For survival `y` is the event, 1 or 0
      (censored), and `time`, float32[N] > 0, is when it happened. None: `generate` makes the rows.
    generate: makes the same rows as `columns`, where the source can; what it makes is not checked.
    classes: 2 for binary and survival, C for multiclass, 0 for regression; `labels` names them.
    features: names of the columns of `x` after one-hot encoding; empty for pictures.
    external: indices of clients kept outside training; a test set that is nobody's is one, `holdout`.
    calendar: float64[N], when each row was recorded, on one clock for all; None: it is not known.
    kept: name -> [N], columns that describe rows and that no model sees: float64 (NaN = missing) or text
      ("" = missing), for subgroups.
    test: bool[N], rows that the source's publishers test on, for split=published; None: it names none.
    person: int32[N], whose each row is, a person at two clients being one, for split.unit=patient; None: not
      known.
    fingerprint: SHA-256 of the contents, or of the recipe of a generated population.
    metadata: client name -> what is known of it, such as hospital, region, language.
    notes: what whoever reads results should know of the rows, a sentence each.

    Raises:
      RequestError: contents that do not fit together, infinite values, a client without rows.
    """

    names: Sequence[str]
    ids: np.ndarray
    offsets: np.ndarray
    columns: dict[str, np.ndarray] | None
    kind: Kind
    classes: int
    fingerprint: str
    licence: str
    source: str
    generate: RowGenerator | None = None
    features: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    external: frozenset[int] = frozenset()
    test: np.ndarray | None = None
    calendar: np.ndarray | None = None
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    person: np.ndarray | None = None
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_clients(self)
        require(
            self.columns is not None or self.generate is not None,
            f"{self.source}: a federation needs columns or a row generator, got neither",
        )
        if self.columns is not None:
            _check_columns(self, self.columns)
        beside = self.kept if self.calendar is None else {**self.kept, "calendar": self.calendar}
        for key, value in beside.items():
            require(
                value.shape == (self.rows,),
                f"{self.source}: column {key} has shape {list(value.shape)}, but offsets end at {self.rows}",
            )

    @property
    def rows(self) -> int:
        return int(self.offsets[-1])

    @property
    def clients(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """int64[K]: rows per client."""
        return np.diff(self.offsets)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row's features."""
        if self.columns is not None:
            return self.columns["x"].shape[1:]
        assert self.generate is not None
        return self.generate.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the features: float32 or uint8."""
        if self.columns is not None:
            return self.columns["x"].dtype
        assert self.generate is not None
        return self.generate.dtype

    @property
    def x(self) -> np.ndarray | MadeFeatures:
        """[N, *features], made where it is read if rows are generated."""
        return MadeFeatures(self) if self.columns is None else self.columns["x"]

    def client_of_row(self) -> np.ndarray:
        """int32[N]: index of the client that holds each row."""
        return np.repeat(np.arange(self.clients, dtype=np.int32), self.sizes)

    def labels_of(self, rows: np.ndarray) -> np.ndarray:
        """y of the row ids `rows`: int32[n], or float32[n] for regression, whatever the data mode."""
        if self.columns is not None:
            return np.asarray(self.columns["y"][rows])
        found = np.empty(len(rows), np.int32 if self.classes else np.float32)
        # Whole rows are made, though only their labels are kept.
        step = max(1, CHUNK_BYTES // (8 * int(np.prod(self.shape))))
        for at in range(0, len(rows), step):
            found[at : at + step] = self.made(rows[at : at + step])["y"]
        return found

    def made(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """x and y of the row ids `rows` of a federation whose rows are generated."""
        assert self.generate is not None
        some = np.asarray(rows, np.int64)
        client = np.searchsorted(self.offsets, some, side="right") - 1
        position = (some - self.offsets[client]).astype(np.uint32)
        return self.generate.rows(np, client.astype(np.uint32), position)

    def times_of(self, rows: np.ndarray) -> np.ndarray | None:
        """float32[n]: when the events of the row ids `rows` happened or were censored; survival only."""
        if self.kind != "survival":
            return None
        assert self.columns is not None
        return np.asarray(self.columns["time"][rows])


class MadeFeatures:
    """x of a federation whose rows are generated, as an array that is made where it is read.

    shape, dtype: as of `columns["x"]`; indexed by row ids, int[n].
    """

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.shape, self.dtype = (federation.rows, *federation.shape), federation.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.federation.made(rows)["x"])


def gather(
    client_of_row: Sequence[str],
    columns: Mapping[str, np.ndarray],
    *,
    kind: Kind,
    classes: int,
    external: Sequence[str] = (),
    test: np.ndarray | None = None,
    patient_of_row: np.ndarray | None = None,
    calendar: np.ndarray | None = None,
    kept: Mapping[str, np.ndarray] | None = None,
    features: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    **described: Any,
) -> Federation:
    """A federation from rows in any order: clients sorted by name, rows of each in given order, or patient
    after patient where patients are given.

    Args:
      client_of_row: name of the client that holds each row.
      columns, test, calendar, kept: as in `Federation`, rows in the same order.
      patient_of_row: int[N], the same number for rows of one patient, also at another client.
      described: licence, source, metadata.
    """
    unique, owner = np.unique(np.asarray(client_of_row, dtype=np.str_), return_inverse=True)
    names = tuple(str(name) for name in unique)
    for name in external:
        require(name in names, f"data.external names no client {name!r}; {nearest(name, names)}")
    order = np.argsort(owner, kind="stable")
    person = None
    if patient_of_row is not None:
        order = np.lexsort((patient_of_row, owner))
        new = [np.diff(x[order], prepend=-1) != 0 for x in (owner, patient_of_row)]
        columns = {**columns, "patient": np.empty(len(order), np.int32)}
        columns["patient"][order] = np.cumsum(new[0] | new[1]) - 1
        person = np.unique(patient_of_row, return_inverse=True)[1].astype(np.int32)[order]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(names)))]).astype(np.int64)
    sorted_columns = {key: np.ascontiguousarray(value[order]) for key, value in columns.items()}
    beside = {key: np.ascontiguousarray(value[order]) for key, value in (kept or {}).items()}
    when = None if calendar is None else np.ascontiguousarray(calendar[order])
    # By their bytes: text has no buffer that can be hashed. What is not there changes no fingerprint.
    seen: dict[str, np.ndarray] = {
        f"kept {key}": np.frombuffer(value.tobytes(), np.uint8) for key, value in beside.items()
    }
    seen |= {} if when is None else {"calendar": when}
    # Who is at two clients decides who may train; it is no column of the rows that models see.
    seen |= {} if person is None else {"person": person}
    return Federation(
        names=names,
        ids=client_ids(names),
        offsets=offsets,
        columns=sorted_columns,
        kind=kind,
        classes=classes,
        features=features,
        labels=labels,
        external=frozenset(names.index(name) for name in external),
        test=None if test is None else test[order],
        calendar=when,
        kept=beside,
        person=person,
        fingerprint=fingerprint(names, offsets, sorted_columns | seen, kind, features, labels),
        **described,
    )


def fingerprint(
    names: Sequence[str],
    offsets: np.ndarray,
    columns: Mapping[str, np.ndarray],
    kind: str,
    features: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
) -> str:
    """SHA-256 of everything a model could see of the data, and of who is who; where it came from does not
    matter."""
    layout = {key: [value.dtype.str, *value.shape] for key, value in sorted(columns.items())}
    head = [list(names), np.asarray(offsets).tolist(), layout, kind, list(features), list(labels)]
    found = hashlib.sha256(json.dumps(head).encode())
    for _, value in sorted(columns.items()):
        for piece in pieces(value):
            found.update(np.ascontiguousarray(piece).data)
    return found.hexdigest()


def pieces(values: np.ndarray) -> list[np.ndarray]:
    """`values` in consecutive views of at most `CHUNK_BYTES`, so that a mapped file is read in parts."""
    step = max(1, CHUNK_BYTES // max(1, values[:1].nbytes))
    return [values[start : start + step] for start in range(0, len(values), step)]


def _check_clients(fed: Federation) -> None:
    offsets, clients = np.asarray(fed.offsets), len(fed.offsets) - 1
    require(clients >= 1, f"{fed.source}: a federation needs at least one client, got none")
    require(
        len(fed.names) == clients and len(fed.ids) == clients,
        f"{fed.source}: {len(fed.names)} names and {len(fed.ids)} ids for {clients} clients; "
        "offsets must hold one number more than there are names",
    )
    require(offsets[0] == 0, f"{fed.source}: offsets must start at 0, got {offsets[0]}")
    short = np.flatnonzero(np.diff(offsets) < 1)
    require(
        not len(short),
        f"{fed.source}: client {fed.names[short[0]] if len(short) else None!r} has no rows; "
        "leave it out, and check that offsets rise",
    )
    if not isinstance(fed.names, IndexNames):  # whose names differ by construction
        names = list(fed.names)
        twice = [a for a, b in zip(sorted(names), sorted(names)[1:], strict=False) if a == b]
        require(not twice, f"{fed.source}: two clients are called {twice[:1]}; names must differ")
        require(names == sorted(names), f"{fed.source}: clients must be in name order")
    outside = [i for i in fed.external if not 0 <= i < clients]
    require(not outside, f"{fed.source}: external clients {outside} are not in [0, {clients})")
    require(
        len(fed.external) < clients,
        f"{fed.source}: all {clients} clients are external, so none is left to train on; "
        "name fewer in data.external",
    )


def _check_columns(fed: Federation, columns: dict[str, np.ndarray]) -> None:
    require({"x", "y"} <= set(columns), f"{fed.source}: columns x and y are required, got {sorted(columns)}")
    label = np.float32 if fed.kind == "regression" else np.int32
    allowed = {"x": (np.float32, np.uint8), "y": (label,), "weight": (np.float32,), "patient": (np.int32,)}
    if fed.kind == "survival":
        allowed |= {"time": (np.float32,)}
        require("time" in columns, f"{fed.source}: survival needs a column time, got {sorted(columns)}")
    for key, value in columns.items():
        require(key in allowed, f"{fed.source}: unknown column {key!r}; {nearest(key, allowed)}")
        require(
            value.dtype in allowed[key],
            f"{fed.source}: column {key} must be {' or '.join(t.__name__ for t in allowed[key])}, "
            f"got {value.dtype}",
        )
        require(
            len(value) == fed.rows,
            f"{fed.source}: column {key} has {len(value)} rows, but offsets end at {fed.rows}; "
            "they must be equal",
        )
        require(key == "x" or value.ndim == 1, f"{fed.source}: column {key} must have one value per row")
        if value.dtype == np.float32 and fed.generate is None:
            bad, word = (np.isinf, "infinite") if key == "x" else (lambda v: ~np.isfinite(v), "not finite")
            seen = 0
            for piece in pieces(value):
                hit = bad(piece)
                if hit.any():
                    at = tuple(int(i) for i in np.argwhere(hit)[0])
                    name = fed.features[at[1]] if key == "x" and len(fed.features) else key
                    require(
                        False,
                        f"{fed.source}: {name} is {word} ({piece[at]}) in row {seen + at[0]}; "
                        "correct the value or leave it out",
                    )
                seen += len(piece)
    require(
        "patient" not in columns or bool((np.diff(columns["patient"]) >= 0).all()),
        f"{fed.source}: rows must lie in order of their patients",
    )
    require(
        fed.person is None or fed.person.shape == (fed.rows,),
        f"{fed.source}: person must have one value per row",
    )
    require(columns["x"].ndim >= 2, f"{fed.source}: x must be [rows, features...], got one dimension")
    require(
        not fed.features or (len(fed.features),) == columns["x"].shape[1:],
        f"{fed.source}: {len(fed.features)} feature names for rows of shape {columns['x'].shape[1:]}",
    )
    if fed.kind != "regression" and fed.generate is None:
        low, high = int(columns["y"].min()), int(columns["y"].max())
        require(
            low >= 0 and high < fed.classes,
            f"{fed.source}: labels must be in [0, {fed.classes}), got {low} to {high}",
        )
    if fed.kind == "survival" and fed.generate is None:
        require(bool(columns["y"].any()), f"{fed.source}: no row has an event, so there is nothing to learn")
        least = columns["time"].min()
        require(
            least > 0,
            f"{fed.source}: times must be above 0, got {least:g}; correct the row or leave it out",
        )
