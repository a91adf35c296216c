"""What all trials of a study share: how long and in which phases a network is trained."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import ModelError
from models.hyperparameters import Hyperparameters

# The head is new and small: Adam brings it to a fair start in a few epochs whatever the trial's own optimizer is,
# so that trials differ by their fine-tuning and not by how well SGD at 1e-3 moves one dense layer.
HEAD_OPTIMIZER = "adam"
HEAD = "head"


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
    plateau_factor: float = 0.5
    """ReduceLROnPlateau: the learning rate is multiplied by this ..."""
    plateau_patience: int = 2
    """... after so many epochs without a better value."""
    early_stopping_patience: int = 5

    def __post_init__(self) -> None:
        for name, least in (("head_epochs", 0), ("epochs", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ModelError(f"`{name} >= {least}` must hold, but it is {getattr(self, name)}")


@dataclass(frozen=True)
class Phase:
    """A stretch of a trial with its own cut, optimizer state and learning rate."""

    name: str
    frozen_fraction: float
    epochs: int
    learning_rate: float
    optimizer: str
    warmup_epochs: int = 0


def phases_of(hyperparameters: Hyperparameters, recipe: Recipe, pretrained: bool) -> tuple[Phase, ...]:
    """The phases of one trial, in order: the new head alone, then everything behind the cut.

    Without pretrained weights there is nothing worth freezing: one phase trains it all.
    """
    tuning = Phase(
        name="fine-tuning",
        frozen_fraction=hyperparameters.frozen_fraction if pretrained else 0.0,
        epochs=recipe.epochs,
        learning_rate=hyperparameters.learning_rate,
        optimizer=hyperparameters.optimizer,
        warmup_epochs=recipe.warmup_epochs if pretrained else 0,
    )
    if not pretrained or recipe.head_epochs == 0:
        return (tuning,)
    head = Phase(HEAD, 1.0, recipe.head_epochs, recipe.head_learning_rate, HEAD_OPTIMIZER)
    return (head, tuning)
