"""What a fit by `algorithm=newton` is to a statistician: standard errors, tests and intervals, from its sums.

Sources: Wald, "Tests of Statistical Hypotheses Concerning Several Parameters When the Number of Observations
is Large", Trans. AMS 1943; baseline hazards: Breslow, discussion of Cox, JRSS B 1972, and Efron, JASA 1977;
dispersion of amounts: McCullagh and Nelder, "Generalized Linear Models", 1989, section 8.3, solved as by
Minka, "Estimating a Gamma Distribution", 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from fedsim.algorithms.newton import CONVERGED, SEPARATED, SINGULAR, STUCK, Fit
from fedsim.base import require
from fedsim.config import Experiment, Gamma, Newton
from fedsim.data.federation import Federation
from fedsim.simulate.engine import Engine, Handles
from fedsim.simulate.lanes import Lane

LEVEL = 0.95  # of intervals
_RATIOS = {"survival": "hazard_ratio", "binary": "odds_ratio", "amounts": "mean_ratio"}
_FIX = "set task.l2=0.001 (ridge) or algorithm.l1=0.001 (lasso)"


def check(experiment: Experiment, federation: Federation, lanes: Sequence[Lane]) -> None:
    """Refuse what Newton's method cannot fit, before anything is computed."""
    cfg = experiment.algorithm
    if not isinstance(cfg, Newton):
        return
    dtype = experiment.numerics.dtype
    require(
        dtype == "float64",
        f"algorithm=newton equals the pooled fit because its sums are exact, and numerics.dtype={dtype} "
        "rounds them; set numerics=float64",
    )
    survival = federation.kind == "survival"
    require(
        survival or not cfg.stratified,
        "algorithm.stratified=true gives every client a baseline hazard, which task=cox alone has; set "
        "algorithm.stratified=false",
    )
    for lane in lanes if survival else ():
        rows, _ = lane.clients.part("federated")
        require(
            bool((federation.labels_of(rows) > 0).any()),
            f"no training row of {len(rows)} has an event, so there is no hazard to fit; lower split.test",
        )


def fits(experiment: Experiment, engine: Engine, states: list[Handles]) -> list[Fit] | None:
    """Every lane's, as NumPy arrays; None for other algorithms."""
    if not isinstance(experiment.algorithm, Newton):
        return None
    import jax

    return [
        jax.tree.map(lambda x, i=i: np.asarray(x[i]), state.server)
        for state, team in zip(engine.fetch(states), engine.teams, strict=True)
        for i in range(len(team.lanes))
    ]


def failed(fit: Fit, features: Sequence[str]) -> str | None:
    """Why there is no fit, in a sentence; None where there is one, or may be after more rounds."""
    status = int(fit.status)
    if status == SINGULAR:
        curved = np.diagonal(fit.sums.hessian)
        nothing = curved[-len(features) :] <= 0 if features else np.zeros(0, bool)
        if nothing.any():
            constant = ", ".join(np.array(features)[nothing])
            return (
                f"algorithm=newton: {constant} does not vary among the training rows that count, so there is "
                f"no coefficient; drop it with data.drop=[{constant}], or {_FIX}"
            )
        names = _named(fit, np.diag(1 / np.sqrt(curved)), features)
        return (
            f"algorithm=newton: the columns {names} follow from one another, so that their coefficients "
            f"cannot be told apart; drop one of them with data.drop, or {_FIX}"
        )
    if status == SEPARATED:
        names = _named(fit, np.asarray(fit.root), features)
        return (
            f"algorithm=newton: the coefficients of {names} grow without end, because these separate rows "
            "with an event from those without, and there is no estimate of greatest likelihood; drop a "
            f"column or join its levels, or {_FIX}"
        )
    if status == STUCK:
        return (
            "algorithm=newton: no step lowers the loss, as its sums are not finite or rounding hides it; "
            "look for values that are too large, and set data.preprocess.standardise=true"
        )
    return None


def _named(fit: Fit, root: np.ndarray, features: Sequence[str]) -> str:
    """The columns that make up the direction with least information, in units of that with this root."""
    direction = root @ np.linalg.eigh(root.T @ fit.sums.hessian @ root)[1][:, 0]
    # A column counts by the information that it had for itself.
    weight = np.abs(direction) * np.sqrt(np.diagonal(np.linalg.pinv(root @ root.T)))
    names = names_of(fit, features)
    return ", ".join(n for n, v in zip(names, weight, strict=True) if v > 0.1 * weight.max())


def names_of(fit: Fit, features: Sequence[str]) -> list[str]:
    """Of the model's numbers, in their order."""
    size = len(fit.kept)
    if not features:
        return [f"number {i}" for i in range(size)]
    return ["intercept"] * (size - len(features)) + list(features)


