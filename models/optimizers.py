"""The optimizers a trial can choose. To add one: a row in OPTIMIZERS, and its name in studies/*.toml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from models.errors import ModelError
from models.hyperparameters import Hyperparameters

OPTIMIZERS: dict[str, Callable[[float, Hyperparameters], keras.optimizers.Optimizer]] = {
    "adamw": lambda rate, h: keras.optimizers.AdamW(rate, weight_decay=h.weight_decay),
    "adam": lambda rate, h: keras.optimizers.Adam(rate),
    "sgd": lambda rate, h: keras.optimizers.SGD(rate, momentum=h.momentum, nesterov=True),
    "rmsprop": lambda rate, h: keras.optimizers.RMSprop(rate),
    "lion": lambda rate, h: keras.optimizers.Lion(rate, weight_decay=h.weight_decay),
}


@dataclass(frozen=True)
class Extras:
    """What is done around an optimizer's own rule."""

    rate_scales: np.ndarray | None = None
    """float32 (k,): a factor on the learning rate for each weight."""
    weight_averaging: float = 0.0
    """Momentum of an exponential moving average of the weights, kept beside them; 0: none."""
    accumulation: int = 1
    """Gradients of so many batches make one step."""


def make_optimizer(
    name: str, learning_rate: float, hyperparameters: Hyperparameters, extras: Extras | None = None
) -> keras.optimizers.Optimizer:
    """A fresh optimizer without state, for one flat vector of all weights. Raises ModelError for an unknown name."""
    if name not in OPTIMIZERS:
        raise ModelError(f"unknown optimizer {name!r}: there are {', '.join(OPTIMIZERS)}")
    optimizer, extras = OPTIMIZERS[name](learning_rate, hyperparameters), extras or Extras()
    changes: dict[str, Any] = {}
    if extras.weight_averaging:
        changes |= {"use_ema": True, "ema_momentum": extras.weight_averaging}
    if extras.accumulation > 1:
        changes["gradient_accumulation_steps"] = extras.accumulation
    if extras.rate_scales is None and not changes:
        return optimizer
    kind = type(optimizer) if extras.rate_scales is None else _with_rates(type(optimizer), extras.rate_scales)
    return kind.from_config(optimizer.get_config() | changes)


def _with_rates(kind: type[keras.optimizers.Optimizer], scales: np.ndarray) -> Any:
    """The same optimizer with a rate of its own for each weight. Scaled gradients would not do: Adam and RMSprop
    divide by their size. AdamW's decay stays that of the full rate."""

    class PerLayerRates(kind):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * scales)

    return PerLayerRates
