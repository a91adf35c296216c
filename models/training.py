"""One trial: a list of phases, each epoch reported, the best epoch's weights kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from models.classifier import Classifier, ClassifierSettings, make_classifier
from models.errors import DivergedError
from models.feeding import TrainingViews, epoch_batches, steps_per_epoch
from models.hyperparameters import Hyperparameters
from models.metrics import figures
from models.optimizers import make_optimizer
from models.recipe import HEAD, Phase, Recipe, phases_of

PREDICT_BATCH = 128
COLLAPSE_GRACE_EPOCHS = 3
"""A network that predicts one class in its first epochs of fine-tuning may still find its way."""


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


@dataclass(frozen=True)
class Plan:
    """Everything that decides a trial's outcome besides its data."""

    classifier: ClassifierSettings
    hyperparameters: Hyperparameters
    recipe: Recipe
    objective: str
    seed: int


@dataclass(frozen=True)
class EpochFigures:
    """One finished epoch; `step` counts epochs over all phases from 0."""

    step: int
    phase: str
    value: float
    """The objective on the validation images: what prunes, and what picks the epoch to keep."""
    training_loss: float
    learning_rate: float
    seconds: float
    images_per_second: float
    """Training images only, without the time of scoring."""
    validation: dict[str, float]
    """As `models.metrics.figures` gives them."""


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial ends with. The weights of the best epoch are in `classifier`."""

    best: EpochFigures
    stopped: bool
    """True when `on_epoch` asked for an early end: pruned."""
    parameters: int
    frozen_fraction: float
    frozen_parameter_fraction: float
    first_step_s: float
    """From the start of the trial to the end of its first training step."""
    ms_per_image: float
    classifier: Classifier
    probabilities: np.ndarray
    """float32 (m, classes): the validation images by the kept weights."""

    def as_dict(self) -> dict[str, Any]:
        """The figures alone, ready for JSON."""
        skipped = {"classifier", "probabilities", "best"}
        own = {key: value for key, value in vars(self).items() if key not in skipped}
        return own | {"best": asdict(self.best)}


OnEpoch = Callable[[EpochFigures], bool]
"""Called after each epoch; True asks for the trial's end."""


def run_trial(plan: Plan, data: TrainingData, on_epoch: OnEpoch) -> TrialOutcome:
    """Trains and scores one network. The same plan and data give the same figures on a CPU.

    Raises DivergedError when loss or probabilities are no longer finite, or when one class alone is predicted at two
    successive epoch ends (after the head phase and its first epochs); ModelError when the network cannot be built.
    """
    keras.backend.clear_session(free_memory=True)
    keras.utils.set_random_seed(plan.seed)
    run = _Run(plan, data, on_epoch, make_classifier(plan.classifier, plan.hyperparameters.dropout))
    for phase in phases_of(plan.hyperparameters, plan.recipe, plan.classifier.pretrained):
        run.train(phase)
        if run.stopped:
            break
    return run.outcome()


