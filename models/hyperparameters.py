"""What one trial varies. To add a search parameter: a field here, a line in studies/*.toml, and its use in models/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from models.errors import ModelError

NO_AUGMENTATION = "none"
BANK = "bank"
INPUT_MODES = (BANK, "bank+in-model")
# The rows of models/training/optimizers.py, feeding.py, schedules.py and batch_changes.py, known here without Keras.
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
    "views_per_image": ("1 <= views_per_image <= 16, whole", lambda value: value == int(value) and 1 <= value <= 16),
    "curriculum": ("curriculum is true or false", lambda value: isinstance(value, bool)),
    "flips": ("flips is true or false", lambda value: isinstance(value, bool)),
    "masks": ("0 <= masks <= 1", lambda value: 0 <= value <= 1),
    "channel_shift": ("0 <= channel_shift <= 0.5", lambda value: 0 <= value <= 0.5),
    "mixing": (f"mixing in {MIXINGS}", lambda value: value in MIXINGS),
    "label_smoothing": ("0 <= label_smoothing < 1", lambda value: 0 <= value < 1),
    "batch_size": ("batch_size >= 0, whole", lambda value: value == int(value) and value >= 0),
    "layer_decay": ("0 < layer_decay <= 1", lambda value: 0 < value <= 1),
    "schedule": (f"schedule in {SCHEDULE_NAMES}", lambda value: value in SCHEDULE_NAMES),
    "unfreezing_steps": ("1 <= unfreezing_steps <= 4, whole", lambda value: value == int(value) and 1 <= value <= 4),
    "weight_averaging": ("0 <= weight_averaging < 1", lambda value: 0 <= value < 1),
    "resolution": (
        "resolution == 0 or 8 <= resolution <= 1024, whole",
        lambda value: value == int(value) and (value == 0 or 8 <= value <= 1024),
    ),
}


@dataclass(frozen=True)
class Hyperparameters:
    """The hyperparameters of one trial. Raises ModelError when a value is outside its range."""

    frozen_fraction: float = 0.5
    """Share of the backbone's layers, 0..1, kept as they are; the nearest cut point is taken."""
    dropout: float = 0.3
    """Rate in front of the last layer, 0 <= rate < 1."""
    learning_rate: float = 1e-4
    """Of the fine-tuning phase, > 0; the head phase has its own (`Recipe`)."""
    optimizer: str = "adamw"
    """A row of models/training/optimizers.py."""
    weight_decay: float = 0.004
    """Decoupled weight decay >= 0; used by adamw and lion."""
    momentum: float = 0.9
    """0 <= momentum < 1; used by sgd alone."""
    augmentation: str = "low+medium+hard"
    """Strengths of stored views to draw from besides the original, joined by `+`, or `none`."""
    input_mode: str = "bank"
    """`bank`: stored views alone; `bank+in-model`: random flip, rotation, zoom, contrast and noise on top."""
    strength_mix: str = "equal"
    """How often each strength is drawn, a row of models/feeding/batches.py."""
    views_per_image: int = 1
    """Views of each training image in an epoch, 1..16."""
    curriculum: bool = False
    """True: the strengths come one after another over the epochs of a phase, in the order of `augmentation`."""
    flips: bool = False
    """True: each image is mirrored and turned by a random multiple of 90 degrees."""
    masks: float = 0.0
    """Share of images, 0..1, that get a random rectangle or grid of one grey (cut-out, grid mask)."""
    channel_shift: float = 0.0
    """Largest shift of each colour channel, as a share of the full range, 0..0.5."""
    mixing: str = "none"
    """Mixes two images and their labels in half of the batches: `cutmix`, `mixup`, or either."""
    label_smoothing: float = 0.0
    """Share of a target, 0 <= share < 1, that is spread over all classes."""
    batch_size: int = 0
    """Images a training step; 0 takes the study's (`Recipe`)."""
    layer_decay: float = 1.0
    """Layer-wise learning-rate decay, 0 < decay <= 1: each part between two cut points has the rate of the part behind
    it times this."""
    schedule: str = "plateau"
    """Of the learning rate, a row of models/training/schedules.py."""
    unfreezing_steps: int = 1
    """1: all that is to be trained at once; 2..4: in so many phases, from the last layers forward."""
    weight_averaging: float = 0.0
    """Momentum, 0 <= momentum < 1, of an exponential moving average of the weights, which is what is scored and kept;
    0: none."""
    resolution: int = 0
    """Side in pixels, 8..1024, to which the network resizes the images (the shorter one where they are not square);
    0: the prepared images' own size."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in RULES.items():
            value = getattr(self, name)
            try:
                fine = holds(value)
            except (TypeError, ValueError, OverflowError):  # a string or infinity where a number belongs
                fine = False
            if not fine:
                raise ModelError(f"`{rule}` must hold, but the value is {value!r}")

    @property
    def levels(self) -> tuple[str, ...]:
        """The augmentation strengths as names, empty for `none`."""
        return () if self.augmentation == NO_AUGMENTATION else tuple(self.augmentation.split("+"))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Hyperparameters:
        """From plain values, as a job brings them; ModelError for an unknown name."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ModelError(f"unknown hyperparameter `{min(unknown)}`; known are {', '.join(names())}")
        return cls(**values)


def names() -> tuple[str, ...]:
    """The names of all hyperparameters."""
    return tuple(field.name for field in fields(Hyperparameters))