def table(experiment: Experiment, federation: Federation, lanes: Sequence[Lane], fit: Fit) -> Any:
    """Estimates on the scale of the input, and tests; null where there are several folds or scales, or there
    is no fit. Of estimates that are penalised, or not yet those of greatest likelihood, all else is null."""
    if len(lanes) != 1 or not federation.features or failed(fit, federation.features):
        return None
    constants, cfg = lanes[0].constants, experiment.algorithm
    assert isinstance(cfg, Newton)
    if constants is not None and len(constants.impute) != 1:
        return None  # every client has a scale of its own
    names = names_of(fit, federation.features)
    slopes = len(federation.features)
    to_input = np.eye(len(names))
    if constants is not None:
        shift, scale = constants.shift[0].astype(np.float64), constants.scale[0].astype(np.float64)
        to_input[-slopes:, -slopes:] = np.diag(scale)
        if len(names) > slopes:
            to_input[0, 1:] = -shift * scale
    rows, _ = lanes[0].clients.part("federated")
    kind = "amounts" if isinstance(experiment.task, Gamma) else federation.kind
    weight = float(fit.sums.weight)
    converged, penalised = int(fit.status) == CONVERGED, cfg.l1 > 0 or experiment.task.l2 > 0
    estimate, df = to_input @ fit.kept, weight - len(names)
    covariance, spread = None, _spread(kind, float(fit.sums.loss), weight, df)
    if converged and not penalised and np.isfinite(spread):
        covariance = to_input @ np.linalg.inv(fit.sums.hessian) @ to_input.T * spread
    found: dict[str, Any] = {
        "task": experiment.task.name,
        "ties": getattr(experiment.task, "ties", None),
        "baseline": (
            ("one for each client" if cfg.stratified else "one for all") if kind == "survival" else None
        ),
        "converged": converged,
        "steps": int(fit.kept_rounds) - 1,
        "rows": len(rows),
        "weight": weight,
        "events": None if federation.kind == "regression" else int((federation.labels_of(rows) > 0).sum()),
        "penalised": penalised,
        "level": LEVEL,
        "dispersion": spread if kind == "amounts" and covariance is not None else None,
        "coefficients": _coefficients(names, estimate, covariance, df, kind),
    }
    return found | _tests(experiment, fit, estimate, covariance, slopes, kind)


def _spread(kind: str, loss: float, weight: float, df: float) -> float:
    """What makes the inverse Hessian of the losses a covariance; nan where it has no value."""
    if kind == "amounts":
        return dispersion(loss / weight)
    if kind == "regression":
        return 2 * loss / df if df > 0 else np.nan  # of squared errors, whose Hessian is 2 X'X
    return 1.0


def dispersion(half_deviance: float) -> float:
    """That of gamma distributed amounts, 1 / shape, of greatest likelihood; nan where no amount deviates.

    half_deviance: the mean over rows, which log(shape) - digamma(shape) must equal.
    """
    if not half_deviance > 0:
        return np.nan
    s = half_deviance
    shape = (3 - s + np.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    for _ in range(20):  # four are enough
        off = np.log(shape) - special.digamma(shape) - s
        shape = 1 / (1 / shape + off / (shape - shape**2 * special.polygamma(1, shape)))
    return float(1 / shape)


def _coefficients(
    names: Sequence[str], estimate: np.ndarray, covariance: np.ndarray | None, df: float, kind: str
) -> dict[str, dict[str, float | None]]:
    """By name: estimate, standard error, z (of linear regression t), two-sided p, interval, and its ratio."""
    statistic, out = "t" if kind == "regression" else "z", {}
    errors = np.full(len(names), np.nan) if covariance is None else np.sqrt(np.diagonal(covariance))
    tail = (1 - LEVEL) / 2
    quantile = -special.stdtrit(df, tail) if kind == "regression" and df > 0 else -special.ndtri(tail)
    for name, value, error in zip(names, estimate, errors, strict=True):
        z = value / error
        p = 2 * (special.stdtr(df, -abs(z)) if kind == "regression" else special.ndtr(-abs(z)))
        low, high = value - quantile * error, value + quantile * error
        found = {"estimate": value, "standard_error": error, statistic: z, "p": p, "low": low, "high": high}
        if kind in _RATIOS:
            ratio = _RATIOS[kind]
            with np.errstate(over="ignore"):
                found |= {ratio: np.exp(value), f"{ratio}_low": np.exp(low), f"{ratio}_high": np.exp(high)}
        out[name] = {key: _finite(v) for key, v in found.items()}
    return out


def _tests(
    experiment: Experiment,
    fit: Fit,
    estimate: np.ndarray,
    covariance: np.ndarray | None,
    slopes: int,
    kind: str,
) -> dict[str, Any]:
    """Log-likelihoods, and tests that all slopes are 0."""
    loss, weight = float(fit.sums.loss), float(fit.sums.weight)
    likelihood = -loss
    if kind == "amounts":
        likelihood = np.nan  # it has the sum of the amounts' logarithms, which nobody sends
    if kind == "regression":
        likelihood = -weight / 2 * (np.log(2 * np.pi * loss / weight) + 1) if loss > 0 else np.nan
    wald = ratio = None
    if covariance is not None:
        some = estimate[-slopes:]
        wald = _chi2(float(some @ np.linalg.solve(covariance[-slopes:, -slopes:], some)), slopes)
        if kind == "survival" and getattr(experiment.task, "init", "") == "zeros":
            ratio = _chi2(2 * (float(fit.null) - loss), slopes)
    return {
        "log_likelihood": _finite(likelihood),
        "wald": wald,
        "likelihood_ratio": ratio,
    }


def _chi2(statistic: float, df: int) -> dict[str, Any]:
    return {"chi2": statistic, "df": df, "p": float(special.chdtrc(df, statistic))}


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def baseline(engine: Engine, fit: Fit) -> dict[str, np.ndarray]:
    """The cumulated baseline hazard at prepared features of 0 (with data.preprocess.standardise, at their
    means), as arrays that are stored with the model; {} where clients share none."""
    if isinstance(fit.hazard, tuple):
        return {}
    return {
        "baseline/time": np.array(engine.structure.spec.times, np.float32),
        "baseline/cumulative_hazard": np.asarray(fit.hazard),
    }
