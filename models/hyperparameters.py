"""What one trial varies. To add a search parameter: a field here, a line in studies/*.toml, and its use in models/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from models.errors import ModelError

NO_AUGMENTATION = "none"
INPUT_MODES = ("bank", "bank+in-model")
OPTIMIZER_NAMES = ("adamw", "adam", "sgd", "rmsprop")  # the rows of models/optimizers.py, known here without Keras

RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "frozen_fraction": ("0 <= frozen_fraction <= 1", lambda value: 0 <= value <= 1),
    "dropout": ("0 <= dropout < 1", lambda value: 0 <= value < 1),
    "learning_rate": ("0 < learning_rate < infinity", lambda value: 0 < value < float("inf")),
    "optimizer": (f"optimizer in {OPTIMIZER_NAMES}", lambda value: value in OPTIMIZER_NAMES),
    "weight_decay": ("0 <= weight_decay < infinity", lambda value: 0 <= value < float("inf")),
    "momentum": ("0 <= momentum < 1", lambda value: 0 <= value < 1),
    "augmentation": ("augmentation is a name", lambda value: isinstance(value, str)),
    "input_mode": (f"input_mode in {INPUT_MODES}", lambda value: value in INPUT_MODES),
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
    """A row of models/optimizers.py."""
    weight_decay: float = 0.004
    """Decoupled weight decay >= 0; used by adamw alone."""
    momentum: float = 0.9
    """0 <= momentum < 1; used by sgd alone."""
    augmentation: str = "low+medium+hard"
    """Strengths of stored views to draw from besides the original, joined by `+`, or `none`."""
    input_mode: str = "bank"
    """`bank`: stored views alone; `bank+in-model`: random flip, rotation, zoom, contrast and noise on top."""

    def __post_init__(self) -> None:
        for name, (rule, holds) in RULES.items():
            value = getattr(self, name)
            try:
                fine = holds(value)
            except TypeError:  # a string where a number belongs
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