class _Run:
    """A trial under way: what goes on from one epoch and phase to the next."""

    def __init__(self, plan: Plan, data: TrainingData, on_epoch: OnEpoch, classifier: Classifier) -> None:
        self.plan, self.data, self.on_epoch, self.classifier = plan, data, on_epoch, classifier
        self.step, self.stopped, self.first_step_s = 0, False, 0.0
        self.started = time.perf_counter()
        self.sample_weights = np.asarray(data.class_weights, "float32")
        self.targets = np.eye(len(data.class_weights), dtype="float32")

    def train(self, phase: Phase) -> None:
        """One phase. `best` is its best epoch only: the epoch kept comes from the last phase that began."""
        hyperparameters, recipe = self.plan.hyperparameters, self.plan.recipe
        in_model = hyperparameters.input_mode == "bank+in-model"
        model, self.cut = self.classifier.training_model(phase.frozen_fraction, in_model)
        optimizer = make_optimizer(phase.optimizer, phase.learning_rate, hyperparameters)
        # XLA costs more to compile on a CPU than it wins back in a trial of some minutes.
        model.compile(optimizer, "categorical_crossentropy", jit_compile=False)
        callbacks = _schedule(model, recipe)
        callbacks.on_train_begin()
        self.best: EpochFigures | None = None
        self.collapsed_epochs = 0
        for epoch in range(phase.epochs):
            figures_now = self._epoch(model, phase, epoch)
            if phase.name != HEAD and epoch >= COLLAPSE_GRACE_EPOCHS and self.collapsed_epochs >= 2:
                raise DivergedError(f"one class alone is predicted since epoch {self.step - 2}: the trial collapsed")
            if self.best is None or figures_now.value > self.best.value:
                self.best, self.best_weights = figures_now, self.classifier.joined.get_weights()
            callbacks.on_epoch_end(epoch, {"value": figures_now.value})
            self.stopped = self.on_epoch(figures_now)
            if self.stopped or model.stop_training:
                return

    def _epoch(self, model: keras.Model, phase: Phase, epoch: int) -> EpochFigures:
        start = time.perf_counter()
        loss, images = self._train_once(model, phase, epoch)
        trained = time.perf_counter()
        probabilities = predict(self.classifier.joined, self.data.validation_images)
        if not (np.isfinite(loss) and np.isfinite(probabilities).all()):
            raise DivergedError(f"the loss of epoch {self.step} is {loss}: the trial diverged")
        scores = figures(self.data.validation_labels, probabilities)
        guesses = probabilities.argmax(axis=1)
        self.collapsed_epochs = self.collapsed_epochs + 1 if (guesses == guesses[0]).all() else 0
        result = EpochFigures(
            step=self.step,
            phase=phase.name,
            value=scores[self.plan.objective],
            training_loss=loss,
            learning_rate=float(model.optimizer.learning_rate),
            seconds=time.perf_counter() - start,
            images_per_second=images / (trained - start),
            validation=scores,
        )
        self.step += 1
        return result

    def _train_once(self, model: keras.Model, phase: Phase, epoch: int) -> tuple[float, int]:
        """All batches of the next epoch, the phase's `epoch`-th: mean loss, number of images."""
        model.reset_metrics()
        views, batch_size = self.data.views, self.plan.recipe.batch_size
        steps = steps_per_epoch(len(views), batch_size)
        loss, images = float("nan"), 0
        for step, (batch, labels) in enumerate(epoch_batches(views, batch_size, self.plan.seed, self.step), 1):
            if epoch < phase.warmup_epochs:
                done = (epoch * steps + step) / (phase.warmup_epochs * steps)
                model.optimizer.learning_rate = phase.learning_rate * done
            loss = model.train_on_batch(batch, self.targets[labels], self.sample_weights[labels])
            images += len(labels)
            self.first_step_s = self.first_step_s or time.perf_counter() - self.started
        return float(loss), images

    def outcome(self) -> TrialOutcome:
        assert self.best is not None  # a phase has at least one epoch
        joined = self.classifier.joined
        joined.set_weights(self.best_weights)
        start = time.perf_counter()
        probabilities = predict(joined, self.data.validation_images)
        seconds = time.perf_counter() - start
        return TrialOutcome(
            best=self.best,
            stopped=self.stopped,
            parameters=joined.count_params(),
            frozen_fraction=self.cut.fraction,
            frozen_parameter_fraction=self.cut.parameter_fraction,
            first_step_s=self.first_step_s,
            ms_per_image=1000 * seconds / len(probabilities),
            classifier=self.classifier,
            probabilities=probabilities,
        )


def _schedule(model: keras.Model, recipe: Recipe) -> keras.callbacks.CallbackList:
    """The learning rate's plateau rule and early stopping, both watching the value that is reported."""
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="value", mode="max", factor=recipe.plateau_factor, patience=recipe.plateau_patience
    )
    stopping = keras.callbacks.EarlyStopping(monitor="value", mode="max", patience=recipe.early_stopping_patience)
    return keras.callbacks.CallbackList([plateau, stopping], model=model)


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Probabilities float32 (n, classes) of uint8 images (n, h, w, 3), in batches of one size (one trace)."""
    size = min(PREDICT_BATCH, len(images))
    parts = []
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        missing = size - len(batch)
        padded = np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else batch
        parts.append(np.asarray(model.predict_on_batch(padded))[: len(batch)])
    return np.concatenate(parts)
