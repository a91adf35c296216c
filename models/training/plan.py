"""Records of a trial: its plan, the figures of each epoch, and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from models.feeding.epoch_size import EpochSize, nominal_batch_size
from models.hyperparameters import Hyperparameters
from models.networks.arithmetic import Arithmetic
from models.networks.classifier import Classifier, ClassifierSettings
from models.training.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """Everything that decides a trial's outcome, except its data."""

    classifier: ClassifierSettings
    hyperparameters: Hyperparameters
    recipe: Recipe
    objective: str
    seed: int
    batch_divisor: int = 1
    """Parts into which a batch is cut when memory is short. Their gradients are accumulated, so that steps stay nearly
    the same. (Images are mixed only within a part, and parts left over at the end of an epoch count towards the first
    step of the next.)"""
    replayed: tuple[float, ...] = ()
    """Values that an earlier trial reported, one per epoch. They replace this trial's own values, so that its learning
    rate falls and its phases end at the same epochs. The trial ends after the last value and keeps that epoch's
    weights."""
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    """Precision of the training steps, and whether XLA compiles them."""

    @property
    def network(self) -> ClassifierSettings:
        """Network settings: `classifier` with the resolution of the hyperparameters."""
        return replace(self.classifier, resolution=int(self.hyperparameters.resolution))

    @property
    def batch_size(self) -> int:
        """Images per training step, before the batch is cut by `batch_divisor`."""
        return nominal_batch_size(self.hyperparameters.batch_size, self.recipe.batch_size)

    def epoch_size(self, images: int) -> EpochSize:
        """Return the size of an epoch over this number of training images."""
        return EpochSize.of(images, self.hyperparameters.views_per_image, self.batch_size, self.batch_divisor)


@dataclass(frozen=True)
class EpochFigures:
    """Figures of one finished epoch."""

    step: int
    """Number of the epoch over all phases, from 0."""
    phase: str
    value: float
    """Value of the objective. Decides pruning and which epoch's weights are kept."""
    training_loss: float
    learning_rate: float
    seconds: float
    """Time of training and scoring."""
    images_per_second: float
    """Training images per second of training, without scoring."""
    validation: dict[str, Any]
    """Scores from `models.scoring.trial_scores.score`, and from `models.scoring.external_scores.external_scores` for
    the external sets that were scored."""


@dataclass(frozen=True)
class TrialOutcome:
    """Outcome of a trial. `classifier` has the weights of the best epoch."""

    best: EpochFigures
    stopped: bool
    """True when `on_epochs` ended the trial early, that is, pruned it."""
    parameters: int
    cost: dict[str, Any]
    """A `models.backbones.inference_cost.Cost` as a dict."""
    frozen_fraction: float
    """Share of the backbone's layers that the last phase froze, 0..1."""
    frozen_parameter_fraction: float
    """Share of the backbone's weights that the last phase froze, 0..1."""
    first_step_s: float
    """Seconds from the request for the trial to the end of its first training step."""
    ms_per_image: float | None
    """Milliseconds to predict one validation image; None when the trial was stopped."""
    prefix_cache_share: float
    """Share of the training views, 0..1, whose output of the frozen layers was in the cache already."""
    networks_traced: int
    """Number of traced parts among the networks that the process keeps."""
    classifier: Classifier
    probabilities: np.ndarray | None
    """float32 (m, classes): validation images, predicted with the kept weights; None when the trial was stopped."""
    corrupted_probabilities: np.ndarray | None
    """float32 (m, views, classes): their corrupted views; None without them or when the trial was stopped."""
    weights_sha256: str
    """SHA-256 of the kept weights' bytes, in the order of the network."""

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome without the network and the probabilities, ready for JSON."""
        skipped = {"classifier", "probabilities", "corrupted_probabilities", "best"}
        own = {key: value for key, value in vars(self).items() if key not in skipped}
        return own | {"best": asdict(self.best)}


OnEpochs = Callable[[list[EpochFigures]], bool]
"""Callback after each epoch, with its figures. When a trial resumes, it is first called with all earlier epochs. Return
True to end the trial."""
