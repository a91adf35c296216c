"""One trial: a list of phases, each epoch reported, the best epoch's weights kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np

from models.cost import cost_of
from models.errors import DivergedError
from models.external import external_scores
from models.feeding import Feed
from models.hyperparameters import BANK
from models.networks import Networks
from models.objectives import external_name, objective_value
from models.predicting import PREDICT_BATCH, predict
from models.prefix_cache import CachedPart, CacheSettings, cached_part
from models.recipe import HEAD, UNWEIGHTED, Phase, keeps_views, phases_of, plain
from models.scoring import score
from models.trained_phase import TrainedPhase, callbacks_of
from models.trial import EpochFigures, OnEpochs, Plan, TrainingData, TrialOutcome
from models.trial_state import Progress, StateFile

COLLAPSE_GRACE_EPOCHS = 3
"""A network that predicts one class in its first epochs of fine-tuning may still find its way."""


@dataclass(frozen=True)
class Surroundings:
    """What a process offers its trials; none of it changes what comes out, but for the rounding of a cache."""

    networks: Networks = field(default_factory=Networks)
    """Kept from trial to trial."""
    cache: CacheSettings | None = None
    """Of what frozen layers give; None: they run each time."""
    received: float = field(default_factory=time.perf_counter)
    """When the trial was asked for, by the clock `time.perf_counter`."""


def run_trial(
    plan: Plan,
    data: TrainingData,
    on_epochs: OnEpochs,
    state: StateFile | None = None,
    surroundings: Surroundings | None = None,
) -> TrialOutcome:
    """Trains and scores one network. The same plan and data give the same figures and weights on a CPU.

    Args:
        state: kept after each epoch, before it is reported; a trial that was cut off goes on from there, and ends as if
            nothing had been.

    Raises DivergedError when loss, weights or probabilities are no longer finite, or when one class alone is predicted
    at two successive epoch ends (after the head phase and its first epochs); ModelError when the network cannot be
    built.
    """
    run = _Run(plan, data, on_epochs, state, surroundings or Surroundings())
    phases = phases_of(plan.hyperparameters, plan.recipe, plan.classifier.pretrained)
    for number, phase in enumerate(phases):
        if number >= run.first_phase:
            run.train(number, phase)
        if run.is_over:
            break
    return run.outcome()


class _Run:
    """A trial under way: what goes on from one epoch and phase to the next."""

    def __init__(
        self, plan: Plan, data: TrainingData, on_epochs: OnEpochs, state: StateFile | None, surroundings: Surroundings
    ) -> None:
        self.started = surroundings.received
        self.plan, self.data, self.on_epochs, self.cache = plan, data, on_epochs, surroundings.cache
        hyperparameters = plan.hyperparameters
        self.networks = surroundings.networks
        self.network = surroundings.networks.taken(plan.network, hyperparameters.dropout, plan.seed, plan.arithmetic)
        self.joined = self.network.classifier.joined
        self.stopped, self.first_step_s = False, 0.0
        self.epochs: list[EpochFigures] = []
        self.cached: CachedPart | None = None
        self.views_seen = self.views_served = 0
        views = len(data.views) * int(hyperparameters.views_per_image)
        whole = min(views, int(hyperparameters.batch_size) or plan.recipe.batch_size)
        batch_size = max(1, whole // plan.batch_divisor)
        class_weights = np.asarray(data.class_weights, "float32")
        if plan.recipe.class_weights == UNWEIGHTED:
            class_weights = np.ones_like(class_weights)
        self.feed = Feed(data.views, class_weights, batch_size, plan.seed)
        self.state = state
        self.saved = state.load() if state else None
        self.first_phase = self.saved[0].phase if self.saved else 0

    def train(self, number: int, phase: Phase) -> None:
        """One phase. `best` is its best epoch only: the epoch kept comes from the last phase that began."""
        self.now = self._begun(phase)
        # The same whether the phases before it ran in this process or in one that was killed.
        self.now.part.reseed(self.plan.seed + 1 + number)
        callbacks = callbacks_of(self.now, self.plan.recipe)
        callbacks.on_train_begin()
        self.best: EpochFigures | None = None
        self.collapsed_epochs = 0
        done = self._take_up(callbacks) if self.saved else 0
        for epoch in range(done, phase.epochs):
            if self.is_over or callbacks.model.stop_training:
                return
            figures_now = self._epoch(epoch)
            if phase.name != HEAD and epoch >= COLLAPSE_GRACE_EPOCHS and self.collapsed_epochs >= 2:
                raise DivergedError(
                    f"one class alone is predicted since epoch {figures_now.step - 1}: the trial collapsed"
                )
            if self.now.is_watched(epoch):
                callbacks.on_epoch_end(epoch, {"value": figures_now.value})
            self._keep(number, epoch + 1)
            self.stopped = self.on_epochs([figures_now])

    @property
    def is_over(self) -> bool:
        replayed = self.plan.replayed
        return self.stopped or (bool(replayed) and len(self.epochs) >= len(replayed))

    def _is_better(self, value: float) -> bool:
        """Than the best epoch of this phase. Values that are replayed choose nothing: the last epoch is kept."""
        return bool(self.plan.replayed) or self.best is None or value > self.best.value

    def _begun(self, phase: Phase) -> TrainedPhase:
        """The phase with its part of the network, trained on kept features where that can be."""
        hyperparameters = self.plan.hyperparameters
        # The head phase is plain, so that trials differ by their fine-tuning.
        seen = plain(hyperparameters) if phase.name == HEAD else hyperparameters
        self.cached = None
        if self.cache and keeps_views(seen):
            self.cached = cached_part(self.cache, self.network, phase.frozen_fraction, self.data)
        part = self.cached.part if self.cached else self.network.part(phase.frozen_fraction, seen.input_mode != BANK)
        return TrainedPhase(self.plan, phase, self.network, part, seen)

    def _keep(self, phase: int, done: int) -> None:
        """Everything that the next epoch depends on; before the epoch is reported, so that none is reported twice."""
        if self.state is None:
            return
        progress = Progress(phase, done, self.collapsed_epochs, self.first_step_s, [asdict(row) for row in self.epochs])
        network = [keras.ops.convert_to_numpy(variable) for variable in self._variables()]
        self.state.save(
            progress, {"network": network, "optimizer_state": self.now.optimizer.state, "best": self.best_weights}
        )

    def _variables(self) -> list[keras.Variable]:
        return [*self.joined.weights, *self.now.part.seeds]

    def _take_up(self, callbacks: keras.callbacks.CallbackList) -> int:
        """Brings the saved state back; the phase's epochs that are done."""
        assert self.saved is not None
        (progress, arrays), self.saved = self.saved, None
        self.epochs = [EpochFigures(**row) for row in progress.epochs]
        for epoch, row in enumerate(self.epochs[-progress.done :], 1):
            self.now.set_rate(epoch)  # a warm-up takes back what the plateau rule did in it
            if self.now.is_watched(epoch - 1):
                callbacks.on_epoch_end(epoch - 1, {"value": row.value})
            self.best = row if self._is_better(row.value) else self.best
        for variable, value in zip(self._variables(), arrays["network"], strict=True):
            variable.assign(value)
        self.now.optimizer.state = arrays["optimizer_state"]
        self.now.take_weights()
        self.best_weights, self.collapsed_epochs = arrays["best"], progress.collapsed_epochs
        self.first_step_s = progress.first_step_s
        self.stopped = self.on_epochs(self.epochs)
        return progress.done

    def _epoch(self, epoch: int) -> EpochFigures:
        start, step = time.perf_counter(), len(self.epochs)
        loss, images = self._train_once(epoch)
        trained = time.perf_counter()
        with self.now.averaged():
            probabilities, corrupted = self._predict()
            weights = self.joined.get_weights()
            if not (np.isfinite(loss) and all(np.isfinite(part).all() for part in (probabilities, *weights))):
                raise DivergedError(f"loss or weights of epoch {step} are not finite ({loss=:.3g}): the trial diverged")
            decisive = external_name(self.plan.objective)
            wanted = [name for name in self.data.external if name == decisive]
            external = self._external(wanted, self.network.scored) if wanted else {}
        scores = score(self.data.validation_labels, probabilities, corrupted, self.data.families) | external
        value = self.plan.replayed[step] if self.plan.replayed else objective_value(scores, self.plan.objective)
        better = self._is_better(value)
        guesses = probabilities.argmax(axis=1)
        self.collapsed_epochs = self.collapsed_epochs + 1 if (guesses == guesses[0]).all() else 0
        result = EpochFigures(
            step=step,
            phase=self.now.phase.name,
            value=value,
            training_loss=loss,
            learning_rate=self.now.optimizer.learning_rate,
            seconds=time.perf_counter() - start,
            images_per_second=images / (trained - start),
            validation=scores,
        )
        self.epochs.append(result)
        if better:
            self.best, self.best_weights = result, weights
        return result

    def _predict(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Probabilities of the validation images and of their corrupted views, from kept features where there are."""
        if not self.cached:
            scored = self.network.scored
            return predict(scored, self.data.validation_images), self._predict_corrupted(scored)
        model, views = self.cached.part.model, self.data.corrupted_images
        clean = predict(model, self.cached.validation)
        if self.cached.corrupted is None or views is None:
            return clean, None
        return clean, predict(model, self.cached.corrupted).reshape(*views.shape[:2], -1)

    def _predict_corrupted(self, model: keras.Model) -> np.ndarray | None:
        views = self.data.corrupted_images
        if views is None:
            return None
        return predict(model, views.reshape(-1, *views.shape[2:])).reshape(*views.shape[:2], -1)

    def _external(self, names: Iterable[str], model: keras.Model) -> dict[str, Any]:
        """The figures of these external sets, by the whole network: they are too seldom scored to keep features of."""
        size = min(PREDICT_BATCH, len(self.data.validation_images))  # as of those: no new trace
        return external_scores(self.data.external, names, lambda images: predict(model, images, size))

    def _train_once(self, epoch: int) -> tuple[float, int]:
        """All batches of the next epoch, the phase's `epoch`-th: mean loss, number of images."""
        phase, steps = self.now.phase, self.feed.steps_per_epoch(self.now.seen)
        source = self.cached.views if self.cached else None
        before = source.computed if source else 0
        total, images = 0.0, 0
        batches = self.feed.epoch(len(self.epochs), epoch / phase.epochs, self.now.seen, source)
        for step, batch in enumerate(batches, 1):
            self.now.set_rate(epoch + step / steps)
            total = total + self.now.step(batch)
            images += len(batch.images)
            self.first_step_s = self.first_step_s or time.perf_counter() - self.started
        self.views_seen += images
        if self.cached:
            self.views_served += images - (self.cached.views.computed - before)
        return float(total) / steps, images

    def outcome(self) -> TrialOutcome:
        """Of the kept weights, scored once more by the whole network, without the rounding of a cache; a stopped trial
        with what was measured on its way."""
        assert self.best is not None  # a phase has at least one epoch
        self.joined.set_weights(self.best_weights)
        best, answers = self.best, None if self.stopped else self._answers()
        if answers:
            scores = score(self.data.validation_labels, answers.clean, answers.corrupted, self.data.families)
            scores |= self._external(self.data.external, self.joined)
            best = replace(self.best, validation=scores, value=objective_value(scores, self.plan.objective))
        cut = self.now.part.cut
        return TrialOutcome(
            best=best,
            stopped=self.stopped,
            parameters=self.joined.count_params(),
            cost=asdict(cost_of(self.joined)),
            frozen_fraction=cut.fraction,
            frozen_parameter_fraction=cut.parameter_fraction,
            first_step_s=self.first_step_s,
            ms_per_image=answers.ms_per_image if answers else None,
            prefix_cache_share=self.views_served / max(1, self.views_seen),
            networks_traced=self.networks.traced,
            classifier=self.network.classifier,
            probabilities=answers.clean if answers else None,
            corrupted_probabilities=answers.corrupted if answers else None,
            weights_sha256=hashlib.sha256(b"".join(part.tobytes() for part in self.best_weights)).hexdigest(),
        )

    def _answers(self) -> Answers:
        images = self.data.validation_images
        predict(self.joined, images[:PREDICT_BATCH])  # may trace, which is not to be timed
        start = time.perf_counter()
        clean = predict(self.joined, images)
        ms_per_image = 1000 * (time.perf_counter() - start) / len(images)
        return Answers(clean, self._predict_corrupted(self.joined), ms_per_image)


@dataclass(frozen=True)
class Answers:
    """Of the whole network to the validation images and their corrupted views."""

    clean: np.ndarray
    corrupted: np.ndarray | None
    ms_per_image: float
