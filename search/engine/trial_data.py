"""Data of a trial: the prepared set, folds of its training images, or training and validation images for a refit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.augmentation.validation_views import read_validation_views
from data_prep.corruption.views import corrupted_views
from data_prep.splitting.folds import training_folds
from data_prep.storage.reader import PreparedSet
from models.feeding.batches import TrainingViews
from models.feeding.training_data import TrainingData
from models.hyperparameters import Hyperparameters
from models.scoring.external_scores import ExternalSet
from search.engine.job import TrainingJob


def data_of(job: TrainingJob, prepared: PreparedSet) -> TrainingData:
    """Return the images that a job trains on and is scored on."""
    data = training_data(prepared, Hyperparameters.from_dict(job.hyperparameters))
    if job.folds:
        data = fold_of(data, prepared, job)
    if job.extra_views:
        data = with_validation_images(data, Path(job.extra_views))
    return data


def training_data(prepared: PreparedSet, hyperparameters: Hyperparameters) -> TrainingData:
    """Return the prepared set for a trial with these hyperparameters; images stay memory-mapped."""
    banks = [prepared.bank(level) for level in hyperparameters.levels]
    corrupted = prepared.corrupted("validation")
    return TrainingData(
        views=TrainingViews(prepared.images("train"), banks, prepared.labels("train"), names=hyperparameters.levels),
        class_weights=prepared.class_weights,
        validation_images=prepared.images("validation"),
        validation_labels=prepared.labels("validation"),
        corrupted_images=corrupted.images if corrupted else None,
        families=corrupted.families if corrupted else {},
        external={name: ExternalSet(*prepared.external(name)) for name in prepared.external_names},
    )


def fold_of(data: TrainingData, prepared: PreparedSet, job: TrainingJob) -> TrainingData:
    """Hold out one fold of the training images, and score it in place of the validation images.

    Its original images are scored, and as many corrupted views of each, made by the same operations.
    """
    held_out = training_folds(prepared, job.folds, job.fold_seed) == job.fold
    images = np.asarray(data.views.originals[held_out])
    views = 0 if data.corrupted_images is None else data.corrupted_images.shape[1]
    corrupted = corrupted_views(images, views, "validation", job.fold_seed) if views else None
    return replace(
        data,
        views=replace(data.views, rows=np.flatnonzero(~held_out)),
        validation_images=images,
        validation_labels=data.views.labels[held_out],
        corrupted_images=corrupted.images if corrupted else None,
        families=corrupted.families if corrupted else {},
    )


def with_validation_images(data: TrainingData, folder: Path) -> TrainingData:
    """Add the validation images to the training images, as a refit does; class weights count both.

    Args:
        data: Data of the trial to refit.
        folder: Folder of the augmented views of the validation images.
    """
    banks = read_validation_views(data.views.names, folder)
    more = TrainingViews(data.validation_images, banks, data.validation_labels, names=data.views.names)
    labels = np.concatenate([data.views.labels, data.validation_labels])
    counts = np.bincount(labels, minlength=len(data.class_weights))
    weights = tuple(float(weight) for weight in len(labels) / (len(counts) * counts))
    return replace(data, views=replace(data.views, labels=labels, more=more), class_weights=weights)
