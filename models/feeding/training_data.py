"""What a trial trains and is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from models.feeding.batches import TrainingViews
from models.scoring.external_scores import ExternalSet


@dataclass(frozen=True)
class TrainingData:
    """What a trial trains and is scored on."""

    views: TrainingViews
    class_weights: tuple[float, ...]
    """N / (n_k C) for each class k: what an image of it counts in the loss."""
    validation_images: np.ndarray
    """uint8 (m, h, w, 3)"""
    validation_labels: np.ndarray
    """int (m,)"""
    corrupted_images: np.ndarray | None = None
    """uint8 (m, views, h, w, 3): corrupted views of the validation images, where there are any"""
    families: Mapping[str, np.ndarray] = field(default_factory=dict)
    """name of a family of corruptions -> bool (m, views): it takes part"""
    external: Mapping[str, ExternalSet] = field(default_factory=dict)
    """by name: scored by the kept weights, and after each epoch where the objective is on one; never trained on"""
