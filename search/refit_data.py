"""What a refitted network is trained on: the training and the validation images, all with their augmented views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.extra_views import read_validation_views
from models.feeding import TrainingViews
from models.trial import TrainingData


def with_validation_images(data: TrainingData, folder: Path) -> TrainingData:
    """The same data, trained on the validation images too; class weights are those of both together.

    Args:
        folder: with the augmented views of the validation images.
    """
    banks = read_validation_views(data.views.names, folder)
    more = TrainingViews(data.validation_images, banks, data.validation_labels, names=data.views.names)
    labels = np.concatenate([data.views.labels, data.validation_labels])
    counts = np.bincount(labels, minlength=len(data.class_weights))
    weights = tuple(float(weight) for weight in len(labels) / (len(counts) * counts))
    return replace(data, views=replace(data.views, labels=labels, more=more), class_weights=weights)
