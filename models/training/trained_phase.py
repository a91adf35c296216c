"""A running phase: the part of the network that is trained, its optimizer and its callbacks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from models.feeding.batch_changes import Batch
from models.feeding.batches import Feed
from models.feeding.prefix_cache import CachedPart, CacheSettings, cached_part
from models.feeding.training_data import TrainingData
from models.hyperparameters import BANK, Hyperparameters
from models.networks.kept_networks import Network, TrainedPart
from models.training.optimizers import FlatOptimizer, UpdateOptions
from models.training.plan import Plan
from models.training.recipe import HEAD, Phase, Recipe, shows_stored_views, without_batch_changes
from models.training.schedules import SCHEDULES


@dataclass(frozen=True)
class TrainedEpoch:
    """Result of training for one epoch."""

    loss: float
    """Mean loss over the batches."""
    views: int
    """Number of training views."""
    views_served: int
    """Number of training views whose output of the frozen layers was in the cache already."""
    first_step_at: float
    """Time at the end of the first step, by the clock `time.perf_counter`."""


class TrainedPhase:
    """A running phase: the part of the network that is trained, and the optimizer of its weights as one flat vector."""

    def __init__(
        self,
        plan: Plan,
        phase: Phase,
        network: Network,
        part: TrainedPart,
        hyperparameters: Hyperparameters,
        features: CachedPart | None = None,
    ) -> None:
        self.phase, self.part, self.hyperparameters, self.features = phase, part, hyperparameters, features
        rate_scales, averaging = None, 0.0
        if phase.name != HEAD:
            rate_scales = network.rate_scales(part, plan.hyperparameters.layer_decay)
            averaging = phase.weight_averaging
        options = UpdateOptions(rate_scales, averaging, plan.batch_divisor, plan.recipe.gradient_clip_norm)
        self.take_weights()
        self.optimizer = FlatOptimizer(
            phase.optimizer, phase.learning_rate, plan.hyperparameters, len(self.flat), options
        )

    def take_weights(self) -> None:
        """Copy the current trained weights into the flat vector that the optimizer updates."""
        self.flat = keras.ops.convert_to_tensor(self.part.gathered())

    def train_epoch(self, feed: Feed, number: int, epoch: int) -> TrainedEpoch:
        """Train for one epoch.

        Args:
            feed: The batches.
            number: Number of the epoch in the trial, from 0.
            epoch: Number of the epoch in the phase, from 0.
        """
        source = self.features.views if self.features else None
        computed_before = source.computed if source else 0
        total, views, first_step_at = 0.0, 0, 0.0
        batches = feed.epoch(number, epoch / self.phase.epochs, self.hyperparameters, source)
        for step, batch in enumerate(batches, 1):
            self.set_rate(epoch + step / feed.size.steps)
            total = total + self.step(batch)
            views += len(batch.images)
            first_step_at = first_step_at or time.perf_counter()
        served = views - (source.computed - computed_before) if source else 0
        return TrainedEpoch(float(total) / feed.size.steps, views, served, first_step_at)

    def step(self, batch: Batch) -> Any:
        """Update the weights with one batch and return its mean loss, a scalar tensor."""
        loss, gradient = self.part.gradients(batch.images, batch.targets, batch.weights)
        self.flat = self.optimizer.moved(self.flat, gradient)
        self.part.spread(self.flat)
        return loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network the moving average of its weights within a `with` block, if the optimizer keeps one."""
        if self.optimizer.average is None:
            yield
            return
        self.part.spread(self.optimizer.average)
        try:
            yield
        finally:
            self.part.spread(self.flat)

    def is_watched(self, epoch: int) -> bool:
        """Return whether the plateau rule and early stopping count this epoch, which they do after the warm-up.

        The last epoch of the warm-up counts too.
        """
        return epoch + 1 >= self.phase.warmup_epochs

    def set_rate(self, epochs_done: float) -> None:
        """Set the learning rate of a step, by the warm-up or the schedule.

        Args:
            epochs_done: Epochs of the phase done at the end of the step, with fractions.
        """
        phase = self.phase
        if epochs_done <= phase.warmup_epochs:
            self.optimizer.learning_rate = phase.learning_rate * epochs_done / phase.warmup_epochs
        elif not phase.waits_for_plateaus:
            done = (epochs_done - phase.warmup_epochs) / max(1, phase.epochs - phase.warmup_epochs)
            self.optimizer.learning_rate = phase.learning_rate * SCHEDULES[phase.schedule](done)


def begin_phase(
    plan: Plan, phase: Phase, network: Network, data: TrainingData, cache: CacheSettings | None
) -> TrainedPhase:
    """Return a phase that is ready to train, on cached features where possible.

    Args:
        plan: Plan of the trial.
        phase: Phase to begin.
        network: Network of the trial.
        data: Data of the trial.
        cache: Where and how features are cached; None: no cache.
    """
    # The head phase is the same for all trials, so that they differ in their fine-tuning only.
    hyperparameters = plan.hyperparameters
    if phase.name == HEAD:
        hyperparameters = without_batch_changes(hyperparameters)
    features = None
    if cache and shows_stored_views(hyperparameters):
        features = cached_part(cache, network, phase.frozen_fraction, data)
    part = features.part if features else network.part(phase.frozen_fraction, hyperparameters.input_mode != BANK)
    return TrainedPhase(plan, phase, network, part, hyperparameters, features)


class _Watched(keras.Model):  # type: ignore[misc]
    """Stand-in for the model that Keras's callbacks expect: an optimizer whose rate they may lower, and a stop flag."""

    def __init__(self, optimizer: FlatOptimizer) -> None:
        super().__init__()
        self.optimizer, self.stop_training = optimizer, False


def callbacks_of(trained: TrainedPhase, recipe: Recipe) -> keras.callbacks.CallbackList:
    """Return Keras's callbacks for the plateau rule and early stopping, which watch the reported value.

    The list is empty for schedules that do not wait for plateaus.
    """
    watched = _Watched(trained.optimizer)
    if not trained.phase.waits_for_plateaus:
        return keras.callbacks.CallbackList([], model=watched)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="value", mode="max", factor=recipe.plateau_factor, patience=recipe.plateau_patience
    )
    stopping = keras.callbacks.EarlyStopping(monitor="value", mode="max", patience=recipe.early_stopping_patience)
    return keras.callbacks.CallbackList([plateau, stopping], model=watched)
