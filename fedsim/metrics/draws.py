"""Metrics of probabilities of a class on many draws of the same rows at once, as a bootstrap asks for them.

A draw is a weight for each row. Scores are sorted once; what `binary` makes of one weighting by running sums
is made here of a block of draws, whose arrays stay in the processor's cache. Calibration takes Newton steps
from the fit to all rows, and `binary`'s bracketed or damped ones on draws where these do not end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedsim.metrics import decisions, smooth
from fedsim.metrics.binary import EPS, intercept, running, slope

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_BLOCK = 1 << 17  # weights at once: 1 MB
_FEWEST = 4  # draws at once, that what belongs to the rows is not read anew for each
_STEPS = 12  # of Newton's method; from the fit to all rows three or four are enough
_NEAR = 1e-6  # a step below it is the last one: convergence is quadratic, so that the next is below 1e-11
_CAPACITY = tuple(f"{name}_top{k}" for name in ("ppv", "sensitivity", "nne") for k in decisions.CAPACITIES)
_OWN = ("auroc", "auprc", "o_e", "calibration_intercept", "calibration_slope", "ici", *_CAPACITY)
_NET_BENEFIT = "net_benefit_"


class Ranked:
    """Labels and probabilities of n rows, sorted once.

    Args:
      y: [n], 0 or 1; p: [n], in [0, 1].
    """

    def __init__(self, y: Floats, p: Floats) -> None:
        self._order = np.argsort(p, kind="stable")
        self._p, self._t = p[self._order], y[self._order].astype(np.float64)
        self._starts = np.flatnonzero(np.diff(self._p, prepend=np.nan) != 0)  # of runs of equal scores
        clipped = np.clip(self._p, EPS, 1.0 - EPS)
        self._logit = np.log(clipped / (1.0 - clipped))
        centre, scale = float(self._logit.mean()) if len(p) else 0.0, float(self._logit.std()) or 1.0
        self._x = (self._logit - centre) / scale
        self._scale = scale
        self._begin: dict[bool, Floats] = {}
        self._frozen = np.array([[centre, scale]], np.float64)  # slope 1, intercept 0, in units of x

    def evaluate(self, w: Floats, names: Sequence[str]) -> dict[str, Floats]:
        """Metrics as of `metrics.evaluate("binary", ...)`, f64[draws] each, nan where undefined.

        Args:
          w: f64[draws, n] >= 0, weights of each draw, in the order of the rows as they were given.
          names: those of `metrics.names("binary")` but `ece`, and net benefits; others are left out.
        """
        parts = {name: values for name in names if (values := _per_row(name, self._t, self._p)) is not None}
        rest = tuple(name for name in names if name in _OWN)
        found = {name: np.full(len(w), np.nan) for name in (*parts, *rest)}
        if not (len(self._p) and np.isfinite(self._p).all()):
            return found
        table = np.stack(list(parts.values()), axis=1) if parts else None
        step = max(_FEWEST, _BLOCK // len(self._p))
        for first in range(0, len(w), step):
            block = np.take(w[first : first + step], self._order, axis=1)
            made = self._block(block, rest)
            if table is not None:
                with np.errstate(invalid="ignore"):
                    means = block @ table / block.sum(axis=1, keepdims=True)
                made |= dict(zip(parts, means.T, strict=True))
            for name, values in made.items():
                found[name][first : first + step] = values
        return found

    def _block(self, w: Floats, names: tuple[str, ...]) -> dict[str, Floats]:
        """w: [draws, n], by rising score."""
        wt = w * self._t
        total, right = w.sum(axis=1), wt.sum(axis=1)
        both = (right > 0) & (right < total)
        found: dict[str, Floats] = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            if "o_e" in names:
                found["o_e"] = right / (w @ self._p)
            if {"auroc", "auprc"} & {*names}:
                made = self._ranking(w, wt, total, right, "auprc" in names)
                found |= {name: np.where(both, values, np.nan) for name, values in made.items()}
            for two, name in enumerate(("calibration_intercept", "calibration_slope")):
                if name in names:
                    found[name] = self._calibration(w, wt, both, bool(two))
        if {*_CAPACITY} & {*names}:
            found |= self._capacity(w, wt)
        if "ici" in names:
            found["ici"] = np.array(
                [self._ici(*one) if some else np.nan for *one, some in zip(w, wt, both, strict=True)]
            )
        return {name: found[name] for name in names}

    # --- ranking -----------------------------------------------------------------------------

    def _ranking(
        self, w: Floats, wt: Floats, total: Floats, right: Floats, precise: bool
    ) -> dict[str, Floats]:
        """auroc, and auprc where it is asked for (`precise`)."""
        hits, misses = self._over_runs(wt), self._over_runs(w - wt)
        upto = np.cumsum(misses, axis=1)
        pairs = np.einsum("dr,dr->d", hits, upto)
        if len(self._starts) < w.shape[1]:
            pairs -= 0.5 * np.einsum("dr,dr->d", hits, misses)
        found = {"auroc": pairs / (right * (total - right))}
        if precise:
            above = right[:, None] - np.cumsum(hits, axis=1) + hits
            everyone = above + (total - right)[:, None] - upto + misses
            precision = np.divide(above, everyone, out=np.zeros_like(above), where=hits > 0)
            found["auprc"] = np.einsum("dr,dr->d", hits, precision) / right
        return found

    def _over_runs(self, x: Floats) -> Floats:
        """Sums [draws, runs] of x [draws, n] over rows of equal scores."""
        if len(self._starts) == x.shape[1]:
            return x
        found: Floats = np.add.reduceat(x, self._starts, axis=1)
        return found

    def _capacity(self, w: Floats, wt: Floats) -> dict[str, Floats]:
        ends = np.append(self._starts[1:], len(self._p))
        each = [
            decisions.capacity(running(a), running(b), ends)
            if a.any()
            else dict.fromkeys(_CAPACITY)
            for a, b in zip(w, wt, strict=True)
        ]  # fmt: skip
        return {name: np.array([one[name] for one in each], np.float64) for name in _CAPACITY}

    # --- calibration -------------------------------------------------------------------------

    def _ici(self, w: Floats, wt: Floats) -> float:
        """As `smooth.ici` of the rows that weigh something."""
        weight, hits = (self._over_runs(one[None])[0] for one in (w, wt))
        some = weight > 0
        fitted = smooth.of_points(self._p[self._starts][some], weight[some], hits[some])
        return smooth.ici(self._p, w, fitted)

    def _calibration(self, w: Floats, wt: Floats, both: Flags, two: bool) -> Floats:
        """The intercept beside the logits, or (two) their slope; nan where there is none."""
        found = np.full(len(w), np.nan)
        defined = both & self._overlap(w, wt) if two else both
        if not defined.any():
            return found
        if two not in self._begin:
            rows = np.ones((1, len(self._p)), np.float64)
            start = self._newton(rows, self._t[None], self._frozen, two)
            self._begin[two] = start if np.isfinite(start).all() else self._frozen
        some = slice(None) if defined.all() else defined
        at = self._newton(w[some], wt[some], self._begin[two], two)
        found[defined] = at[:, 1] / self._scale if two else at[:, 0] - self._frozen[0, 0]
        for d in np.flatnonzero(defined & np.isnan(found)):
            there = w[d] > 0
            t, logit, own = self._t[there], self._logit[there], w[d, there]
            value = slope(logit, t == 1, t, own) if two else intercept(logit, t, own)
            found[d] = np.nan if value is None else value
        return found

    def _overlap(self, w: Floats, wt: Floats) -> Flags:
        """Whether the classes' ranges of logits do, so that a slope exists (see `binary.slope`)."""
        last = w.shape[1] - 1
        (low0, high0), (low1, high1) = (
            (self._logit[there.argmax(axis=1)], self._logit[last - there[:, ::-1].argmax(axis=1)])
            for there in (w > wt, wt > 0)
        )
        found: Flags = (high1 > low0) & (high0 > low1)
        return found

    def _newton(self, w: Floats, wt: Floats, start: Floats, two: bool) -> Floats:
        """[draws, 2], intercept and slope of the logistic regression of labels on x; nan where steps do not
        end. The slope stays where it is unless `two`. start: [1, 2]."""
        x = self._x
        columns = np.stack([np.ones_like(x), x, np.square(x)], axis=1)
        target = wt @ columns[:, :2]
        at = np.repeat(start, len(w), axis=0)
        left = np.arange(len(w))
        for step in range(_STEPS):
            if step == 0:  # one curve for all draws
                q = 1.0 / (1.0 + np.exp(-(start[0, 0] + start[0, 1] * x)))
                first, second = w @ (q[:, None] * columns), w @ ((q * (1.0 - q))[:, None] * columns)
            else:
                own = w if len(left) == len(w) else w[left]
                wq = -(at[left, :1] + at[left, 1:] * x)
                np.exp(wq, out=wq)
                wq += 1.0
                np.divide(1.0, wq, out=wq)
                curve = wq * (1.0 - wq)
                first, second = (wq * own) @ columns, (curve * own) @ columns
            slack = target[left] - first[:, :2]
            haa, hab, hbb = second.T
            if two:
                det = haa * hbb - np.square(hab)
                move = np.stack([hbb, -hab, -hab, haa], axis=1).reshape(-1, 2, 2) @ slack[:, :, None]
                move = np.where(det > 1e-14 * haa * hbb, 1.0, np.nan)[:, None] * move[:, :, 0] / det[:, None]
            else:
                move = np.stack([slack[:, 0] / haa, np.zeros(len(left))], axis=1)
            at[left] += move
            size = np.abs(move).max(axis=1)
            at[left[~(size < 10.0)]] = np.nan  # away from any maximum
            left = left[(size >= _NEAR) & (size < 10.0)]
            if not len(left):
                return at
        at[left] = np.nan
        return at


def _per_row(name: str, y: Floats, p: Floats) -> Floats | None:
    """What each row adds to a metric that is a mean over rows; None for others."""
    if name.startswith(_NET_BENEFIT):
        threshold = float(name.rpartition("_")[2])
        acted = np.ones(len(p)) if name.startswith(f"{_NET_BENEFIT}all_") else (p >= threshold)
        return np.asarray(acted * (y - (1 - y) * threshold / (1 - threshold)), np.float64)
    if name == "brier":
        return np.square(p - y)
    if name == "accuracy":
        return ((p > 0.5) == (y == 1)).astype(np.float64)
    if name == "log_loss":
        own = np.clip(np.where(y == 1, p, 1 - p), EPS, 1 - EPS)
        return np.asarray(-np.log(own), np.float64)
    return None
