"""Metrics of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.scoring.calibration import expected_calibration_error
from models.scoring.intervals import Resampling, interval
from models.scoring.metrics import confusion, figures, per_class
from models.scoring.trust import Trust, trust_figures


@dataclass(frozen=True)
class Scored:
    """Labelled images, one or more views of each, with the model's predictions.

    Attributes:
        labels: int (n,), one per image.
        probabilities: float32, before calibration: (n, classes) for the images themselves, or (n, views, classes).
        families: For corrupted views: family of corruptions -> bool (n, views), True where a view is made with a
            corruption of this family.
        groups: int (n,): images with the same number belong together, such as near copies or images of one patient.
            None when groups are not known.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    families: Mapping[str, np.ndarray] = field(default_factory=dict)
    groups: np.ndarray | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[-1])

    def flat(self, views: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (k,) and probabilities (k, classes) of all views, or only where `views` (n, views) is True."""
        probabilities = self.probabilities.reshape(len(self.labels), -1, self.classes)
        taken = np.ones(probabilities.shape[:2], bool) if views is None else views
        return np.repeat(self.labels, taken.sum(axis=1)), probabilities[taken]


def full_figures(scored: Scored, class_names: tuple[str, ...], trust: Trust | None) -> dict[str, Any]:
    """Return all metrics of labelled images, ready for JSON.

    Args:
        scored: The images, with the model's raw probabilities.
        class_names: Names of the classes, in the order of the probabilities.
        trust: Calibration to evaluate too; None: no calibration.

    Returns:
        `models.scoring.metrics.figures` (means over the classes that have images), 95 % `intervals` by resampling
        images or groups, the `calibration_error` of the raw probabilities, `trust_figures` if there is a calibration,
        metrics `per_class` (F1 with its interval), and the `confusion_matrix` (rows: true class). For corrupted views
        also `families`: a shorter list of metrics per family of corruptions.
    """
    labels, probabilities = scored.flat()
    resampling = Resampling(scored.labels, scored.classes, groups=scored.groups)
    guesses = scored.probabilities.argmax(axis=-1)
    resampled = resampling.figures(guesses, present=True)
    rows = per_class(labels, probabilities, class_names)
    for number, row in enumerate(rows.values()):
        row["f1_interval"] = interval(resampled.class_f1[:, number])
    result = {
        "images": len(labels),
        **figures(labels, probabilities, present=True),
        "intervals": resampled.intervals(),
        "calibration_error": expected_calibration_error(labels, probabilities),
        **(trust_figures(labels, probabilities, trust) if trust else {}),
        "per_class": rows,
        "confusion_matrix": confusion(labels, probabilities),
    }
    if scored.families:
        result["families"] = {
            name: _family(scored, views, resampling, trust) for name, views in sorted(scored.families.items())
        }
    return result


def _family(scored: Scored, views: np.ndarray, resampling: Resampling, trust: Trust | None) -> dict[str, Any]:
    labels, probabilities = scored.flat(views)
    scores = figures(labels, probabilities, present=True)
    resampled = resampling.figures(scored.probabilities.argmax(axis=-1), views, present=True)
    return {
        "images": len(labels),
        "accuracy": scores["accuracy"],
        "macro_f1": scores["macro_f1"],
        "intervals": resampled.intervals(),
        **(trust.estimates(probabilities) if trust else {}),
    }
