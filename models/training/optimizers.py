"""The optimizers a trial can choose, as rules that update one flat vector of weights.

To add one: a row in RULES, and its name in models/hyperparameters.py and studies/*.toml.

The results match Keras's optimizers (a test compares them). Keras runs some forty operations per step, each over all
weights, or traces a graph anew for each optimizer, which TensorFlow never frees, nor the state in it. A rule here takes
all it uses as arguments and holds no state, so it is compiled only once for each length of the vector.
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
    """Values that a rule takes besides gradient and state, as scalar tensors."""

    rate: Any
    """Learning rate: a scalar, or float32 (k,) with one for each weight."""
    step: Any
    """Number of this step, from 1."""
    momentum: Any


Change = Callable[[Any, Sequence[Any], StepValues], tuple[Any, list[Any]]]


@dataclass(frozen=True)
class Rule:
    """Update rule of one optimizer, for a vector of k weights."""

    change: Change
    """(gradient (k,), state, StepValues) -> (vector to add to the weights (k,), new state); all float32."""
    states: int
    """Number of state vectors (k,). They are zeros before the first step."""
    decays: bool = False
    """Whether the weights first shrink by rate times `weight_decay` (Loshchilov & Hutter 2019)."""


@dataclass(frozen=True)
class UpdateOptions:
    """Options that apply to every rule."""

    rate_scales: np.ndarray | None = None
    """float32 (k,): factor on the learning rate of each weight. Scaling the gradients would have no effect in Adam and
    RMSprop, which divide by their size. Weight decay uses the unscaled rate."""
    weight_averaging: float = 0.0
    """Momentum of an exponential moving average of the weights, kept beside them; 0: none. At step n it is at most
    (1 + n) / (10 + n), as in tf.train.ExponentialMovingAverage with `num_updates`. Otherwise a trial of few steps would
    be scored with weights close to its first ones."""
    accumulation: int = 1
    """Batches whose mean gradient makes one step."""
    clip_norm: float = 0.0
    """Largest L2 norm of a step's gradient, as `Recipe.gradient_clip_norm`; 0: no limit."""


class FlatOptimizer:
    """Optimizer of one flat vector of weights.

    Args:
        name: A key of RULES.
        learning_rate: Initial learning rate.
        hyperparameters: Source of momentum and weight decay.
        size: Number of weights.
        extras: Options that apply to every rule.

    Raises:
        ModelError: The name is unknown.
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
            raise ModelError(f"unknown optimizer {name!r}: choose one of {', '.join(RULES)}")
        self.learning_rate = learning_rate
        """Learning rate of the next step. May be changed between steps."""
        self._update, self._hyperparameters = _compiled(name), hyperparameters
        extras = extras or UpdateOptions()
        self._extras, self._steps, self._pending = extras, 0, 0
        self._scales = None if extras.rate_scales is None else ops.convert_to_tensor(extras.rate_scales)
        self._moments = [ops.zeros(size) for _ in range(RULES[name].states)]
        self._sum = ops.zeros(size) if extras.accumulation > 1 else None
        self.average = ops.zeros(size) if extras.weight_averaging else None
        """float32 (size,): moving average of the weights, zeros before the first step; None if there is no average."""

    def moved(self, weights: Any, gradient: Any) -> Any:
        """Return the weights after one batch; they stay the same while gradients are only accumulated.

        Args:
            weights: float32 (size,).
            gradient: float32 (size,), gradient of the batch's loss.
        """
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
        """Everything that the next step depends on, except the learning rate."""
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
    """Compile (gradient (k,), largest norm) -> gradient, scaled down if its norm is larger."""

    def clip(gradient: Any, clip_norm: Any) -> Any:
        norm = ops.sqrt(ops.sum(ops.square(gradient)))
        return gradient * ops.minimum(1.0, clip_norm / ops.maximum(norm, EPSILON))

    result: Callable[..., Any] = fused(clip)
    return result


@cache
def _compiled(name: str) -> Callable[..., Any]:
    """Compile (weights, gradient, moments, average, scales, numbers (5,)) -> (weights, moments, average).

    Average and scales may be None.
    """
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
            kept = ops.where(step > 1, slow, 0.0)  # the first average is the weights, without the initial zeros
            average = kept * average + (1 - kept) * weights
        return weights, moments, average

    result: Callable[..., Any] = fused(update)
    return result


def _adam(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """Adam (Kingma & Ba 2015, section 2)."""
    first = moments[0] + (gradient - moments[0]) * (1 - 0.9)
    second = moments[1] + (ops.square(gradient) - moments[1]) * (1 - 0.999)
    rate = values.rate * ops.sqrt(1 - 0.999**values.step) / (1 - 0.9**values.step)
    return -rate * first / (ops.sqrt(second) + EPSILON), [first, second]


def _sgd(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """SGD with Nesterov momentum (as in Sutskever et al. 2013)."""
    step = -values.rate * gradient
    moment = values.momentum * moments[0] + step
    return values.momentum * moment + step, [moment]


def _rmsprop(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """RMSprop (Hinton 2012, Neural Networks for Machine Learning, lecture 6e)."""
    moment = 0.9 * moments[0] + (1 - 0.9) * ops.square(gradient)
    return -values.rate * gradient * ops.rsqrt(moment + EPSILON), [moment]


def _lion(gradient: Any, moments: Sequence[Any], values: StepValues) -> tuple[Any, list[Any]]:
    """Lion (Chen et al. 2023, algorithm 2)."""
    change = -values.rate * ops.sign(0.9 * moments[0] + (1 - 0.9) * gradient)
    return change, [0.99 * moments[0] + (1 - 0.99) * gradient]


RULES: dict[str, Rule] = {
    "adamw": Rule(_adam, states=2, decays=True),
    "adam": Rule(_adam, states=2),
    "sgd": Rule(_sgd, states=1),
    "rmsprop": Rule(_rmsprop, states=1),
    "lion": Rule(_lion, states=1, decays=True),
}
