"""Training settings that all trials of a study share, and the phases of a trial."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.errors import ModelError
from models.hyperparameters import BANK, Hyperparameters
from models.training.schedules import PLATEAU

# The head is new and small, and Adam trains it well in a few epochs. All trials use Adam for it, so that they differ in
# their fine-tuning and not in how well, say, SGD at 1e-3 trains one dense layer.
HEAD_OPTIMIZER = "adam"
HEAD, TUNING = "head", "fine-tuning"
BALANCED, UNWEIGHTED = "balanced", "none"
CLASS_WEIGHTS = (BALANCED, UNWEIGHTED)
UNFREEZING_START = 0.75  # share of frozen layers in the first step of progressive unfreezing


LEAST = {"head_epochs": 0, "epochs": 1, "batch_size": 1, "warmup_epochs": 0, "gradient_clip_norm": 0}
"""Setting -> lowest allowed value."""


@dataclass(frozen=True)
class Recipe:
    """Training settings that a study fixes. Epochs and patience count whole passes over the training images."""

    head_epochs: int = 3
    """Epochs that train only the new head; 0: no head phase."""
    epochs: int = 12
    """Epochs of fine-tuning."""
    batch_size: int = 32
    head_learning_rate: float = 1e-3
    warmup_epochs: int = 1
    """Epochs over which the learning rate of fine-tuning warms up from 0, step by step. The first steps of a new
    optimizer are its largest. At rates that are good later, they would destroy the pretrained weights."""
    class_weights: str = BALANCED
    """How classes are weighted in the loss: `balanced` (rare classes count as much as common ones) or `none`."""
    gradient_clip_norm: float = 0.0
    """Largest L2 norm of a step's gradient over all trained weights. A larger gradient is scaled down to it (Pascanu et
    al. 2013, algorithm 1). 0: no limit."""
    plateau_factor: float = 0.5
    """Factor on the learning rate when the value stops improving (Keras's ReduceLROnPlateau)."""
    plateau_patience: int = 2
    """Epochs without a better value after which the learning rate is reduced."""
    early_stopping_patience: int = 5
    """Epochs without a better value after which a phase ends early."""

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if not least <= getattr(self, name) < float("inf"):
                raise ModelError(f"`{name} >= {least}` must hold, but {name} is {getattr(self, name)}")
        if self.class_weights not in CLASS_WEIGHTS:
            raise ModelError(
                f"`class_weights in {CLASS_WEIGHTS}` must hold, but class_weights is {self.class_weights!r}"
            )


@dataclass(frozen=True)
class Phase:
    """Part of a trial with its own frozen layers, optimizer state and learning rate."""

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
        """Whether the rate falls, and the phase may end early, when the reported value stops improving.

        The other schedules reach their best values at their end, so they run in full.
        """
        return self.schedule == PLATEAU


def phases_of(hyperparameters: Hyperparameters, recipe: Recipe, pretrained: bool) -> tuple[Phase, ...]:
    """Return the phases of one trial, in order.

    The first phase trains the new head only. Then everything behind the cut is fine-tuned, in one phase or with
    progressive unfreezing. Without pretrained weights nothing is worth freezing, so one phase trains the whole network.
    """
    if not pretrained:
        return (_tuning(hyperparameters, recipe, 0.0, recipe.epochs, 0),)
    target = hyperparameters.frozen_fraction
    steps = int(min(hyperparameters.unfreezing_steps, recipe.epochs)) if target < UNFREEZING_START else 1
    short = max(1, recipe.epochs // (steps + 1))  # the last step, which trains the most layers, is twice as long
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
    """Return the hyperparameters of the head phase, which trains on stored views without further augmentation.

    That phase trains one layer on a frozen network. The output of the frozen network for a stored view can be cached
    and used by later trials.
    """
    return replace(hyperparameters, input_mode=BANK, flips=False, masks=0.0, channel_shift=0.0, mixing="none")


def shows_stored_views(hyperparameters: Hyperparameters) -> bool:
    """Return whether the network sees stored views only, without further augmentation."""
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
