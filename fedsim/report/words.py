"""The words shown for values, dimensions and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "ece": "ECE",
    "r2": "R²",
    "mae": "MAE",
    "mse": "MSE",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ici": "ICI",
    "o_e": "O/E",
    "cpm": "CPM",
    "gini": "Gini",
    "gamma_deviance": "gamma deviance",
    "tweedie_deviance": "Tweedie deviance",
    "uno_c": "Uno's C",
    "auc_t": "AUC at the horizon",
    "brier_t": "Brier score at the horizon",
    "ibs": "integrated Brier score",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "manifest.heterogeneity.label_js": "labels (JS)",
    "manifest.heterogeneity.feature_wasserstein": "features (W₁)",
    "manifest.heterogeneity.size_gini": "sizes (Gini)",
    "manifest.heterogeneity.gradient_diversity": "gradient diversity",
}


def say(word: Any, labels: Mapping[str, str]) -> str:
    """The word shown for a value, a dimension or a metric."""
    text = text_of(word)
    return str(labels.get(text, WORDS.get(text, text)))


def text_of(value: Any) -> str:
    return "" if value is None else str(value)
