"""Data that a trial trains on and is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.feeding.batches import TrainingViews
from models.scoring.external_scores import ExternalSet


@dataclass(frozen=True)
class TrainingData:
    """Data that a trial trains on and is scored on."""

    views: TrainingViews
    class_weights: tuple[float, ...]
    """Weight of each class k in the loss: N / (n_k C), for C classes and N images, n_k of them of class k."""
    validation_images: np.ndarray
    """uint8 (m, h, w, 3)."""
    validation_labels: np.ndarray
    """int (m,)."""
    corrupted_images: np.ndarray | None = None
    """uint8 (m, views, h, w, 3): corrupted views of the validation images; None if there are none."""
    families: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Family of corruptions -> bool (m, views): True where a view is made with a corruption of this family."""
    external: Mapping[str, ExternalSet] = field(default_factory=dict)
    """Name -> external set. It is scored with the kept weights, and after each epoch if the objective is on it. It is
    never trained on."""
