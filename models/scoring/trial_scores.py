"""The figures of a network on clean and on corrupted images in one table, from which a study takes its objective."""

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
    """`models.scoring.metrics.figures` of the clean images and, where there are corrupted ones, what becomes of them.

    Args:
        labels: int (m,).
        clean: float32 probabilities (m, classes).
        corrupted: float32 probabilities (m, views, classes) of corrupted views of the same images.
        families: name -> bool (m, views), the views in which an operation of that family takes part.

    Returns, besides the clean figures: `corrupted_accuracy`, `corrupted_macro_f1`, `mean_macro_f1`, and per family
    macro-F1, accuracy and number of views, with the worst one's macro-F1 and name.
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
