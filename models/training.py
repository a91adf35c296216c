"""One trial: a list of phases, each epoch reported, the best epoch's weights kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import keras
import numpy as np

from models.classifier import Classifier, make_classifier
from models.errors import DivergedError
from models.feeding import Feed
from models.objectives import objective_value
from models.optimizers import Extras, make_optimizer
from models.recipe import HEAD, Phase, Recipe, phases_of
from models.schedules import SCHEDULES
from models.scoring import score
from models.trial import EpochFigures, OnEpochs, Plan, TrainingData, TrialOutcome
from models.trial_state import Progress, StateFile

PREDICT_BATCH = 128
COLLAPSE_GRACE_EPOCHS = 3
"""A network that predicts one class in its first epochs of fine-tuning may still find its way."""


def run_trial(plan: Plan, data: TrainingData, on_epochs: OnEpochs, state: StateFile | None = None) -> TrialOutcome:
    """Trains and scores one network. The same plan and data give the same figures and weights on a CPU.

    Args:
        state: kept after each epoch, before it is reported; a trial that was cut off goes on from there, and ends as if
            nothing had been.

    Raises DivergedError when loss, weights or probabilities are no longer finite, or when one class alone is predicted
    at two successive epoch ends (after the head phase and its first epochs); ModelError when the network cannot be
    built.
    """
    keras.backend.clear_session(free_memory=True)
    keras.utils.set_random_seed(plan.seed)
    run = _Run(plan, data, on_epochs, make_classifier(plan.classifier, plan.hyperparameters.dropout), state)
    phases = phases_of(plan.hyperparameters, plan.recipe, plan.classifier.pretrained)
    for number, phase in enumerate(phases):
        if number >= run.first_phase:
            run.train(number, phase)
        if run.stopped:
            break
    return run.outcome()


class _Run:
    """A trial under way: what goes on from one epoch and phase to the next."""

    def __init__(
        self, plan: Plan, data: TrainingData, on_epochs: OnEpochs, classifier: Classifier, state: StateFile | None
    ) -> None:
        self.plan, self.data, self.on_epochs, self.classifier = plan, data, on_epochs, classifier
        self.stopped, self.first_step_s = False, 0.0
        self.epochs: list[EpochFigures] = []
        self.started = time.perf_counter()
        hyperparameters = plan.hyperparameters
        batch_size = max(1, (int(hyperparameters.batch_size) or plan.recipe.batch_size) // plan.batch_divisor)
        class_weights = np.asarray(data.class_weights, "float32")
        self.feed = Feed(data.views, class_weights, hyperparameters, batch_size, plan.seed)
        self.state = state
        self.saved = state.load() if state else None
        self.first_phase = self.saved[0].phase if self.saved else 0

    def train(self, number: int, phase: Phase) -> None:
        """One phase. `best` is its best epoch only: the epoch kept comes from the last phase that began."""
        # The same whether the phases before it ran in this process or in one that was killed.
        keras.utils.set_random_seed(self.plan.seed + 1 + number)
        model = self._compiled(phase)
        callbacks = _callbacks(model, phase, self.plan.recipe)
        callbacks.on_train_begin()
        self.best: EpochFigures | None = None
        self.collapsed_epochs = 0
        done = self._take_up(model, callbacks) if self.saved else 0
        for epoch in range(done, phase.epochs):
            if self.stopped or model.stop_training:
                return
            figures_now = self._epoch(model, phase, epoch)
            if phase.name != HEAD and epoch >= COLLAPSE_GRACE_EPOCHS and self.collapsed_epochs >= 2:
                raise DivergedError(
                    f"one class alone is predicted since epoch {figures_now.step - 1}: the trial collapsed"
                )
            callbacks.on_epoch_end(epoch, {"value": figures_now.value})
            self._keep(model, number, epoch + 1)
            self.stopped = self.on_epochs([figures_now])

    def _keep(self, model: keras.Model, phase: int, done: int) -> None:
        """Everything that the next epoch depends on; before the epoch is reported, so that none is reported twice."""
        if self.state is None:
            return
        progress = Progress(phase, done, self.collapsed_epochs, self.first_step_s, [asdict(row) for row in self.epochs])
        variables = {"model": model.variables, "optimizer": model.optimizer.variables}
        arrays = {group: [keras.ops.convert_to_numpy(v) for v in found] for group, found in variables.items()}
        self.state.save(progress, arrays | {"best": self.best_weights})

    def _take_up(self, model: keras.Model, callbacks: keras.callbacks.CallbackList) -> int:
        """Brings the saved state back; the phase's epochs that are done."""
        assert self.saved is not None
        (progress, arrays), self.saved = self.saved, None
        self.epochs = [EpochFigures(**row) for row in progress.epochs]
        for epoch, row in enumerate(self.epochs[-progress.done :]):
            callbacks.on_epoch_end(epoch, {"value": row.value})
            self.best = row if self.best is None or row.value > self.best.value else self.best
        model.optimizer.build(model.trainable_variables)
        for group, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
            for variable, value in zip(variables, arrays[group], strict=True):
                variable.assign(value)
        self.best_weights, self.collapsed_epochs = arrays["best"], progress.collapsed_epochs
        self.first_step_s = progress.first_step_s
        self.stopped = self.on_epochs(self.epochs)
        return progress.done

    def _compiled(self, phase: Phase) -> keras.Model:
        """The training model of a phase. The head phase is plain, so that trials differ by their fine-tuning."""
        hyperparameters = self.plan.hyperparameters
        model, self.cut = self.classifier.training_model(
            phase.frozen_fraction, hyperparameters.input_mode == "bank+in-model"
        )
        scales, averaging = {}, 0.0
        if phase.name != HEAD:
            scales, averaging = self.classifier.rate_scales(hyperparameters.layer_decay), phase.weight_averaging
        extras = Extras(scales, averaging, self.plan.batch_divisor)
        optimizer = make_optimizer(phase.optimizer, phase.learning_rate, hyperparameters, extras)
        # XLA costs more to compile on a CPU than it wins back in a trial of some minutes.
        model.compile(optimizer, "categorical_crossentropy", jit_compile=False)
        return model

    def _epoch(self, model: keras.Model, phase: Phase, epoch: int) -> EpochFigures:
        start, step = time.perf_counter(), len(self.epochs)
        loss, images = self._train_once(model, phase, epoch)
        trained = time.perf_counter()
        with _averaged_weights(model):
            probabilities, corrupted = self._predict()
            weights = self.classifier.joined.get_weights()
            if not (np.isfinite(loss) and all(np.isfinite(part).all() for part in (probabilities, *weights))):
                raise DivergedError(f"loss or weights of epoch {step} are not finite ({loss=:.3g}): the trial diverged")
            scores = score(self.data.validation_labels, probabilities, corrupted, self.data.families)
            value = objective_value(scores, self.plan.objective)
            better = self.best is None or value > self.best.value
            if better:
                self.best_weights = weights
        guesses = probabilities.argmax(axis=1)
        self.collapsed_epochs = self.collapsed_epochs + 1 if (guesses == guesses[0]).all() else 0
        result = EpochFigures(
            step=step,
            phase=phase.name,
            value=value,
            training_loss=loss,
            learning_rate=float(model.optimizer.learning_rate),
            seconds=time.perf_counter() - start,
            images_per_second=images / (trained - start),
            validation=scores,
        )
        self.epochs.append(result)
        self.best = result if better else self.best
        return result

    def _predict(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities of the validation images and of their corrupted views."""
        joined, views = self.classifier.joined, self.data.corrupted_images
        clean = predict(joined, self.data.validation_images)
        if views is None:
            return clean, None
        return clean, predict(joined, views.reshape(-1, *views.shape[2:])).reshape(*views.shape[:2], -1)

    def _train_once(self, model: keras.Model, phase: Phase, epoch: int) -> tuple[float, int]:
        """All batches of the next epoch, the phase's `epoch`-th: mean loss, number of images."""
        model.reset_metrics()
        steps = self.feed.steps_per_epoch
        loss, images = float("nan"), 0
        for step, batch in enumerate(self.feed.epoch(len(self.epochs), epoch / phase.epochs), 1):
            _set_rate(model.optimizer, phase, epoch + step / steps)
            loss = model.train_on_batch(batch.images, batch.targets, batch.weights)
            images += len(batch.images)
            self.first_step_s = self.first_step_s or time.perf_counter() - self.started
        return float(loss), images

    def outcome(self) -> TrialOutcome:
        assert self.best is not None  # a phase has at least one epoch
        joined = self.classifier.joined
        joined.set_weights(self.best_weights)
        start = time.perf_counter()
        predict(joined, self.data.validation_images)
        seconds = time.perf_counter() - start
        probabilities, corrupted = self._predict()
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
            corrupted_probabilities=corrupted,
            weights_sha256=hashlib.sha256(b"".join(part.tobytes() for part in self.best_weights)).hexdigest(),
        )


