"""Scores of a network on clean and corrupted images. A study's objective is one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.scoring.metrics import figures


def score(
    labels: np.ndarray,
    clean: np.ndarray,
    corrupted: np.ndarray | None = None,
    families: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Return the metrics of the clean images and, if there are any, of their corrupted views.

    Args:
        labels: int (m,).
        clean: Probabilities, float32 (m, classes).
        corrupted: Probabilities of corrupted views of the same images, float32 (m, views, classes).
        families: Family of corruptions -> bool (m, views), True where a view is made with a corruption of this family.

    Returns:
        `models.scoring.metrics.figures` of the clean images. With corrupted views also `corrupted_accuracy`,
        `corrupted_macro_f1` and `mean_macro_f1` (mean of clean and corrupted), and, if there are families, `families`
        (macro-F1, accuracy and number of views of each), `worst_family` and `worst_family_macro_f1`.
    """
    scores: dict[str, Any] = dict(figures(labels, clean, present=True))  # a fold may lack a class
    if corrupted is None:
        return scores
    repeated = np.repeat(labels[:, None], corrupted.shape[1], axis=1)
    everything = _short(repeated.ravel(), corrupted.reshape(-1, corrupted.shape[2]))
    scores |= {f"corrupted_{name}": everything[name] for name in ("accuracy", "macro_f1")}
    scores["mean_macro_f1"] = (scores["macro_f1"] + everything["macro_f1"]) / 2
    rows = {name: _short(repeated[views], corrupted[views]) for name, views in (families or {}).items() if views.any()}
    if rows:
        worst = min(rows, key=lambda name: rows[name]["macro_f1"])
        scores |= {"worst_family": worst, "worst_family_macro_f1": rows[worst]["macro_f1"], "families": rows}
    return scores


def _short(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    found = figures(labels, probabilities, present=True)
    return {"macro_f1": found["macro_f1"], "accuracy": found["accuracy"], "views": len(labels)}
