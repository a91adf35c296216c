"""Batch norm folded into convolutions: the same answers and gradients from the same variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from models.networks.compiled_steps import gradient_function
from models.networks.norm_folding import KINDS, FoldedConvolution, folded

SHAPE = (12, 12, 3)
LAYERS: dict[type, Callable[..., keras.layers.Layer]] = {
    keras.layers.Conv2D: lambda **options: keras.layers.Conv2D(6, 3, strides=2, padding="same", **options),
    keras.layers.DepthwiseConv2D: lambda **options: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, **options),
    keras.layers.SeparableConv2D: lambda **options: keras.layers.SeparableConv2D(6, 3, **options),
}


def classifier(between: Callable[[Any], Any]) -> keras.Model:
    """Images (n, 12, 12, 3) -> `between` -> probabilities, its batch norm frozen and with statistics of some size."""
    keras.utils.set_random_seed(0)
    image = keras.Input(SHAPE)
    pooled = keras.layers.GlobalAveragePooling2D()(between(image))
    model = keras.Model(image, keras.layers.Dense(4, activation="softmax")(pooled))
    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.get_weights()])
            layer.trainable = False
    return model


def convolutions_in(model: keras.Model) -> list[FoldedConvolution]:
    return [layer for layer in model.layers if isinstance(layer, FoldedConvolution)]


def assert_alike(model: keras.Model, other: keras.Model) -> None:
    """In answers, variables and gradients."""
    rng = np.random.default_rng(1)
    images, targets = rng.uniform(-1, 1, (5, *SHAPE)).astype("float32"), np.eye(4, dtype="float32")[[0, 1, 2, 3, 0]]
    np.testing.assert_allclose(other(images), model(images), atol=1e-6)
    variables = model.trainable_variables
    assert [v.path for v in other.trainable_variables] == [v.path for v in variables]
    one, two = (
        gradient_function(each, variables)(images, targets, np.ones(5, "float32"))[1] for each in (model, other)
    )
    assert np.abs(one).max() > 0.01
    np.testing.assert_allclose(two, one, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"groups": 2}], ids=["", "every second pixel", "groups"])
def test_convolutions_of_one_pixel_give_the_same_answers_and_gradients(options: dict[str, int]) -> None:
    def between(x: Any) -> Any:
        y = keras.layers.Conv2D(16, 3)(x)
        return keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1, **options)(y))

    model = classifier(between)
    other = folded(model)
    assert len(convolutions_in(other)) == 1
    assert_alike(model, other)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_convolution_gives_the_same_answers_and_gradients(kind: type, use_bias: bool) -> None:
    model = classifier(lambda x: keras.layers.BatchNormalization()(LAYERS[kind](use_bias=use_bias)(x)))
    if use_bias:
        model.layers[1].bias.assign(np.linspace(-1, 1, 6))
    other = folded(model)
    assert len(convolutions_in(other)) == 1 and not any(layer in other.layers for layer in model.layers[1:3])
    assert_alike(model, other)


def test_batch_norm_without_scale_or_offset_and_in_a_model_inside_is_folded_too() -> None:
    def inside(x: Any) -> Any:
        inner = keras.Input(x.shape[1:])
        y = keras.layers.BatchNormalization(scale=False)(keras.layers.Conv2D(4, 3)(inner))
        y = keras.layers.BatchNormalization(center=False)(keras.layers.Conv2D(4, 3, groups=2)(keras.ops.relu(y)))
        return keras.Model(inner, y)(x)

    model = classifier(inside)
    other = folded(model)
    assert len(convolutions_in(other.layers[1])) == 2
    assert_alike(model, other)


@pytest.mark.parametrize(
    "between",
    [
        lambda x: keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="relu")(x)),
        lambda x: keras.layers.Conv2D(4, 3)(keras.layers.BatchNormalization()(x)),
        lambda x: keras.layers.BatchNormalization()(keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(x))),
        lambda x: keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(4, 3)(x)),
    ],
    ids=["activation in the convolution", "batch norm before", "activation between", "another axis"],
)
def test_what_cannot_be_folded_stays(between: Callable[[Any], Any]) -> None:
    model = classifier(between)
    other = folded(model)
    assert not convolutions_in(other)
    assert_alike(model, other)


def test_layers_that_are_called_by_keyword_stay() -> None:
    def between(x: Any) -> Any:
        return keras.layers.BatchNormalization()(inputs=keras.layers.Conv2D(4, 3)(inputs=x))

    model = classifier(between)
    assert_alike(model, folded(model))


def test_an_output_that_is_wanted_without_batch_norm_too_stays() -> None:
    def twice(x: Any) -> Any:
        y = keras.layers.Conv2D(4, 3)(x)
        return keras.ops.add(y, keras.layers.BatchNormalization()(y))

    model = classifier(twice)
    assert_alike(model, folded(model))


def test_it_computes_in_its_convolutions_precision() -> None:
    model = classifier(lambda x: keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3)(x)))
    other, images = folded(model), np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")
    (layer,) = convolutions_in(other)
    exact = np.asarray(layer(images))
    model.layers[1].dtype_policy = "mixed_bfloat16"
    rounded = layer(images)
    assert keras.backend.standardize_dtype(rounded.dtype) == "bfloat16"
    np.testing.assert_allclose(np.asarray(keras.ops.cast(rounded, "float32")), exact, atol=0.05)
