"""Run a trial: train its phases, report each epoch, and keep the weights of the best epoch."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, field, replace

import keras
import numpy as np

from models.backbones.inference_cost import cost_of
from models.errors import DivergedError
from models.feeding.batches import Feed
from models.feeding.prefix_cache import CacheSettings
from models.feeding.training_data import TrainingData
from models.networks.kept_networks import Networks
from models.scoring.objectives import objective_value
from models.training.checkpoint import CheckpointFacts, CheckpointFile
from models.training.plan import EpochFigures, OnEpochs, Plan, TrialOutcome
from models.training.recipe import UNWEIGHTED, Phase, phases_of
from models.training.trained_phase import TrainedPhase, begin_phase, callbacks_of
from models.training.trial_progress import TrialProgress
from models.training.trial_scorer import TrialScorer


@dataclass(frozen=True)
class TrainingEnvironment:
    """Per-process resources shared by trials. They change speed, not results, except that a cache rounds features."""

    networks: Networks = field(default_factory=Networks)
    """Networks kept from trial to trial."""
    cache: CacheSettings | None = None
    """Where and how the output of the frozen layers is cached; None: it is computed each time."""
    received: float = field(default_factory=time.perf_counter)
    """Time of the request for the trial, by the clock `time.perf_counter`."""


def run_trial(
    plan: Plan,
    data: TrainingData,
    on_epochs: OnEpochs,
    state: CheckpointFile | None = None,
    environment: TrainingEnvironment | None = None,
) -> TrialOutcome:
    """Train and score one network. The same plan and data give the same figures and weights on a CPU.

    Args:
        plan: Everything that decides the trial, except its data.
        data: Data that it trains on and is scored on.
        on_epochs: Called with each finished epoch; returns True to end the trial.
        state: Checkpoint, written after each epoch before the epoch is reported. An interrupted trial resumes from it
            and ends as if it had not been interrupted.
        environment: Resources shared with earlier trials of this process.

    Returns:
        The outcome, with the weights of the best epoch.

    Raises:
        DivergedError: Loss, weights or probabilities are no longer finite, or only one class is predicted at the end of
            two successive epochs (not checked in the head phase and the first epochs of fine-tuning).
        ModelError: The network cannot be built.
    """
    trial = _Trial(plan, data, on_epochs, state, environment or TrainingEnvironment())
    phases = phases_of(plan.hyperparameters, plan.recipe, plan.classifier.pretrained)
    for number, phase in enumerate(phases):
        if number >= trial.first_phase:
            trial.train(number, phase)
        if trial.progress.is_over:
            break
    return trial.outcome()


def class_weights_of(data: TrainingData, class_weights: str) -> np.ndarray:
    """Return the weight of each class in the loss, float32 (classes,); see `Recipe.class_weights`."""
    weights = np.asarray(data.class_weights, "float32")
    return np.ones_like(weights) if class_weights == UNWEIGHTED else weights


class _Trial:
    """A running trial."""

    def __init__(
        self,
        plan: Plan,
        data: TrainingData,
        on_epochs: OnEpochs,
        state: CheckpointFile | None,
        environment: TrainingEnvironment,
    ) -> None:
        self.plan, self.data, self.on_epochs = plan, data, on_epochs
        self.state, self.environment = state, environment
        dropout = plan.hyperparameters.dropout
        self.network = environment.networks.taken(plan.network, dropout, plan.seed, plan.arithmetic)
        self.joined = self.network.classifier.joined
        self.scorer = TrialScorer(self.network, data, plan.objective)
        self.progress = TrialProgress(plan.replayed)
        class_weights = class_weights_of(data, plan.recipe.class_weights)
        self.feed = Feed(data.views, class_weights, plan.epoch_size(len(data.views)), plan.seed)
        self.saved = state.load() if state else None
        self.first_phase = self.saved[0].phase if self.saved else 0

    def train(self, number: int, phase: Phase) -> None:
        """Train one phase, or the rest of it after a resume."""
        trained = begin_phase(self.plan, phase, self.network, self.data, self.environment.cache)
        self.trained, progress = trained, self.progress
        # Seeded per phase, so that results do not depend on whether earlier phases ran in this process.
        trained.part.reseed(self.plan.seed + 1 + number)
        callbacks = callbacks_of(trained, self.plan.recipe)
        callbacks.on_train_begin()
        progress.begin_phase()
        done = self._resume(trained, callbacks) if self.saved else 0
        for epoch in range(done, phase.epochs):
            if progress.is_over or callbacks.model.stop_training:
                return
            figures = self._epoch(trained, epoch)
            progress.check_collapse(phase, epoch)
            if trained.is_watched(epoch):
                callbacks.on_epoch_end(epoch, {"value": figures.value})
            self._save(trained, number, epoch + 1)
            progress.is_stopped = self.on_epochs([figures])

    def _epoch(self, trained: TrainedPhase, epoch: int) -> EpochFigures:
        """Train for one epoch and score the result."""
        plan, progress, scorer = self.plan, self.progress, self.scorer
        start, step = time.perf_counter(), len(progress.epochs)
        training = trained.train_epoch(self.feed, step, epoch)
        trained_s = time.perf_counter() - start
        progress.first_step_s = progress.first_step_s or training.first_step_at - self.environment.received
        progress.views += training.views
        progress.views_served += training.views_served
        with trained.averaged():
            answers, weights = scorer.answers(trained.features), self.joined.get_weights()
            _check_finite(step, training.loss, [answers.clean, *weights])
            external = scorer.decisive_external_scores()
        scores = scorer.scores(answers) | external
        value = plan.replayed[step] if plan.replayed else objective_value(scores, plan.objective)
        figures = EpochFigures(
            step=step,
            phase=trained.phase.name,
            value=value,
            training_loss=training.loss,
            learning_rate=trained.optimizer.learning_rate,
            seconds=time.perf_counter() - start,
            images_per_second=training.views / trained_s,
            validation=scores,
        )
        progress.add(figures, weights, answers.clean)
        return figures

    def _save(self, trained: TrainedPhase, phase: int, done: int) -> None:
        """Write the checkpoint. Done before the epoch is reported, so that no epoch is reported twice."""
        if self.state is None:
            return
        progress = self.progress
        epochs = [asdict(row) for row in progress.epochs]
        facts = CheckpointFacts(phase, done, progress.collapsed_epochs, progress.first_step_s, epochs)
        network = [keras.ops.convert_to_numpy(variable) for variable in self._variables(trained)]
        arrays = {"network": network, "optimizer_state": trained.optimizer.state, "best": progress.best_weights}
        self.state.save(facts, arrays)

    def _resume(self, trained: TrainedPhase, callbacks: keras.callbacks.CallbackList) -> int:
        """Restore the checkpoint and return the number of finished epochs in this phase."""
        assert self.saved is not None
        (facts, arrays), self.saved = self.saved, None
        progress = self.progress
        progress.epochs = [EpochFigures(**row) for row in facts.epochs]
        for epoch, row in enumerate(progress.epochs[-facts.done :], 1):
            trained.set_rate(epoch)  # a warm-up overrides what the plateau rule did during it
            if trained.is_watched(epoch - 1):
                callbacks.on_epoch_end(epoch - 1, {"value": row.value})
            progress.recall(row)
        for variable, value in zip(self._variables(trained), arrays["network"], strict=True):
            variable.assign(value)
        trained.optimizer.state = arrays["optimizer_state"]
        trained.take_weights()
        progress.best_weights, progress.collapsed_epochs = arrays["best"], facts.collapsed_epochs
        progress.first_step_s = facts.first_step_s
        progress.is_stopped = self.on_epochs(progress.epochs)
        return facts.done

    def _variables(self, trained: TrainedPhase) -> list[keras.Variable]:
        return [*self.joined.weights, *trained.part.seeds]

    def outcome(self) -> TrialOutcome:
        """Return the outcome, with the kept weights scored once more by the whole network.

        A stopped trial is not scored again: it returns the scores of its best epoch.
        """
        progress, cut = self.progress, self.trained.part.cut
        best = progress.best
        assert best is not None  # a phase has at least one epoch
        self.joined.set_weights(progress.best_weights)
        answers, ms_per_image = (None, None) if progress.is_stopped else self.scorer.final_answers()
        if answers:
            scores = self.scorer.final_scores(answers)
            best = replace(best, validation=scores, value=objective_value(scores, self.plan.objective))
        return TrialOutcome(
            best=best,
            stopped=progress.is_stopped,
            parameters=self.joined.count_params(),
            cost=asdict(cost_of(self.joined)),
            frozen_fraction=cut.fraction,
            frozen_parameter_fraction=cut.parameter_fraction,
            first_step_s=progress.first_step_s,
            ms_per_image=ms_per_image,
            prefix_cache_share=progress.views_served / max(1, progress.views),
            networks_traced=self.environment.networks.traced,
            classifier=self.network.classifier,
            probabilities=answers.clean if answers else None,
            corrupted_probabilities=answers.corrupted if answers else None,
            weights_sha256=hashlib.sha256(b"".join(part.tobytes() for part in progress.best_weights)).hexdigest(),
        )


def _check_finite(step: int, loss: float, arrays: list[np.ndarray]) -> None:
    """Raise DivergedError unless the loss and all arrays are finite."""
    if not (np.isfinite(loss) and all(np.isfinite(part).all() for part in arrays)):
        raise DivergedError(f"loss or weights of epoch {step} are not finite ({loss=:.3g}): the trial diverged")
