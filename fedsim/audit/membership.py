"""Who was a training row? Scores of membership attacks, and how often they are right.

All attacks see the target model's output on a row, as the log odds phi = log p / (1 - p) of the row's label,
and the same of shadow models trained with and without that row.

- `loss`: phi of the target alone. Source: Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine
  Learning: Analyzing the Connection to Overfitting", CSF 2018, adversary 2.
- `lira`: log N(phi; mean, spread of the models with it) / N(phi; of those without), spreads over all rows
  together below 64 shadows. Source: Carlini, Chien, Nasr, Song, Terzis, Tramer, "Membership Inference Attacks
  From First Principles", S&P 2022, Alg. 1 and section VI.
- `rmia`: the share of other rows z for which (p(x) / mean p(x)) / (p(z) / mean p(z)) >= gamma, means over
  shadows with and without the row in equal parts. Source: Zarifzadeh, Liu, Shokri, "Low-Cost High-Power
  Membership Inference Attacks", ICML 2024, equations 2 to 5.
- `bayes`: both are log-likelihood ratios of one exponential family that differ in what is estimated for each
  row; between them, spreads have a conjugate prior around all rows' spread, which makes phi's predictive
  distribution a Student t. Source: Brannvall, "Exponential-Family Membership Inference: From LiRA and RMIA
  to BaVarIA", arXiv 2603.11799, 2026 (BaVarIA-t); the prior here is flat in the mean and as strong as four
  models in the spread.

NumPy and SciPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy
from scipy import special

from fedsim import metrics

Floats = np.ndarray

_EPS = 1e-7  # probabilities are kept away from 0 and 1, where models in float32 cannot tell
_OWN_SPREAD = 64  # shadows from which each row has a spread of its own (Carlini et al., section VI)
_PRIOR = 4.0  # models that the prior of a spread is worth
FALSE = (0.01, 0.001)  # shares of false positives


def log_odds(label: np.ndarray, score: Floats) -> Floats:
    """phi f64[n] of rows: score is the probability of class 1 [n], or probabilities [n, classes]."""
    p = np.asarray(score, np.float64)
    p = np.where(label > 0, p, 1 - p) if p.ndim == 1 else p[np.arange(len(p)), label]
    return special.logit(np.clip(p, _EPS, 1 - _EPS))


def _moments(phi: Floats, used: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """(models, mean, sum of squared deviations), f64[n] each, of the used of phi f64[shadows, n]."""
    count = used.sum(axis=0).astype(np.float64)
    mean = np.where(used, phi, 0).sum(axis=0) / np.maximum(count, 1)
    return count, mean, (np.where(used, phi - mean, 0) ** 2).sum(axis=0)


def attacks(target: Floats, shadows: Floats, inside: np.ndarray, gamma: float) -> dict[str, Floats]:
    """Every attack's scores f64[n], higher for members.

    Args:
      target: phi of the audited model, f64[n]; shadows: f64[shadows, n]; inside: bool[shadows, n], whose
        training rows they were.
    """
    sides = [_moments(shadows, inside), _moments(shadows, ~inside)]
    return {
        "loss": target,
        "lira": _lira(target, sides, len(shadows)),
        "rmia": _rmia(target, shadows, inside, gamma),
        "bayes": _bayes(target, sides),
    }


def _shared(sides: list[tuple[Floats, Floats, Floats]]) -> list[float]:
    """Each side's variance over all rows."""
    return [max(float(ss.sum() / max((n - 1).clip(0).sum(), 1)), 1e-12) for n, _, ss in sides]


def _lira(target: Floats, sides: list[tuple[Floats, Floats, Floats]], shadows: int) -> Floats:
    out = []
    for (n, mean, ss), shared in zip(sides, _shared(sides), strict=True):
        own = np.maximum(ss / np.maximum(n - 1, 1), 1e-12)
        spread = np.sqrt(np.where((n > 1) & (shadows >= _OWN_SPREAD), own, shared))
        out.append(scipy.stats.norm.logpdf(target, mean, spread))
    return out[0] - out[1]


def _bayes(target: Floats, sides: list[tuple[Floats, Floats, Floats]]) -> Floats:
    out = []
    for (n, mean, ss), shared in zip(sides, _shared(sides), strict=True):
        freedom = _PRIOR + np.maximum(n - 1, 0)
        scale = np.sqrt((_PRIOR * shared + ss) / freedom * (1 + 1 / np.maximum(n, 1)))
        out.append(scipy.stats.t.logpdf(target, freedom, mean, scale))
    return out[0] - out[1]


def _rmia(target: Floats, shadows: Floats, inside: np.ndarray, gamma: float) -> Floats:
    p = special.expit(shadows)
    with_, without = (
        np.where(used, p, 0).sum(axis=0) / np.maximum(used.sum(axis=0), 1) for used in (inside, ~inside)
    )
    ratio = special.expit(target) / ((with_ + without) / 2)
    # The share of other rows z with ratio_x / ratio_z >= gamma, by rank.
    ranked = np.sort(ratio)
    return np.searchsorted(ranked, ratio / gamma, side="right") / len(ratio)


def interval(hits: int, of: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    if of == 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    low = scipy.stats.beta.ppf(tail, hits, of - hits + 1) if hits else 0.0
    high = scipy.stats.beta.ppf(1 - tail, hits + 1, of - hits) if hits < of else 1.0
    return float(low), float(high)


def threshold(scores: Floats, false: float) -> float:
    """The smallest bound that at most a share `false` of non-members' scores exceeds."""
    ranked = np.sort(scores)
    return float(ranked[len(ranked) - 1 - int(false * len(ranked))])


def rates(scores: Floats, member: np.ndarray, confidence: float) -> dict[str, Any]:
    """How well scores tell members: the area under the curve, and true positives at few false ones, whose
    intervals are those of a share for the bound that the non-members gave."""
    found: dict[str, Any] = {
        "auc": metrics.evaluate("binary", member.astype(np.int32), _rank(scores))["auroc"]
    }
    outside, inside = scores[~member], scores[member]
    for false in FALSE:
        bound = threshold(outside, false)
        hits = int((inside > bound).sum())
        found[f"tpr_at_{false:g}"] = {
            "tpr": hits / len(inside),
            "interval": interval(hits, len(inside), confidence),
            "false_positives": int((outside > bound).sum()),
            "non_members": len(outside),
        }
    return found


def _rank(scores: Floats) -> Floats:
    """Scores as numbers in (0, 1) in the same order, ties kept."""
    return scipy.stats.rankdata(scores) / (len(scores) + 1)


def by_group(
    scores: Floats, member: np.ndarray, groups: Mapping[str, np.ndarray], confidence: float
) -> list[dict[str, Any]]:
    """True positives at 1 % false ones of everybody, group by group, the most exposed first.

    Args:
      groups: what they are formed by -> the group of every row [n].
    """
    bound = threshold(scores[~member], FALSE[0])
    found = []
    for by, owner in groups.items():
        for name in np.unique(owner):
            mine = owner == name
            inside, outside = scores[mine & member], scores[mine & ~member]
            if len(inside) == 0:
                continue
            hits, wrong = int((inside > bound).sum()), int((outside > bound).sum())
            found.append(
                {
                    "by": by,
                    "group": str(name),
                    "members": len(inside),
                    "non_members": len(outside),
                    "tpr": hits / len(inside),
                    "interval": interval(hits, len(inside), confidence),
                    "fpr": wrong / len(outside) if len(outside) else None,
                }
            )
    return sorted(found, key=lambda g: (-g["tpr"], -g["interval"][0], g["by"], g["group"]))