def _set_rate(optimizer: keras.optimizers.Optimizer, phase: Phase, epochs_done: float) -> None:
    """The learning rate of a step: the warm-up rises to it, the schedule leads away from it."""
    if epochs_done <= phase.warmup_epochs:
        optimizer.learning_rate = phase.learning_rate * epochs_done / phase.warmup_epochs
    elif not phase.waits_for_plateaus:
        done = (epochs_done - phase.warmup_epochs) / max(1, phase.epochs - phase.warmup_epochs)
        optimizer.learning_rate = phase.learning_rate * SCHEDULES[phase.schedule](done)


def _callbacks(model: keras.Model, phase: Phase, recipe: Recipe) -> keras.callbacks.CallbackList:
    """The learning rate's plateau rule and early stopping, both watching the value that is reported."""
    if not phase.waits_for_plateaus:
        return keras.callbacks.CallbackList([], model=model)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="value", mode="max", factor=recipe.plateau_factor, patience=recipe.plateau_patience
    )
    stopping = keras.callbacks.EarlyStopping(monitor="value", mode="max", patience=recipe.early_stopping_patience)
    return keras.callbacks.CallbackList([plateau, stopping], model=model)


@contextmanager
def _averaged_weights(model: keras.Model) -> Iterator[None]:
    """The moving average of the weights in place of the weights themselves, where the optimizer keeps one."""
    if not model.optimizer.use_ema:
        yield
        return
    own = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(own)


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
