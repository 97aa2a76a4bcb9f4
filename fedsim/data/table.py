"""Your own CSV or Parquet file: a row per patient or several, a column that names the client, a label."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.base import RequestError, nearest, require
from fedsim.config import Table
from fedsim.data.columns import (
    check_present,
    coded,
    complete,
    days,
    is_text,
    kept,
    levels_of,
    numbers,
    numeric,
    weights,
)
from fedsim.data.federation import Federation, gather
from fedsim.data.file import first_line, read
from fedsim.data.labels import encode, events, times
from fedsim.data.onehot import block_names, one_hot
from fedsim.data.quantity import FEWEST, two_sizes


def table(cfg: Table) -> Federation:
    """Load `cfg.path`. Rows are counted from 1 in errors, without the header.

    Text columns, and those in `data.categorical`, are one-hot encoded with the levels found at
    clients that train, first level dropped; a level met only at an external client gives an
    all-zero block and is counted in `metadata[client]["unknown_categories"]`. Features of which a
    client has no value are in `metadata[client]["without_values"]`, with its rows; columns of one level
    at clients that train make no feature, and are in `notes`, as are clients whose numbers of a
    column are of two sizes, as if in two units. Everything else must
    be a number; empty cells, NA, NaN, null, ? and . are missing. A client with a single row is
    welcome: it trains with it and has no test rows.

    Raises:
      RequestError: a file, column or value that cannot be used; the message names it.
    """
    return _federation(cfg, read(cfg))


def with_site(cfg: Table, path: str, site: str) -> Federation:
    """The table of `cfg` and, as one more external client, the rows of a file that holds a site outside.

    Categories are coded by the levels of clients that train, as for any external client; a feature that the
    file has no column of is missing in all its rows, and columns that the table does not have are left out.
    Where the file has the column of clients, rows of others than `site` are left out too.

    Raises:
      RequestError: the file cannot be read, lacks the label or the site, or holds text where the table holds
        numbers, or the other way round.
    """
    frame, other = _plain(read(cfg)), _plain(read(replace(cfg, path=path)))
    name = Path(path).name
    if cfg.client in other.column_names:
        mine = [owner == site for owner in _owners(other, cfg.client)]
        known = sorted(set(_owners(other, cfg.client)))
        require(any(mine), f"{name} has no client {site!r} in column {cfg.client!r}; {nearest(site, known)}")
        other = other.filter(pa.array(mine))
        other = other.drop_columns([cfg.client])
    needed = [column for column in (cfg.target, cfg.time, cfg.patient, cfg.weight) if column is not None]
    for column in needed:
        require(
            column in other.column_names,
            f"{name} has no column {column!r}; {nearest(column, other.column_names)}",
        )
    other = other.append_column(cfg.client, pa.array([site] * other.num_rows))
    other = other.select([column for column in frame.column_names if column in other.column_names])
    for column in other.column_names:
        kinds = frame[column].type, other[column].type
        require(
            numeric(kinds[0]) == numeric(kinds[1]) or pa.types.is_null(kinds[1]),
            f"{name}: column {column!r} holds {kinds[1]}, and in {Path(cfg.path).name} {kinds[0]}; write it "
            "the same way",
        )
    try:
        both = pa.concat_tables([frame, other], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise RequestError(f"{name} does not go with {Path(cfg.path).name}: {first_line(error)}") from None
    external = (cfg.external,) if isinstance(cfg.external, str) else cfg.external
    return _federation(replace(cfg, path=path, external=(*external, site)), both)


def _plain(frame: pa.Table) -> pa.Table:
    """Columns of words as text, however a file encodes them."""
    for i, field in enumerate(frame.schema):
        if pa.types.is_dictionary(field.type):
            frame = frame.set_column(i, field.name, frame.column(i).cast(field.type.value_type))
    return frame


def _federation(cfg: Table, frame: pa.Table) -> Federation:
    require(
        cfg.target is not None,
        "data.label names the column to be predicted, and is missing; set data.label=COLUMN, or for the time "
        "to an event data.time=COLUMN data.event=COLUMN",
    )
    roles = _roles(cfg, frame.column_names)
    owner = _owners(frame, cfg.client)
    external = (cfg.external,) if isinstance(cfg.external, str) else cfg.external
    known = sorted(set(owner))
    for name in external:
        require(
            name in known,
            f"data.external: no client {name!r} in column {cfg.client!r}; {nearest(name, known)}",
        )
    outside = np.isin(np.array(owner, dtype=np.str_), np.array(external, dtype=np.str_))
    require(
        not outside.all(),
        f"data.external: all clients ({', '.join(known)}) are external, so none is left to train on",
    )

    option = "data.label" if cfg.event is None else "data.event"
    label, where = complete(frame, roles[option[5:]], option), f"{option}: column {cfg.target!r}"
    columns: dict[str, np.ndarray] = {}
    if cfg.time is None:
        require(
            len(set(label[~outside].tolist())) > 1,
            f"{where} has only one value ({label[~outside][0]}) in all "
            f"{int((~outside).sum())} training rows; nothing can be learnt from it, choose another label",
        )
        columns["y"], kind, classes, labels = encode(label, cfg.kind, where)
    else:
        columns["y"], kind, classes, labels = events(label, where)
        require(columns["y"][~outside].any(), f"{where} has no event in any training row")
        columns["time"] = times(complete(frame, cfg.time, "data.time"), f"data.time: column {cfg.time!r}")
    if cfg.weight is not None:
        columns["weight"] = weights(frame, cfg.weight)

    calendar = None if cfg.calendar is None else days(frame, cfg.calendar)
    blocks: list[np.ndarray] = []
    features: list[str] = []
    unknown: dict[str, dict[str, Any]] = {}
    told: list[str] = []
    names, holder = np.unique(np.array(owner, dtype=np.str_), return_inverse=True)
    ends = np.cumsum(np.bincount(holder, minlength=len(names)))
    at_client = np.split(np.argsort(holder, kind="stable"), ends[:-1])
    for column in _feature_columns(cfg, frame.column_names, set(roles.values())):
        values = frame[column]
        check_present(values, column, outside)
        if column in cfg.categorical or is_text(values, column):
            codes, levels = levels_of(values, column, outside)
            blocks.append(one_hot(codes, len(levels)))
            features += block_names(column, levels)
            if len(levels) == 1:
                empty = int((codes[~outside] == -1).sum())
                hint = f"; if its {empty} empty cells mean another level, write that there" * (empty > 0)
                told.append(
                    f"column {column!r} has one level ({levels[0]}) in the rows that train, so it makes no "
                    f"feature{hint}"
                )
            for k in np.flatnonzero(codes == -2):
                notes = unknown.setdefault(owner[k], {}).setdefault("unknown_categories", {})
                notes[column] = notes.get(column, 0) + 1
        else:
            blocks.append(numbers(values, column)[:, None])
            features.append(column)
            told += _of_two_sizes(blocks[-1][:, 0], column, names, at_client)
        missing = np.isnan(blocks[-1][:, :1]).any(axis=1)
        if missing.any():
            present = np.bincount(holder[~missing], minlength=len(names))
            for k in np.flatnonzero(present == 0):
                notes = unknown.setdefault(str(names[k]), {}).setdefault("without_values", {})
                notes[column] = int((holder == k).sum())
    require(features, "data: no feature column is left; see data.features and data.drop")
    columns["x"] = np.concatenate(blocks, axis=1)
    made = gather(
        owner,
        columns,
        kind=kind,
        classes=classes,
        external=external,
        patient_of_row=_patients(frame, cfg.patient) if cfg.patient is not None else None,
        calendar=calendar,
        kept={column: kept(frame[column], column) for column in dict.fromkeys(cfg.keep)},
        features=tuple(features),
        labels=labels,
        licence="not stated",
        source=Path(cfg.path).name,
        metadata=unknown,
    )
    return replace(made, notes=tuple(told))


def _roles(cfg: Table, present: Sequence[str]) -> dict[str, str]:
    """Role -> column, for the roles that are used."""
    names = ("client", "patient", "label", "event", "time", "weight", "calendar")
    wanted = {role: getattr(cfg, role) for role in names}
    if cfg.event is not None:
        del wanted["label"]
    roles = {role: column for role, column in wanted.items() if column is not None}
    for role, column in roles.items():
        _check_known(column, present, f"data.{role}")
    for column in cfg.keep:
        _check_known(column, present, "data.keep")
    for option in ("features", "drop", "categorical"):
        for column in getattr(cfg, option):
            _check_known(column, present, f"data.{option}")
            require(
                option == "drop" or column not in roles.values(),
                f"data.{option}: {column!r} is already the "
                f"{', '.join(r for r, c in roles.items() if c == column)} column",
            )
            require(
                option == "drop" or column not in cfg.drop,
                f"data.{option}: {column!r} is in data.drop too; take it out of one",
            )
    for role, column in roles.items():
        other = [r for r, c in roles.items() if c == column and r != role]
        require(not other, f"data.{role} and data.{other[:1]} are both column {column!r}")
    return roles


def _check_known(column: str, present: Sequence[str], option: str) -> None:
    require(column in present, f"{option}: no column {column!r} in the file; {nearest(column, present)}")


def _feature_columns(cfg: Table, present: Sequence[str], taken: set[str]) -> list[str]:
    apart = taken | set(cfg.keep)
    chosen = tuple(dict.fromkeys(cfg.features)) or tuple(c for c in present if c not in apart)
    return [column for column in chosen if column not in cfg.drop]


def _owners(frame: pa.Table, column: str) -> list[str]:
    """Name of each row's client, without spaces around it."""
    codes, words = coded(frame[column], column)
    blank = np.array([*(not word.strip() for word in words), True], dtype=bool)[codes]
    if blank.any():
        raise RequestError(
            f"data.client: column {column!r} is empty in {blank.sum()} rows, first in row "
            f"{np.argmax(blank) + 1}; every row needs a client"
        )
    alike: dict[str, str] = {}
    for name in sorted(words):
        # Composed and decomposed letters (as in Örebro) look the same too.
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        other = alike.setdefault(key, name)
        require(
            other == name,
            f"data.client: {other!r} and {name!r} in column {column!r} differ only in spaces, capitals or "
            "encoding; write one client one way",
        )
    names = [word.strip() for word in words]
    return [names[code] for code in codes]


def _patients(frame: pa.Table, column: str) -> np.ndarray:
    """int32[N]: a number for each row's patient."""
    codes, _ = coded(frame[column], column)
    empty = np.flatnonzero(codes < 0)
    if len(empty):
        raise RequestError(
            f"data.patient: column {column!r} is empty in {len(empty)} rows, first in row {empty[0] + 1}; "
            "every row needs a patient"
        )
    return codes


def _of_two_sizes(
    values: np.ndarray, column: str, names: np.ndarray, at_client: Sequence[np.ndarray]
) -> list[str]:
    """A note for each client whose values of a column look like two units. at_client: rows, by client."""
    told = []
    for name, rows in zip(names, at_client, strict=True):
        found = two_sizes(values[rows]) if len(rows) >= 2 * FEWEST else None
        if found is not None:
            told.append(
                f"{name}: column {column!r} has {found.below} values around {found.low:.3g} and "
                f"{found.above} around {found.high:.3g}, and none between {found.gap[0]:.3g} and "
                f"{found.gap[1]:.3g}; if these are two units, write them in one"
            )
    return told
