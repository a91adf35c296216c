"""The optimizers a trial can choose. To add one: a row in OPTIMIZERS, and its name in studies/*.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from models.errors import ModelError
from models.hyperparameters import Hyperparameters

OPTIMIZERS: dict[str, Callable[[float, Hyperparameters], keras.optimizers.Optimizer]] = {
    "adamw": lambda rate, h: keras.optimizers.AdamW(rate, weight_decay=h.weight_decay),
    "adam": lambda rate, h: keras.optimizers.Adam(rate),
    "sgd": lambda rate, h: keras.optimizers.SGD(rate, momentum=h.momentum, nesterov=True),
    "rmsprop": lambda rate, h: keras.optimizers.RMSprop(rate),
}


def make_optimizer(
    name: str,
    learning_rate: float,
    hyperparameters: Hyperparameters,
    rate_scales: Mapping[str, float] | None = None,
    weight_averaging: float = 0.0,
) -> keras.optimizers.Optimizer:
    """A fresh optimizer without state.

    Args:
        rate_scales: path of a variable -> factor on its learning rate; 1 for those that are not named.
        weight_averaging: momentum of an exponential moving average of the weights, kept beside them; 0: none.

    Raises ModelError for an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ModelError(f"unknown optimizer {name!r}: there are {', '.join(OPTIMIZERS)}")
    optimizer = OPTIMIZERS[name](learning_rate, hyperparameters)
    averaging = {"use_ema": True, "ema_momentum": weight_averaging} if weight_averaging else {}
    if not rate_scales and not averaging:
        return optimizer
    kind = _with_rates(type(optimizer), rate_scales or {})
    return kind.from_config(optimizer.get_config() | averaging)


def _with_rates(kind: type[keras.optimizers.Optimizer], scales: Mapping[str, float]) -> Any:
    """The same optimizer with a rate of its own for each variable. Scaled gradients would not do: Adam and RMSprop
    divide by their size. AdamW's decay stays that of the full rate."""

    class PerLayerRates(kind):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            own = self._trainable_variables[self._get_variable_index(variable)]  # TensorFlow hands over its bare one
            super().update_step(gradient, variable, learning_rate * scales.get(own.path, 1.0))

    return PerLayerRates
