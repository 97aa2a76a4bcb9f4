"""Which of a client's rows train, validate and test: shares, folds, or one client left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fedsim.base import require
from fedsim.config import Drift, SplitConfig
from fedsim.data.dealing import TEST, TRAIN, VALID, Units, deal_folds, move, share_of
from fedsim.data.federation import Federation
from fedsim.data.names import client_ids
from fedsim.data.rng import generator
from fedsim.data.splits.assignment import Assignment

MOST_LEFT_OUT = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """rows: int32[n] row ids, client after client, and inside a client training, validation, test
      rows, each in the order of `time` where there is one; None: row i is row i (a generated population).
    offsets: int64[K + 1] into `rows`. train, valid, test: int32[K] counts.
    external: clients outside training; all their rows are test rows.
    late: clients that join when training is over: their rows are divided like others', and train nothing
      but a model of their own.
    fold: which of the folds this is.
    time: as in `Assignment`, for all rows of the federation.
    person: as in `Federation`, for all its rows, where patients are dealt and not rows.
    """

    rows: np.ndarray | None
    offsets: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    names: Sequence[str]
    ids: np.ndarray
    external: frozenset[int] = frozenset()
    late: frozenset[int] = frozenset()
    fold: int = 0
    time: np.ndarray | None = None
    person: np.ndarray | None = None

    @property
    def clients(self) -> int:
        return len(self.offsets) - 1

    @property
    def federated(self) -> np.ndarray:
        """int32[K]: training rows of the clients that take part in training; 0 for those that join late."""
        if not self.late:
            return self.train
        return np.where(np.isin(np.arange(self.clients), sorted(self.late)), np.int32(0), self.train)

    def part(self, which: Literal["federated", "train", "valid", "test"]) -> tuple[np.ndarray, np.ndarray]:
        """(row ids, client of each), both int32[n], of all training, validation or test rows; federated: of
        the training rows without those of clients that join late."""
        require(self.offsets[-1] < 1 << 31, f"{self.offsets[-1]} rows are too many to list; at most 2^31 - 1")
        counts = getattr(self, which)
        before = {"valid": self.train, "test": self.train.astype(np.int64) + self.valid}
        start = self.offsets[:-1] + before.get(which, 0)
        client = np.repeat(np.arange(self.clients, dtype=np.int32), counts)
        first = np.cumsum(counts, dtype=np.int64) - counts
        place = np.repeat(start - first, counts) + np.arange(len(client), dtype=np.int64)
        return (place.astype(np.int32) if self.rows is None else self.rows[place]), client


def partitions(
    federation: Federation, assignment: Assignment, cfg: SplitConfig, seed: int
) -> tuple[Partition, ...]:
    """The partition of one run, or one for each fold.

    The same clients join late in all folds: `split.late` of those that hold rows, at least one, and at
    least one takes part.

    *Shares*: `split.test` and `split.valid` of each client's rows, rounded to the nearest row,
    stratified by label (largest remainder; the only row of a label trains if it can). At least one
    row trains, so a client with a single row has nothing to test. Where the split names the test rows,
    those are tested instead, and `split.valid` is a share of the others.
    *Folds*: every row is tested in exactly one; label by label and client by client their sizes
    differ by at most one. *Leave one out*: fold i tests all rows of client i and trains on the
    others. In both, `split.valid` is a share of the rows that would train.

    *Patients* (`split.unit=patient`): these are dealt as rows are, each with the client of its first row and
    the highest label of its rows, and take all their rows with them. Rows that would train, of patients with
    rows that are tested in any case (at external clients, at the one left out, or named by the split), are
    left out.

    Rows that are generated are exchangeable: their first positions train, the next validate, the
    last test, whether or not they lie in memory.

    Raises:
      RequestError: folds of rows that are not in memory, too few rows or clients for them, or patients that
        are not known.
    """
    require(
        cfg.unit == "record" or federation.person is not None,
        "split.unit=patient needs to know whose each row is; use data=table with data.patient=COLUMN or "
        "data=diabetes_130, or set split.unit=record",
    )
    made = _partitions(federation, assignment, cfg, seed)
    if not cfg.late:
        return made
    held = np.diff(made[0].offsets) > 0
    held[sorted(assignment.external)] = False
    known = np.flatnonzero(held)
    require(
        len(known) > 1,
        f"split.late={cfg.late} needs two clients or more that hold rows, one to train and one to join late, "
        f"got {len(known)}; set split.late=0",
    )
    count = min(max(1, round(cfg.late * len(known))), len(known) - 1)
    drawn = generator(seed, "partition", "late").choice(known, count, replace=False)
    return tuple(replace(part, late=frozenset(drawn.tolist())) for part in made)


def _partitions(
    federation: Federation, assignment: Assignment, cfg: SplitConfig, seed: int
) -> tuple[Partition, ...]:
    everyone = range(len(assignment.names) if cfg.leave_one_out else 0)
    inside = [k for k in everyone if k not in assignment.external]
    require(
        not cfg.leave_one_out or 2 <= len(inside) <= MOST_LEFT_OUT,
        f"split.leave_one_out=true makes one fold per client and needs 2 to {MOST_LEFT_OUT} of them, "
        f"got {len(inside)}; use split.folds",
    )
    if federation.generate is not None and assignment.client is None and not cfg.folds:
        return _of_generated(federation, assignment, cfg, inside)
    require(
        federation.columns is not None,
        f"split.folds={cfg.folds} needs the rows in memory; set data.mode=resident, or use split.test",
    )
    assert federation.columns is not None
    require(
        federation.rows < 1 << 31,
        f"{federation.source} has {federation.rows} rows; at most 2^31 - 1 can be split",
    )
    client = federation.client_of_row() if assignment.client is None else assignment.client
    shares = cfg.test or cfg.valid or cfg.folds or cfg.leave_one_out or assignment.test is not None
    if assignment.client is None and not shares:
        person = federation.person if cfg.unit == "patient" else None
        if person is None or not assignment.external:
            return (replace(_in_order(federation, assignment), person=person),)

    units = Units(client, federation.columns["y"], federation.person if cfg.unit == "patient" else None)
    base = np.full(len(client), TRAIN, dtype=np.int8)
    base[np.isin(client, sorted(assignment.external))] = TEST
    if assignment.test is not None:
        base[assignment.test] = TEST
    parts: list[np.ndarray] = []
    if cfg.leave_one_out:
        parts = [np.where(client == k, np.int8(TEST), base) for k in inside]
    elif cfg.folds:
        training = int((base == TRAIN).sum())
        require(
            cfg.folds <= training,
            f"split.folds must be in [2, {training}], the number of training rows, got {cfg.folds}",
        )
        dealt = deal_folds(
            units.client, units.label, units.gather(base), cfg.folds, generator(seed, "partition", "folds")
        )
        fold = np.where(base == TRAIN, units.spread(dealt), -1)
        parts = [np.where(fold == f, np.int8(TEST), base) for f in range(cfg.folds)]
    else:
        parts = [base]

    made = []
    for f, part in enumerate(parts):
        rng = generator(seed, "partition", f)
        dealt = units.gather(part)
        sizes = np.bincount(units.client[dealt == TRAIN], minlength=len(assignment.names))
        if not (cfg.folds or cfg.leave_one_out or assignment.test is not None):
            dealt = move(dealt, units.client, units.label, share_of(sizes, cfg.test, sizes), TEST, rng)
        left = np.bincount(units.client[dealt == TRAIN], minlength=len(assignment.names))
        dealt = move(dealt, units.client, units.label, share_of(sizes, cfg.valid, left), VALID, rng)
        kept = (part != TRAIN) | (units.spread(units.gather(part)) == TRAIN)
        part = np.where(part == TRAIN, units.spread(dealt), part)
        if isinstance(cfg, Drift) and cfg.judge == "last":
            assert assignment.time is not None
            kept &= (part == TRAIN) | (assignment.time >= 1 - cfg.window)
        rows = np.flatnonzero(kept).astype(np.int32)
        made.append(replace(_assemble(rows, client[rows], part[rows], assignment, f), person=units.person))
    return tuple(made)


def hold_out(partition: Partition, labels: np.ndarray | None, share: float, seed: int) -> Partition:
    """Move a share of each client's training rows (or patients, as these were dealt), stratified by label, to
    its validation rows.

    Args:
      labels: [N] for all rows of the federation; None or float labels: not stratified.
      share: in (0, 1); at least one row stays, where there is one.
    """
    require(0 < share < 1, f"the share to hold out must be in (0, 1), got {share}")
    if partition.rows is None:
        count = share_of(partition.train, share, partition.train).astype(np.int32)
        return replace(partition, train=partition.train - count, valid=partition.valid + count)
    client = np.repeat(np.arange(partition.clients, dtype=np.int32), np.diff(partition.offsets))
    counts = np.stack([partition.train, partition.valid, partition.test], axis=1).ravel()
    part = np.repeat(np.tile(np.array([TRAIN, VALID, TEST], dtype=np.int8), partition.clients), counts)
    label = np.zeros(len(client), dtype=np.int64) if labels is None else labels[partition.rows]
    units = Units(client, label, None if partition.person is None else partition.person[partition.rows])
    dealt = units.gather(part)
    sizes = np.bincount(units.client[dealt == TRAIN], minlength=partition.clients)
    rng = generator(seed, "hold_out", partition.fold)
    dealt = move(dealt, units.client, units.label, share_of(sizes, share, sizes), VALID, rng)
    part = np.where(part == TRAIN, units.spread(dealt), part)
    found = _assemble(partition.rows, client, part, partition, partition.fold)
    return replace(found, late=partition.late, person=partition.person)


def pool(partition: Partition) -> Partition:
    """One client `pooled` that holds everyone's training, validation and test rows, but no training rows
    of clients that join late.

    For training in one place; clients are still evaluated on the partition it was made from.
    """
    kept = [partition.part(which)[0] for which in ("federated", "valid", "test")]
    if partition.time is not None:
        kept = [rows[np.argsort(partition.time[rows], kind="stable")] for rows in kept]
    train, valid, test = (np.array([len(rows)], dtype=np.int32) for rows in kept)
    names = ("pooled",)
    return Partition(
        rows=np.concatenate(kept),
        offsets=np.array([0, sum(map(len, kept))], dtype=np.int64),
        train=train,
        valid=valid,
        test=test,
        names=names,
        ids=client_ids(names),
        fold=partition.fold,
        time=partition.time,
    )


def _assemble(
    rows: np.ndarray, client: np.ndarray, part: np.ndarray, source: Assignment | Partition, fold: int
) -> Partition:
    clients, time = len(source.names), source.time
    key = client.astype(np.int64) * 3 + part
    counts = np.bincount(key, minlength=3 * clients).reshape(clients, 3)
    return Partition(
        rows=rows[np.lexsort((rows, key) if time is None else (rows, time[rows], key))].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts.sum(axis=1))]).astype(np.int64),
        train=counts[:, TRAIN].astype(np.int32),
        valid=counts[:, VALID].astype(np.int32),
        test=counts[:, TEST].astype(np.int32),
        names=source.names,
        ids=source.ids,
        external=source.external,
        fold=fold,
        time=time,
    )


def _in_order(federation: Federation, assignment: Assignment) -> Partition:
    """Everything trains, and lies as it lay: no sorting, for populations of many millions of rows."""
    train = federation.sizes.astype(np.int32)
    test = np.zeros_like(train)
    outside = sorted(assignment.external)
    test[outside], train[outside] = train[outside], 0
    return Partition(
        rows=np.arange(federation.rows, dtype=np.int32),
        offsets=federation.offsets,
        train=train,
        valid=np.zeros_like(train),
        test=test,
        names=assignment.names,
        ids=assignment.ids,
        external=assignment.external,
    )


def _of_generated(
    federation: Federation, assignment: Assignment, cfg: SplitConfig, inside: Sequence[int]
) -> tuple[Partition, ...]:
    sizes = federation.sizes
    made = []
    for fold, left_out in enumerate(inside if cfg.leave_one_out else [None]):
        test = np.zeros_like(sizes) if cfg.leave_one_out else share_of(sizes, cfg.test, sizes)
        outside = [*sorted(assignment.external), *([] if left_out is None else [left_out])]
        test[outside] = sizes[outside]
        valid = np.where(test == sizes, 0, share_of(sizes, cfg.valid, sizes - test))
        made.append(
            Partition(
                rows=None,
                offsets=federation.offsets,
                train=(sizes - test - valid).astype(np.int32),
                valid=valid.astype(np.int32),
                test=test.astype(np.int32),
                names=assignment.names,
                ids=assignment.ids,
                external=assignment.external,
                fold=fold,
            )
        )
    return tuple(made)
