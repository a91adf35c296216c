"""The hyperparameters of a trial.

To add one: add a field and a rule here, an entry in studies/*.toml, and the code in models/ that uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from models.errors import ModelError

NO_AUGMENTATION = "none"
BANK = "bank"
INPUT_MODES = (BANK, "bank+in-model")
# Row names of training/optimizers.py, feeding/batches.py, training/schedules.py and feeding/batch_changes.py, repeated
# here so that importing this module does not import Keras.
OPTIMIZER_NAMES = ("adamw", "adam", "sgd", "rmsprop", "lion")
STRENGTH_MIXES = ("equal", "mostly-original", "mostly-strong")
SCHEDULE_NAMES = ("plateau", "constant", "cosine", "cyclic")
MIXINGS = ("none", "mixup", "cutmix", "cutmix+mixup")

RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "frozen_fraction": ("0 <= frozen_fraction <= 1", lambda value: 0 <= value <= 1),
    "dropout": ("0 <= dropout < 1", lambda value: 0 <= value < 1),
    "learning_rate": ("0 < learning_rate < infinity", lambda value: 0 < value < float("inf")),
    "optimizer": (f"optimizer in {OPTIMIZER_NAMES}", lambda value: value in OPTIMIZER_NAMES),
    "weight_decay": ("0 <= weight_decay < infinity", lambda value: 0 <= value < float("inf")),
    "momentum": ("0 <= momentum < 1", lambda value: 0 <= value < 1),
    "augmentation": ("augmentation is a name", lambda value: isinstance(value, str)),
    "input_mode": (f"input_mode in {INPUT_MODES}", lambda value: value in INPUT_MODES),
    "strength_mix": (f"strength_mix in {STRENGTH_MIXES}", lambda value: value in STRENGTH_MIXES),
    "views_per_image": (
        "1 <= views_per_image <= 16, a whole number",
        lambda value: value == int(value) and 1 <= value <= 16,
    ),
    "curriculum": ("curriculum is true or false", lambda value: isinstance(value, bool)),
    "flips": ("flips is true or false", lambda value: isinstance(value, bool)),
    "masks": ("0 <= masks <= 1", lambda value: 0 <= value <= 1),
    "channel_shift": ("0 <= channel_shift <= 0.5", lambda value: 0 <= value <= 0.5),
    "mixing": (f"mixing in {MIXINGS}", lambda value: value in MIXINGS),
    "label_smoothing": ("0 <= label_smoothing < 1", lambda value: 0 <= value < 1),
    "batch_size": ("batch_size >= 0, a whole number", lambda value: value == int(value) and value >= 0),
    "layer_decay": ("0 < layer_decay <= 1", lambda value: 0 < value <= 1),
    "schedule": (f"schedule in {SCHEDULE_NAMES}", lambda value: value in SCHEDULE_NAMES),
    "unfreezing_steps": (
        "1 <= unfreezing_steps <= 4, a whole number",
        lambda value: value == int(value) and 1 <= value <= 4,
    ),
    "weight_averaging": ("0 <= weight_averaging < 1", lambda value: 0 <= value < 1),
    "resolution": (
        "resolution == 0 or 8 <= resolution <= 1024, a whole number",
        lambda value: value == int(value) and (value == 0 or 8 <= value <= 1024),
    ),
}
"""Hyperparameter -> (its rule as error messages show it, function that tells whether a value keeps the rule)."""


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of one trial.

    Raises:
        ModelError: A value is outside its range (RULES).
    """

    frozen_fraction: float = 0.5
    """Share of the backbone's layers to freeze, 0..1. The nearest cut point is used."""
    dropout: float = 0.3
    """Dropout rate before the last layer, 0 <= rate < 1."""
    learning_rate: float = 1e-4
    """Learning rate of fine-tuning, > 0. `Recipe` sets the rate of the head phase."""
    optimizer: str = "adamw"
    """Name of a row in models/training/optimizers.py."""
    weight_decay: float = 0.004
    """Decoupled weight decay, >= 0. Used by adamw and lion."""
    momentum: float = 0.9
    """Momentum, 0 <= momentum < 1. Used by sgd only."""
    augmentation: str = "low+medium+hard"
    """Augmentation strengths whose stored views are drawn besides the originals, joined by `+`, or `none`."""
    input_mode: str = "bank"
    """Source of augmentation: `bank` for stored views only, `bank+in-model` to add random flip, rotation, zoom,
    contrast and noise in the network."""
    strength_mix: str = "equal"
    """How often each strength is drawn: name of a row of MIXES in models/feeding/batches.py."""
    views_per_image: int = 1
    """Number of views of each training image in an epoch, 1..16."""
    curriculum: bool = False
    """Whether the strengths are added one at a time over the epochs of a phase, in the order of `augmentation`."""
    flips: bool = False
    """Whether images are randomly mirrored and turned by a multiple of 90 degrees (180 where they are not square)."""
    masks: float = 0.0
    """Share of images, 0..1, on which a random rectangle or grid is filled with one grey (cut-out, grid mask)."""
    channel_shift: float = 0.0
    """Largest shift of each colour channel, as a share of the full range, 0..0.5."""
    mixing: str = "none"
    """Mixing of two images and their labels in half of the batches: `cutmix`, `mixup`, `cutmix+mixup` (either, at
    random) or `none`."""
    label_smoothing: float = 0.0
    """Share of each target, 0 <= share < 1, that is spread evenly over all classes."""
    batch_size: int = 0
    """Images per training step. 0: the batch size of the study (`Recipe`)."""
    layer_decay: float = 1.0
    """Layer-wise learning-rate decay, 0 < decay <= 1. Each part between two cut points trains at this factor times the
    rate of the next part."""
    schedule: str = "plateau"
    """Learning-rate schedule: name of a row in models/training/schedules.py."""
    unfreezing_steps: int = 1
    """Number of fine-tuning phases, 1..4. 1 unfreezes all trained layers at once; more start with the last layers and
    unfreeze earlier ones phase by phase."""
    weight_averaging: float = 0.0
    """Momentum, 0 <= momentum < 1, of an exponential moving average of the weights. The averaged weights are scored and
    saved. 0: no averaging."""
    resolution: int = 0
    """Pixels, 8..1024, to which the network resizes the shorter side of the images. 0: the size of the prepared set."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in RULES.items():
            value = getattr(self, name)
            try:
                fine = holds(value)
            except (TypeError, ValueError, OverflowError):  # a string or infinity instead of a number
                fine = False
            if not fine:
                raise ModelError(f"`{rule}` must hold, but the value is {value!r}")

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the augmentation strengths; empty for `none`."""
        return () if self.augmentation == NO_AUGMENTATION else tuple(self.augmentation.split("+"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Hyperparameters:
        """Return hyperparameters from plain values, as a job stores them.

        Raises:
            ModelError: A name is unknown, or a value is outside its range.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ModelError(f"unknown hyperparameter `{min(unknown)}`: the known ones are {', '.join(names())}")
        return cls(**values)


def names() -> tuple[str, ...]:
    """Return the names of all hyperparameters."""
    return tuple(field.name for field in fields(Hyperparameters))
