"""The optimizers a trial can choose. To add one: a row in OPTIMIZERS, and its name in studies/*.toml."""

from __future__ import annotations

from collections.abc import Callable

import keras

from models.errors import ModelError
from models.hyperparameters import Hyperparameters

OPTIMIZERS: dict[str, Callable[[float, Hyperparameters], keras.optimizers.Optimizer]] = {
    "adamw": lambda rate, h: keras.optimizers.AdamW(rate, weight_decay=h.weight_decay),
    "adam": lambda rate, h: keras.optimizers.Adam(rate),
    "sgd": lambda rate, h: keras.optimizers.SGD(rate, momentum=h.momentum, nesterov=True),
    "rmsprop": lambda rate, h: keras.optimizers.RMSprop(rate),
}


def make_optimizer(name: str, learning_rate: float, hyperparameters: Hyperparameters) -> keras.optimizers.Optimizer:
    """A fresh optimizer without state. ModelError for an unknown name."""
    if name not in OPTIMIZERS:
        raise ModelError(f"unknown optimizer {name!r}: there are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name](learning_rate, hyperparameters)
