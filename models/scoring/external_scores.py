"""Scores on external sets: images of another scanner or hospital, scored but never trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from models.scoring.objectives import external_objective


@dataclass(frozen=True)
class ExternalSet:
    """Images and labels of one external set. It need not have all classes."""

    images: np.ndarray
    """uint8 (k, h, w, 3)."""
    labels: np.ndarray
    """int (k,)."""


def external_scores(
    sets: Mapping[str, ExternalSet], names: Iterable[str], predict: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Any]:
    """Return the metrics of external sets, as a trial stores them.

    Args:
        sets: Name -> external set.
        names: Names of the sets to score.
        predict: images -> probabilities float32 (k, classes).

    Returns:
        `external`, a dict from each name to accuracy, macro-F1 over the classes that the set has, and number of images.
        Each macro-F1 is also stored under the name of its objective. Empty if there are no names.
    """
    rows = {}
    for name in names:
        labels, guesses = sets[name].labels, predict(sets[name].images).argmax(axis=1)
        macro_f1 = f1_score(labels, guesses, labels=np.unique(labels), average="macro", zero_division=0)
        accuracy = float((guesses == labels).mean())
        rows[name] = {"accuracy": accuracy, "macro_f1": float(macro_f1), "images": len(labels)}
    objectives = {external_objective(name): row["macro_f1"] for name, row in rows.items()}
    return {"external": rows} | objectives if rows else {}
