"""The rules that move a vector of weights: as Keras's optimizers do; averaging, rates of one's own, summed batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from models.errors import ModelError
from models.hyperparameters import Hyperparameters
from models.training.optimizers import RULES, FlatOptimizer, UpdateOptions

SIZE, STEPS = 40, 6
KERAS: dict[str, Any] = {
    "adamw": lambda **more: keras.optimizers.AdamW(weight_decay=0.1, **more),
    "adam": keras.optimizers.Adam,
    "sgd": lambda **more: keras.optimizers.SGD(momentum=0.8, nesterov=True, **more),
    "rmsprop": keras.optimizers.RMSprop,
    "lion": lambda **more: keras.optimizers.Lion(weight_decay=0.1, **more),
}
HYPERPARAMETERS = Hyperparameters(weight_decay=0.1, momentum=0.8)


def start() -> np.ndarray:
    return np.linspace(-1, 1, SIZE).astype("float32")


def gradients(steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(steps, SIZE)).astype("float32")


def path(optimizer: FlatOptimizer, steps: np.ndarray) -> np.ndarray:
    """The weights after each of these gradients; the rate falls on the way."""
    weights, found = keras.ops.convert_to_tensor(start()), []
    for number, gradient in enumerate(steps):
        optimizer.learning_rate = 0.1 / (1 + number)
        weights = optimizer.moved(weights, keras.ops.convert_to_tensor(gradient))
        found.append(keras.ops.convert_to_numpy(weights))
    return np.array(found)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_does_what_keras_does(name: str) -> None:
    flat, theirs = keras.Variable(start()), KERAS[name]()
    theirs.build([flat])
    found = path(FlatOptimizer(name, 0.0, HYPERPARAMETERS, SIZE), gradients())
    for number, (gradient, weights) in enumerate(zip(gradients(), found, strict=True)):
        theirs.learning_rate = 0.1 / (1 + number)
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [flat])
        np.testing.assert_allclose(weights, flat.numpy(), atol=2e-6)
    assert np.abs(found[-1] - start()).min() > 1e-4


@pytest.mark.parametrize("name", RULES)
def test_a_long_gradient_is_scaled_down_as_keras_does(name: str) -> None:
    flat, theirs = keras.Variable(start()), KERAS[name](global_clipnorm=6.0)
    theirs.build([flat])
    norms = np.linalg.norm(gradients(), axis=1)
    assert norms.min() < 6 < norms.max()
    found = path(FlatOptimizer(name, 0.0, HYPERPARAMETERS, SIZE, UpdateOptions(clip_norm=6.0)), gradients())
    for number, (gradient, weights) in enumerate(zip(gradients(), found, strict=True)):
        theirs.learning_rate = 0.1 / (1 + number)
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [flat])
        np.testing.assert_allclose(weights, flat.numpy(), atol=2e-6)


@pytest.mark.parametrize("momentum", [0.2, 0.9])
def test_the_average_begins_with_the_first_weights_and_is_quick_at_first(momentum: float) -> None:
    ours = FlatOptimizer("adam", 0.0, HYPERPARAMETERS, SIZE, UpdateOptions(weight_averaging=momentum))
    expected, *later = path(ours, gradients())
    for step, weights in enumerate(later, 2):
        kept = min(momentum, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * weights
    np.testing.assert_allclose(ours.average, expected, atol=2e-6)


@pytest.mark.parametrize("name", RULES)
def test_each_weight_may_have_a_rate_of_its_own(name: str) -> None:
    scales = np.repeat([1.0, 0.5], SIZE // 2).astype("float32")
    plain = replace(HYPERPARAMETERS, weight_decay=0.0)
    whole = FlatOptimizer(name, 0.1, plain, SIZE)
    scaled = FlatOptimizer(name, 0.1, plain, SIZE, UpdateOptions(rate_scales=scales))
    one, two = (path(optimizer, gradients(1))[0] - start() for optimizer in (whole, scaled))
    np.testing.assert_allclose(two, one * scales, atol=1e-6)


def test_gradients_of_several_batches_make_one_step() -> None:
    halves = np.repeat(gradients(2), 2, axis=0) * np.array([0.5, 1.5, 0.5, 1.5], "float32")[:, None]
    found = path(FlatOptimizer("sgd", 0.0, HYPERPARAMETERS, SIZE, UpdateOptions(accumulation=2)), halves)
    np.testing.assert_array_equal(found[0], start())
    np.testing.assert_array_equal(found[2], found[1])
    whole = FlatOptimizer("sgd", 0.0, HYPERPARAMETERS, SIZE)
    weights = start()
    for rate, gradient in zip((0.1 / 2, 0.1 / 4), gradients(2), strict=True):
        whole.learning_rate = rate
        weights = whole.moved(weights, gradient)
    np.testing.assert_allclose(found[3], weights, atol=1e-6)


@pytest.mark.parametrize(
    "extras", [UpdateOptions(), UpdateOptions(weight_averaging=0.9), UpdateOptions(accumulation=2)]
)
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_its_state_is_all_that_the_next_steps_depend_on(name: str, extras: UpdateOptions) -> None:
    one = FlatOptimizer(name, 0.1, HYPERPARAMETERS, SIZE, extras)
    weights = start()
    for gradient in gradients(3):
        weights = one.moved(weights, gradient)
    other = FlatOptimizer(name, 0.1, HYPERPARAMETERS, SIZE, extras)
    other.state = one.state
    np.testing.assert_array_equal(one.moved(weights, gradients()[3]), other.moved(weights, gradients()[3]))
    for mine, its in zip(one.state, other.state, strict=True):
        np.testing.assert_array_equal(mine, its)


def test_an_unknown_optimizer_is_named_with_those_there_are() -> None:
    with pytest.raises(ModelError, match="unknown optimizer 'tiger': choose one of adamw, adam, sgd, rmsprop, lion"):
        FlatOptimizer("tiger", 0.1, Hyperparameters(), SIZE)
