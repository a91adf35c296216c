"""A phase under way: a part of the network, and the optimizer that moves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from models.batch_changes import Batch
from models.hyperparameters import Hyperparameters
from models.networks import Network, Part
from models.optimizers import Extras, FlatOptimizer
from models.recipe import HEAD, Phase, Recipe
from models.schedules import SCHEDULES
from models.trial import Plan


class TrainedPhase:
    """A phase under way: the part that is trained, and the optimizer that moves it as one flat vector."""

    def __init__(self, plan: Plan, phase: Phase, network: Network, part: Part, seen: Hyperparameters) -> None:
        self.phase, self.part, self.seen = phase, part, seen
        rates, averaging = None, 0.0
        if phase.name != HEAD:
            rates, averaging = network.rate_scales(part, plan.hyperparameters.layer_decay), phase.weight_averaging
        extras = Extras(rates, averaging, plan.batch_divisor)
        self.take_weights()
        self.optimizer = FlatOptimizer(
            phase.optimizer, phase.learning_rate, plan.hyperparameters, len(self.flat), extras
        )

    def take_weights(self) -> None:
        """Takes the network's weights as they are now for those that are moved."""
        self.flat = keras.ops.convert_to_tensor(self.part.gathered())

    def step(self, batch: Batch) -> Any:
        """Moves the weights; the batch's mean loss, a tensor."""
        loss, gradient = self.part.gradients(batch.images, batch.targets, batch.weights)
        self.flat = self.optimizer.moved(self.flat, gradient)
        self.part.spread(self.flat)
        return loss

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The moving average of the weights in place of the weights themselves, where the optimizer keeps one."""
        if self.optimizer.average is None:
            yield
            return
        self.part.spread(self.optimizer.average)
        try:
            yield
        finally:
            self.part.spread(self.flat)

    def is_watched(self, epoch: int) -> bool:
        """Whether the plateau rule and early stopping count this epoch: from the last one of the warm-up on."""
        return epoch + 1 >= self.phase.warmup_epochs

    def set_rate(self, epochs_done: float) -> None:
        """The learning rate of a step: the warm-up rises to it, the schedule leads away from it."""
        phase = self.phase
        if epochs_done <= phase.warmup_epochs:
            self.optimizer.learning_rate = phase.learning_rate * epochs_done / phase.warmup_epochs
        elif not phase.waits_for_plateaus:
            done = (epochs_done - phase.warmup_epochs) / max(1, phase.epochs - phase.warmup_epochs)
            self.optimizer.learning_rate = phase.learning_rate * SCHEDULES[phase.schedule](done)


class _Watched(keras.Model):  # type: ignore[misc]
    """What Keras's callbacks expect of the model they watch: an optimizer whose rate they may lower, and a flag."""

    def __init__(self, optimizer: FlatOptimizer) -> None:
        super().__init__()
        self.optimizer, self.stop_training = optimizer, False


def callbacks_of(now: TrainedPhase, recipe: Recipe) -> keras.callbacks.CallbackList:
    """The learning rate's plateau rule and early stopping, both watching the value that is reported."""
    watched = _Watched(now.optimizer)
    if not now.phase.waits_for_plateaus:
        return keras.callbacks.CallbackList([], model=watched)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="value", mode="max", factor=recipe.plateau_factor, patience=recipe.plateau_patience
    )
    stopping = keras.callbacks.EarlyStopping(monitor="value", mode="max", patience=recipe.early_stopping_patience)
    return keras.callbacks.CallbackList([plateau, stopping], model=watched)
