"""From scores to the rows of a run: metrics per round, per client, per site, and predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedsim import metrics
from fedsim.config import Experiment
from fedsim.config.attack import Backdoor
from fedsim.data.federation import Federation
from fedsim.metrics import Absolute
from fedsim.run import released, subgroups
from fedsim.run.absolute import Baseline, absolute, curved
from fedsim.simulate.judged import SETS, labels_of, segment
from fedsim.simulate.lanes import Lane

_MOST_CLIENTS = 10_000  # metrics of single clients are kept up to this many


@dataclass
class Judged:
    """Scores of one set over all folds of a run. Row arrays: [n].

    fold, client, row: where each score belongs; score: [n] or [n, classes]; triggered: the same with the
    attack's trigger on every row, where it has one; time: for survival, where label says whether it is an
      event's; absolute: what makes probabilities of its risks, where a horizon is asked for.
    """

    fold: np.ndarray
    client: np.ndarray
    row: np.ndarray
    label: np.ndarray
    score: np.ndarray
    weight: np.ndarray | None
    triggered: np.ndarray | None = None
    time: np.ndarray | None = None
    absolute: Absolute | None = None


@dataclass
class Rows:
    """The rows of one run as they come in; lists of plain mappings."""

    experiment: Experiment
    federation: Federation
    lanes: Sequence[Lane]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    clients: list[dict[str, Any]] = field(default_factory=list)
    finite: bool = True
    _whose: dict[str, Judged] = field(default_factory=dict)  # set -> its rows, which no round changes

    def sets(self) -> list[str]:
        """The sets that have rows in some fold."""
        judged = [lane.judged for lane in self.lanes]
        return [name for name in SETS if any(segment(part, name)[1].any() for part in judged)]

    def judged(
        self,
        which: str,
        scores: Sequence[np.ndarray],
        triggered: Sequence[np.ndarray] | None = None,
        baselines: Sequence[Baseline] | None = None,
        curves: Sequence[np.ndarray] | None = None,
    ) -> Judged:
        """Bring the folds' scores together with their labels. baselines: of each fold; curves: the scores
        over time, where the model has hazards."""
        if which not in self._whose:
            self._whose[which] = self._rows_of(which)
        found = replace(self._whose[which], score=np.concatenate(list(scores)))
        if triggered is not None:
            found = replace(found, triggered=np.concatenate(list(triggered)))
        if baselines is not None:
            return replace(found, absolute=absolute(baselines, found.fold, found.client))
        if curves is not None:
            by_time = curved(self.experiment, found.score, np.concatenate(list(curves)))
            return replace(found, absolute=by_time)
        return found

    def _rows_of(self, which: str) -> Judged:
        """The rows of a set over all folds, the same in every round, before they have scores."""
        parts = [labels_of(lane.judged, which) for lane in self.lanes]
        rows = np.concatenate([p[0] for p in parts])
        columns = self.federation.columns
        return Judged(
            fold=np.repeat(np.arange(len(parts), dtype=np.int32), [len(p[0]) for p in parts]),
            client=np.concatenate([p[1] for p in parts]).astype(np.int32),
            row=rows,
            label=self.federation.labels_of(rows),
            score=np.zeros(0, np.float32),
            weight=columns["weight"][rows] if columns is not None and "weight" in columns else None,
            time=self.federation.times_of(rows),
        )

    def add(
        self, rnd: int, which: str, held: Judged, final: bool, extra: dict[str, Any], together: Judged
    ) -> None:
        """Metrics after round `rnd`: over all folds together, per client, and per natural site.

        together: what all rows together are judged by, where it is not `held`, what clients are judged by.
        """
        self.finite &= bool(np.isfinite(held.score).all())
        replica = -1 if len(self.lanes) > 1 else 0
        pooled = self._measure(together, slice(None), final)
        base = {"round": rnd, "replica": replica, "set": which}
        sent = self._sent(rnd, which, held)
        everyone = released.measured([c for of in sent.values() for c in of], final) if sent else {}
        size = {"n": len(held.row), "positives": self._positives(held, slice(None))}
        self.rounds.append(base | {"aggregate": "pooled"} | size | pooled | everyone | extra)
        names = self.lanes[0].judged.names
        per_client = self._per(held, held.client, names, base, "client", final)
        per_site: list[dict[str, Any]] = []
        if final and self.federation.clients <= 100:
            sites = self.federation.names
            site = np.searchsorted(self.federation.offsets, held.row, side="right") - 1
            if np.array_equal(site, held.client) and list(names) == list(sites):  # as most often
                per_site = [row | {"group": "site"} for row in per_client]
            else:
                per_site = self._per(held, site, sites, base, "site", final)
        for row in per_client:
            row |= released.measured(sent[row["name"]], final) if sent else {}
        if len(per_client) > 1:
            values = [{k: row[k] for k in pooled} for row in per_client]
            summary = metrics.aggregates(values, [row["n"] for row in per_client])
            for kind in ("mean", "weighted_mean", "worst"):
                found = {name: by_kind[kind] for name, by_kind in summary.items()}
                self.rounds.append(base | {"aggregate": kind, "n": len(held.row)} | found | extra)
        self.clients += per_client + per_site
        if final:
            self.clients += self._groups(held, base)

    def _sent(self, rnd: int, which: str, held: Judged) -> dict[str, list[np.ndarray]]:
        """Client -> what it sends of its rows of a set, one array of noised counts for every fold that judges
        by some; {} where that is not asked for."""
        e, cfg = self.experiment, self.experiment.evaluate
        if cfg.noise_multiplier is None:
            return {}
        unit = released.units(e, self.federation, held.row)
        sent: dict[str, list[np.ndarray]] = {}
        for fold, client in np.unique(np.stack([held.fold, held.client], axis=1), axis=0).tolist():
            mine = (held.fold == fold) & (held.client == client)
            whose = None if unit is None else unit[mine]
            exact = released.counts(held.label[mine], held.score[mine], whose, cfg.bins)
            name = self.lanes[fold].judged.names[client]
            counts = released.noised(exact, cfg, e.seed, fold, which, rnd, name)
            sent.setdefault(name, []).append(counts)
        return sent

    def _per(
        self,
        held: Judged,
        owner: np.ndarray,
        names: Sequence[str],
        base: dict[str, Any],
        group: str,
        final: bool,
    ) -> list[dict[str, Any]]:
        present = np.unique(owner)
        if len(present) > _MOST_CLIENTS:
            return []
        order = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[order], present)
        found = []
        for k, mine in zip(present, np.split(order, starts[1:]), strict=True):
            size = {"n": len(mine), "positives": self._positives(held, mine)}
            found.append(
                base | {"group": group, "name": names[int(k)]} | size | self._measure(held, mine, final)
            )
        return found

    def _positives(self, held: Judged, rows: Any) -> int | None:
        """Events, or rows of class 1."""
        return int((held.label[rows] > 0).sum()) if self.federation.kind in _COUNTED else None

    def _groups(self, held: Judged, base: dict[str, Any]) -> list[dict[str, Any]]:
        """Every subgroup, and of each column the gap: the largest less the smallest value of each metric,
        over the groups that have one; without groups that are too small or of missing values."""
        cfg, found = self.experiment.evaluate, []
        for name, cuts in cfg.groups.items():
            names, of_row = subgroups.groups(self.federation, name, cuts, held.row)
            rows = self._per(held, of_row, names, base, "subgroup", True)
            metric = rows[0].keys() - {*base, *_SIZES}
            for row in rows:
                events = row["n"] if row["positives"] is None else row["positives"]
                others = row["n"] - events if self.federation.kind == "binary" else events
                if min(events, others) < cfg.fewest:
                    row |= dict.fromkeys(metric)
            compared = [row for row in rows if row["name"] != f"{name} {subgroups.MISSING}"]
            gap: dict[str, Any] = {"group": "gap", "name": name}
            for size in ("n", "positives"):
                gap[size] = sum(row[size] for row in compared) if rows[0][size] is not None else None
            for key in (k for k in rows[0] if k in metric):
                values = [row[key] for row in compared]
                gap[key] = metrics.gap(values)
            found += [*rows, base | gap]
        return found

    def _measure(self, held: Judged, rows: Any, full: bool) -> dict[str, float | None]:
        weight, time = (None if x is None else x[rows] for x in (held.weight, held.time))
        kind, label = self.federation.kind, held.label[rows]
        found = metrics.evaluate(
            kind,
            label,
            held.score[rows],
            weight,
            full=full,
            time=time,
            thresholds=self.experiment.evaluate.thresholds if full else (),
            absolute=held.absolute.of(rows) if full and held.absolute is not None else None,
        )
        attack = self.experiment.attack
        if held.triggered is not None and isinstance(attack, Backdoor):
            found["backdoor"] = metrics.backdoor(kind, label, held.triggered[rows], attack.target, weight)
        return found

    def predictions(self, rnd: int, held: dict[str, Judged]) -> dict[str, Any]:
        """One entry per judged row, as columns."""
        from fedsim.store.columns import repeated

        names, parts = self.lanes[0].judged.names, list(held.values())
        rows = [len(part.row) for part in parts]
        present, client = np.unique(np.concatenate([part.client for part in parts]), return_inverse=True)
        return {
            "round": np.full(sum(rows), rnd, np.int32),
            "replica": np.concatenate([part.fold for part in parts]),
            "set": repeated(list(held), np.repeat(np.arange(len(held)), rows)),
            "client": repeated([names[k] for k in present.tolist()], client),
            "row": np.concatenate([part.row for part in parts]).astype(np.int64),
            **_labels(parts),
            "score": np.concatenate([part.score for part in parts]),
            **_risks(parts),
            **self._beside(parts),
        }

    def _beside(self, held: Sequence[Judged]) -> dict[str, np.ndarray]:
        """Whose each row is, and what it weighs, where the data say."""
        columns, rows = self.federation.columns or {}, np.concatenate([h.row for h in held])
        return {name: columns[name][rows] for name in ("patient", "weight") if name in columns}

    def summary(self, measures: Sequence[str] = ()) -> dict[str, Any]:
        """Final metrics for people and `--json`: pooled, and by name clients, external sites, and
        clients that joined late. measures: columns that are no metrics."""
        last = max((row["round"] for row in self.rounds), default=0)
        skip = {"round", "replica", "set", "aggregate", "group", "name", "n", "positives", *_EXTRA, *measures}

        def metric(row: dict[str, Any]) -> dict[str, Any]:
            return {"n": row["n"]} | {k: v for k, v in row.items() if k not in skip}

        final = [r for r in self.rounds if r["round"] == last]
        shown = next((s for s in ("test", "valid") if any(r["set"] == s for r in final)), "external")
        clients = [r for r in self.clients if r["round"] == last and r["group"] == "client"]
        pooled = [r for r in final if r["set"] == shown and r["aggregate"] == "pooled"]
        return {
            "set": shown,
            "pooled": metric(pooled[0]) if pooled else {},
            "clients": {r["name"]: metric(r) for r in clients if r["set"] == shown and shown != "external"},
            "external": {r["name"]: metric(r) for r in clients if r["set"] == "external"},
            "late": {r["name"]: metric(r) for r in clients if r["set"] == "late"},
        }


_SIZES = ("group", "name", "n", "positives")
_COUNTED = ("binary", "survival")  # kinds whose rows of label 1 are counted

_EXTRA = {"cohort", "bytes_up", "bytes_down", "simulated_seconds", "energy_joules", "aborted_rounds"}


def _labels(held: Sequence[Judged]) -> dict[str, np.ndarray]:
    """The columns that say what was to be predicted."""
    label = np.concatenate([h.label for h in held])
    times = [h.time for h in held if h.time is not None]
    return {"time": np.concatenate(times), "event": label} if times else {"label": label}


def _risks(held: Sequence[Judged]) -> dict[str, np.ndarray]:
    """Probabilities of the event by the horizon, where one is asked for."""
    found = [h.absolute.risk(h.score.astype(np.float64)) for h in held if h.absolute is not None]
    return {"risk": np.concatenate(found)} if found else {}


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns; what a row lacks is null."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}
