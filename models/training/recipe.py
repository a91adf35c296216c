"""What all trials of a study share: how long and in which phases a network is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.errors import ModelError
from models.hyperparameters import BANK, Hyperparameters
from models.training.schedules import PLATEAU

# The head is new and small: Adam brings it to a fair start in a few epochs whatever the trial's own optimizer is,
# so that trials differ by their fine-tuning and not by how well SGD at 1e-3 moves one dense layer.
HEAD_OPTIMIZER = "adam"
HEAD, TUNING = "head", "fine-tuning"
BALANCED, UNWEIGHTED = "balanced", "none"
CLASS_WEIGHTS = (BALANCED, UNWEIGHTED)
UNFREEZING_START = 0.75  # frozen share of the first step of a progressive unfreezing


LEAST = {"head_epochs": 0, "epochs": 1, "batch_size": 1, "warmup_epochs": 0, "gradient_clip_norm": 0}
"""Setting -> its least value."""


@dataclass(frozen=True)
class Recipe:
    """The settings of training that a study fixes. Epochs and patience count whole passes over the training images."""

    head_epochs: int = 3
    epochs: int = 12
    batch_size: int = 32
    head_learning_rate: float = 1e-3
    warmup_epochs: int = 1
    """Over so many epochs the rate of fine-tuning rises from nothing, step by step. The first steps of a fresh
    optimizer are its largest ones, and pretrained weights do not survive them at rates that are good later."""
    class_weights: str = BALANCED
    """Of CLASS_WEIGHTS: `balanced` weighs the loss by those of the training data, `none` takes each image as it is."""
    gradient_clip_norm: float = 0.0
    """Largest L2 norm of a step's gradient over all trained weights: a longer one is scaled down to it (Pascanu et al.
    2013, algorithm 1). 0: no limit."""
    plateau_factor: float = 0.5
    """ReduceLROnPlateau: the learning rate is multiplied by this ..."""
    plateau_patience: int = 2
    """... after so many epochs without a better value."""
    early_stopping_patience: int = 5

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if not least <= getattr(self, name) < float("inf"):
                raise ModelError(f"`{name} >= {least}` must hold, but it is {getattr(self, name)}")
        if self.class_weights not in CLASS_WEIGHTS:
            raise ModelError(f"`class_weights in {CLASS_WEIGHTS}` must hold, but it is {self.class_weights!r}")


@dataclass(frozen=True)
class Phase:
    """A stretch of a trial with its own cut, optimizer state and learning rate."""

    name: str
    frozen_fraction: float
    epochs: int
    learning_rate: float
    optimizer: str
    warmup_epochs: int = 0
    schedule: str = PLATEAU
    weight_averaging: float = 0.0

    @property
    def waits_for_plateaus(self) -> bool:
        """Whether the rate falls, and the phase ends early, when the reported value stands still. The other schedules
        reach their best values at their end."""
        return self.schedule == PLATEAU


def phases_of(hyperparameters: Hyperparameters, recipe: Recipe, pretrained: bool) -> tuple[Phase, ...]:
    """The phases of one trial, in order: the new head alone, then everything behind the cut, at once or step by step.

    Without pretrained weights there is nothing worth freezing: one phase trains it all.
    """
    if not pretrained:
        return (_tuning(hyperparameters, recipe, 0.0, recipe.epochs, 0),)
    target = hyperparameters.frozen_fraction
    steps = int(min(hyperparameters.unfreezing_steps, recipe.epochs)) if target < UNFREEZING_START else 1
    short = max(1, recipe.epochs // (steps + 1))  # the last step, which trains all there is to train, is twice as long
    tuning = tuple(
        _tuning(
            hyperparameters,
            recipe,
            target + (UNFREEZING_START - target) * ahead / max(1, steps - 1),
            short if ahead else recipe.epochs - short * (steps - 1),
            recipe.warmup_epochs,
        )
        for ahead in reversed(range(steps))
    )
    if recipe.head_epochs == 0:
        return tuning
    return (Phase(HEAD, 1.0, recipe.head_epochs, recipe.head_learning_rate, HEAD_OPTIMIZER), *tuning)


def without_batch_changes(hyperparameters: Hyperparameters) -> Hyperparameters:
    """The same for the head phase: stored views as they are. What is trained there is one layer on a frozen network,
    and what the network makes of a stored view can be kept from trial to trial."""
    return replace(hyperparameters, input_mode=BANK, flips=False, masks=0.0, channel_shift=0.0, mixing="none")


def shows_stored_views(hyperparameters: Hyperparameters) -> bool:
    """Whether the network sees stored views and nothing else."""
    return without_batch_changes(hyperparameters) == hyperparameters


def _tuning(
    hyperparameters: Hyperparameters, recipe: Recipe, frozen_fraction: float, epochs: int, warmup_epochs: int
) -> Phase:
    return Phase(
        name=TUNING,
        frozen_fraction=frozen_fraction,
        epochs=epochs,
        learning_rate=hyperparameters.learning_rate,
        optimizer=hyperparameters.optimizer,
        warmup_epochs=warmup_epochs,
        schedule=hyperparameters.schedule,
        weight_averaging=hyperparameters.weight_averaging,
    )
