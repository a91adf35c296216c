"""One trial in records: what decides it, what it reports and what it ends with."""

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
    """Everything that decides a trial's outcome besides its data."""

    classifier: ClassifierSettings
    hyperparameters: Hyperparameters
    recipe: Recipe
    objective: str
    seed: int
    batch_divisor: int = 1
    """Batches are cut into so many parts, whose gradients are added up: nearly the same steps in less memory (mixing
    takes place within a part, and parts left over at the end of an epoch are added to the next one's first)."""
    replayed: tuple[float, ...] = ()
    """Values that an earlier trial reported, one an epoch. They stand in for this one's own, so that its rates fall and
    its phases end when they did there; it ends after the last one, and keeps the weights of that epoch."""
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    """Of its training steps."""

    @property
    def network(self) -> ClassifierSettings:
        """`classifier` at the resolution that the hyperparameters want."""
        return replace(self.classifier, resolution=int(self.hyperparameters.resolution))

    @property
    def batch_size(self) -> int:
        """Images of a training step, before the `batch_divisor`."""
        return nominal_batch_size(self.hyperparameters.batch_size, self.recipe.batch_size)

    def epoch_size(self, images: int) -> EpochSize:
        """Of an epoch over so many training images."""
        return EpochSize.of(images, self.hyperparameters.views_per_image, self.batch_size, self.batch_divisor)


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
    validation: dict[str, Any]
    """As `models.scoring.trial_scores.score` gives them, and those of the external sets that were scored as
    `models.scoring.external_scores.external_scores` does."""


@dataclass(frozen=True)
class TrialOutcome:
    """What a trial ends with. The weights of the best epoch are in `classifier`."""

    best: EpochFigures
    stopped: bool
    """True when `on_epoch` asked for an early end: pruned."""
    parameters: int
    cost: dict[str, Any]
    """As models.backbones.inference_cost.Cost."""
    frozen_fraction: float
    frozen_parameter_fraction: float
    first_step_s: float
    """From the moment the trial was asked for to the end of its first training step."""
    ms_per_image: float | None
    prefix_cache_share: float
    """Of the training views seen, 0..1, those whose way through the frozen layers had been kept from before."""
    networks_traced: int
    """Parts that are traced of the networks that the process keeps."""
    classifier: Classifier
    probabilities: np.ndarray | None
    """float32 (m, classes): the validation images by the kept weights; None when the trial was stopped."""
    corrupted_probabilities: np.ndarray | None
    """float32 (m, views, classes): their corrupted views."""
    weights_sha256: str
    """Of the kept weights' bytes, in the order of the network."""

    def as_dict(self) -> dict[str, Any]:
        """The figures alone, ready for JSON."""
        skipped = {"classifier", "probabilities", "corrupted_probabilities", "best"}
        own = {key: value for key, value in vars(self).items() if key not in skipped}
        return own | {"best": asdict(self.best)}


OnEpochs = Callable[[list[EpochFigures]], bool]
"""Called after each epoch with its figures, and once with all earlier ones when a trial is taken up again; True asks
for the trial's end."""
