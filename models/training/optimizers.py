"""The optimizers a trial can choose, as rules that move one flat vector of weights. To add one: a row in RULES, and its
name in models/hyperparameters.py and studies/*.toml.

They do what Keras's own do (a test compares). Those are some forty operations, each of which goes over all weights, or
a graph that is traced anew for each optimizer and that TensorFlow keeps for good, with the state it holds. A rule is
given all that it uses, so that it is compiled once for each length of the vector, and holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from keras import ops

from models.errors import ModelError
from models.hyperparameters import Hyperparameters
from models.networks.compiled_steps import fused

EPSILON = 1e-7  # this and the decay rates of the moments are Keras's defaults


@dataclass(frozen=True)
class StepValues:
    """What a rule is given besides gradient and state: scalar tensors, the rate also one for each weight."""

    rate: Any
    step: Any
    """The number of this step, from 1."""
    momentum: Any


Change = Callable[[Any, Sequence[Any], StepValues], tuple[Any, list[Any]]]


@dataclass(frozen=True)
class Rule:
    """(gradient (k,), state, Now) -> (what is added to the weights (k,), new state); all float32."""

    change: Change
    states: int
    """Vectors of state, of zeros before the first step."""
    decays: bool = False
    """Whether the weights shrink by rate times `weight_decay` before (Loshchilov & Hutter 2019)."""


@dataclass(frozen=True)
class UpdateOptions:
    """What is done around a rule."""

    rate_scales: np.ndarray | None = None
    """float32 (k,): a factor on the learning rate for each weight. Scaled gradients would not do: Adam and RMSprop
    divide by their size. The decay stays that of the full rate."""
    weight_averaging: float = 0.0
    """Momentum of an exponential moving average of the weights, kept beside them; 0: none. After the n-th step it is at
    most (1 + n) / (10 + n), as tf.train.ExponentialMovingAverage has it with `num_updates`: otherwise a trial of few
    steps would be scored by weights near its first ones."""
    accumulation: int = 1
    """Gradients of so many batches make one step."""
    clip_norm: float = 0.0
    """As `Recipe.gradient_clip_norm`."""


class FlatOptimizer:
    """An optimizer at work on a vector of `size` weights.

    Raises ModelError for an unknown name.
    """

    def __init__(
        self,
        name: str,
        learning_rate: float,
        hyperparameters: Hyperparameters,
        size: int,
        extras: UpdateOptions | None = None,
    ) -> None:
        if name not in RULES:
            raise ModelError(f"unknown optimizer {name!r}: there are {', '.join(RULES)}")
        self.learning_rate = learning_rate
        """May be changed between steps."""
        self._update, self._hyperparameters = _compiled(name), hyperparameters
        extras = extras or UpdateOptions()
        self._extras, self._steps, self._pending = extras, 0, 0
        self._scales = None if extras.rate_scales is None else ops.convert_to_tensor(extras.rate_scales)
        self._moments = [ops.zeros(size) for _ in range(RULES[name].states)]
        self._sum = ops.zeros(size) if extras.accumulation > 1 else None
        self.average = ops.zeros(size) if extras.weight_averaging else None
        """Of the weights after each step, float32 (size,), zeros before the first; None without."""

    def moved(self, weights: Any, gradient: Any) -> Any:
        """The weights after a batch of this gradient; the same ones while gradients are only added up."""
        if self._sum is not None:
            self._sum, self._pending = self._sum + gradient, self._pending + 1
            if self._pending < self._extras.accumulation:
                return weights
            gradient = self._sum / self._pending
            self._sum, self._pending = ops.zeros_like(self._sum), 0
        if self._extras.clip_norm:
            gradient = _clipped()(gradient, self._extras.clip_norm)
        self._steps += 1
        h = self._hyperparameters
        numbers = (self.learning_rate, self._steps, h.momentum, h.weight_decay, self._extras.weight_averaging)
        weights, self._moments, self.average = self._update(
            weights, gradient, self._moments, self.average, self._scales, np.array(numbers, "float32")
        )
        return weights

    @property
    def state(self) -> list[np.ndarray]:
        """All that the next step depends on but the learning rate."""
        vectors = [part for part in (*self._moments, self._sum, self.average) if part is not None]
        return [np.array([self._steps, self._pending]), *map(ops.convert_to_numpy, vectors)]

    @state.setter
    def state(self, arrays: Sequence[np.ndarray]) -> None:
        self._steps, self._pending = map(int, arrays[0])
        vectors = [ops.convert_to_tensor(array) for array in arrays[1:]]
        self._moments, rest = vectors[: len(self._moments)], vectors[len(self._moments) :]
        self._sum = None if self._sum is None else rest.pop(0)
        self.average = None if self.average is None else rest.pop(0)


@cache
def _clipped() -> Callable[..., Any]:
    """(gradient (k,), largest norm) -> the gradient, scaled down where it is longer."""

    def clip(gradient: Any, clip_norm: Any) -> Any:
        norm = ops.sqrt(ops.sum(ops.square(gradient)))
        return gradient * ops.minimum(1.0, clip_norm / ops.maximum(norm, EPSILON))

    result: Callable[..., Any] = fused(clip)
    return result


@cache
def _compiled(name: str) -> Callable[..., Any]:
    """(weights, gradient, moments, average or None, scales or None, numbers (5,)) -> (weights, moments, average)."""
    rule = RULES[name]

    def update(
        weights: Any, gradient: Any, moments: Sequence[Any], average: Any, scales: Any, numbers: Any
    ) -> tuple[Any, Sequence[Any], Any]:
        rate, step, momentum, decay, averaging = (numbers[place] for place in range(5))
        if rule.decays:
            weights = weights - weights * (rate * decay)
        values = StepValues(rate if scales is None else rate * scales, step, momentum)
        change, moments = rule.change(gradient, moments, values)
        weights = weights + change
        if average is not None:
            slow = ops.minimum(averaging, (1 + step) / (10 + step))
            kept = ops.where(step > 1, slow, 0.0)  # zeros do not count
            average = kept * average + (1 - kept) * weights
        return weights, moments, average

    result: Callable[..., Any] = fused(update)
    return result


def _adam(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """Kingma & Ba 2015, section 2."""
    first = moments[0] + (gradient - moments[0]) * (1 - 0.9)
    second = moments[1] + (ops.square(gradient) - moments[1]) * (1 - 0.999)
    rate = values.rate * ops.sqrt(1 - 0.999**values.step) / (1 - 0.9**values.step)
    return -rate * first / (ops.sqrt(second) + EPSILON), [first, second]


def _sgd(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """With Nesterov's momentum, as Sutskever et al. 2013 write it."""
    step = -values.rate * gradient
    moment = values.momentum * moments[0] + step
    return values.momentum * moment + step, [moment]


def _rmsprop(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """Hinton 2012, Neural Networks for Machine Learning, lecture 6e."""
    moment = 0.9 * moments[0] + (1 - 0.9) * ops.square(gradient)
    return -values.rate * gradient * ops.rsqrt(moment + EPSILON), [moment]


def _lion(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """Chen et al. 2023, algorithm 2."""
    change = -values.rate * ops.sign(0.9 * moments[0] + (1 - 0.9) * gradient)
    return change, [0.99 * moments[0] + (1 - 0.99) * gradient]


RULES: dict[str, Rule] = {
    "adamw": Rule(_adam, states=2, decays=True),
    "adam": Rule(_adam, states=2),
    "sgd": Rule(_sgd, states=1),
    "rmsprop": Rule(_rmsprop, states=1),
    "lion": Rule(_lion, states=1, decays=True),
}
