"""Where the features of a user's own classifier end: heads of all forms are left out, and no network is cut short."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.backbones.registry import OWN, UNTRAINED, build
from models.backbones.user_networks import ready_backbone
from models.backbones.user_rows import asked_backbone
from models.errors import ModelError

SHAPE = (24, 24, 3)
L = keras.layers


def body(image: Any) -> Any:
    """Two convolutions, and squeeze and excitation, whose pooling and 1x1 convolution are no head."""
    x = L.Conv2D(12, 3, strides=2, padding="same", activation="relu")(image)
    gate = L.Conv2D(12, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return L.Conv2D(16, 3, strides=2, padding="same", activation="relu")(L.Multiply()([x, gate]))


def chain(*layers: Any) -> Callable[[Any], Any]:
    def applied(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return applied


def pooled(**options: Any) -> Any:
    return L.GlobalAveragePooling2D(**options)


def nested(*layers: Any) -> Callable[[Any], Any]:
    return lambda x: keras.Sequential([keras.Input(x.shape[1:]), *layers])(x)


HEADS: dict[str, Callable[[Any], Any]] = {
    "none": lambda x: x,
    "pooled features": pooled(),
    "dense": lambda x: L.Dense(7, "softmax")(pooled()(x)),
    "logits": lambda x: L.Dense(7)(pooled()(x)),
    "sigmoid": lambda x: L.Dense(1, "sigmoid")(L.GlobalMaxPooling2D()(x)),
    "two poolings": lambda x: L.Dense(7)(L.Concatenate()([pooled()(x), L.GlobalMaxPooling2D()(x)])),
    "fc1 and fc2": lambda x: chain(L.Flatten(), L.Dense(20, "relu"), L.Dropout(0.5), L.Dense(20), L.Dense(7))(x),
    "norm": lambda x: chain(pooled(), L.BatchNormalization(), L.Dropout(0.5), L.Dense(7), L.Softmax())(x),
    "MobileNet": lambda x: chain(
        pooled(keepdims=True), L.Dropout(0.1), L.Conv2D(7, 1), L.Reshape((7,)), L.Activation("softmax")
    )(x),
    "MobileNetV3": lambda x: chain(
        pooled(keepdims=True), L.Conv2D(40, 1, activation="relu"), L.Dropout(0.1), L.Conv2D(7, 1), L.Flatten(),
        L.Activation("softmax"),
    )(x),
    "1x1 logits": lambda x: chain(pooled(keepdims=True), L.Conv2D(7, 1), L.Flatten())(x),
    "dense on 1x1": lambda x: chain(pooled(keepdims=True), L.Dense(30, "relu"), L.Dense(7, "softmax"), L.Flatten())(x),
    "mean": lambda x: L.Dense(7)(keras.ops.mean(x, axis=(1, 2))),
    "mean, 1x1": lambda x: L.Flatten()(L.Conv2D(7, 1)(keras.ops.mean(x, axis=(1, 2), keepdims=True))),
    "average of 6x6": lambda x: chain(L.AveragePooling2D(6), L.Conv2D(30, 1), L.Conv2D(7, 1), L.Flatten())(x),
    "flat 1x1": lambda x: chain(L.Reshape((1, 1, 576)), L.Conv2D(7, 1, activation="softmax"), L.Flatten())(x),
    "SqueezeNet": lambda x: chain(L.Dropout(0.5), L.Conv2D(7, 1, activation="relu"), pooled(), L.Softmax())(x),
    "class maps of 3x3": lambda x: chain(L.Conv2D(7, 3), L.BatchNormalization(), pooled(), L.Activation("softmax"))(x),
    "logits of class maps": lambda x: pooled()(L.Conv2D(7, 1)(x)),
    "dense class maps": lambda x: pooled()(L.Dense(7, "softmax")(x)),
    "answer for each pixel": lambda x: L.Conv2D(7, 1, activation="sigmoid")(x),
    "nested": nested(pooled(), L.Dense(7, "softmax")),
    "nested 1x1": nested(pooled(keepdims=True), L.Conv2D(30, 1), L.Conv2D(7, 1), L.Flatten(), L.Softmax()),
    "nested twice": lambda x: nested(nested_layer(pooled(), L.Dense(30)), L.Dense(7, "softmax"))(x),
}  # fmt: skip


def nested_layer(*layers: Any) -> keras.Sequential:
    return keras.Sequential([keras.Input((6, 6, 16)), *layers])


def features_found(model: keras.Model, path: Path) -> keras.Model:
    model.save(path)
    row = asked_backbone(str(path), None)
    return build(ready_backbone(row.name, row.own, str(path)), OWN, SHAPE)


def _whole(head: Callable[[Any], Any]) -> tuple[keras.Model, keras.Model]:
    image = keras.Input(SHAPE)
    features = body(image)
    return keras.Model(image, head(features)), keras.Model(image, features)


def _around(network: keras.Model, head: Callable[[Any], Any]) -> keras.Model:
    """As people write it: an own classifier around a network that is a layer of it."""
    image = keras.Input(SHAPE)
    return keras.Model(image, head(network(L.Rescaling(1 / 127.5, offset=-1.0)(image))))


def _same(found: keras.Model, expected: keras.Model) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype("float32")
    np.testing.assert_allclose(
        np.asarray(found(images, training=False)).mean((1, 2)),
        np.asarray(expected(images, training=False)).mean((1, 2)),
        atol=1e-6,
    )
    assert found.count_params() == expected.count_params()


@pytest.mark.parametrize("head", HEADS)
def test_a_head_of_any_form_is_left_out(head: str, tmp_path: Path) -> None:
    model, features = _whole(HEADS[head])
    _same(features_found(model, tmp_path / "net.keras"), features)


@pytest.mark.parametrize("head", ["dense", "MobileNetV3", "SqueezeNet", "nested 1x1"])
def test_a_head_around_or_inside_a_nested_network_is_left_out(head: str, tmp_path: Path) -> None:
    inside, features = _whole(HEADS[head])
    _same(features_found(_around(inside, lambda x: x), tmp_path / "inside.keras"), features)
    _, features = _whole(lambda x: x)
    _same(features_found(_around(features, HEADS[head]), tmp_path / "around.keras"), features)
    inside, features = _whole(HEADS[head])
    _same(features_found(_around(inside, L.Dense(500)), tmp_path / "both.keras"), features)


def test_convolutions_after_a_nested_network_stay(tmp_path: Path) -> None:
    _, nested_network = _whole(lambda x: x)
    image = keras.Input(SHAPE)
    features = L.Conv2D(9, 3, activation="relu")(nested_network(image))
    model = keras.Model(image, L.Dense(7)(pooled()(features)))
    _same(features_found(model, tmp_path / "net.keras"), keras.Model(image, features))


def test_a_layer_normalization_after_the_pooling_stays_as_in_convnext(tmp_path: Path) -> None:
    image = keras.Input(SHAPE)
    vector = L.LayerNormalization()(pooled()(body(image)))
    model = keras.Model(image, L.Dense(7)(vector))
    expected = keras.Model(image, L.Reshape((1, 1, 16))(vector))
    _same(features_found(model, tmp_path / "net.keras"), expected)


def tokens(image: Any) -> Any:
    return L.Reshape((36, 16))(L.Conv2D(16, 4, strides=4)(image))


def vit(image: Any) -> Any:
    x = tokens(image)
    first = L.Reshape((1, 16))(L.Dense(16)(L.GlobalAveragePooling1D()(x)))
    x = L.Concatenate(axis=1)([first, x])
    x = L.Add()([x, L.MultiHeadAttention(2, 8)(x, x)])
    return L.Dense(7)(x[:, 0])


def mixer(image: Any) -> Any:
    x = tokens(image)
    for _ in range(2):
        x = L.Dense(16, "relu")(L.Permute((2, 1))(L.Dense(36)(L.Permute((2, 1))(x))))
        x = L.Permute((2, 1))(L.Dense(36)(x)) if x.shape[1] == 16 else x
    return L.Dense(7)(L.GlobalAveragePooling1D()(x))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "class token": (vit, "before all attention layers .*make it return its features as a map"),
    "pooled attention": (
        lambda image: L.Dense(7)(L.GlobalAveragePooling1D()(nested(L.Dense(16))(L.Attention()([tokens(image)] * 2)))),
        "before all attention layers",
    ),
    "attention on top of convolutions": (
        lambda image: L.Dense(7)(L.Flatten()(L.MultiHeadAttention(2, 8)(*[L.Reshape((36, 16))(body(image))] * 2))),
        "before all attention layers",
    ),
    "recurrent": (lambda image: L.Dense(7)(L.LSTM(20)(tokens(image))), "leaves out .* weights that are no head"),
    "mixer": (mixer, "leaves out .* weights that are no head"),
    "two branches": (
        lambda image: L.Dense(7)(L.Concatenate()([pooled()(body(image)), pooled()(body(image))])),
        "leaves out .* weights that are no head",
    ),
    "nearly all dense": (
        lambda image: chain(L.Conv2D(4, 3), L.Flatten(), L.Dense(200), L.Dense(200), L.Dense(7))(image),
        "has only 112 weights before its head",
    ),
    "all dense": (lambda image: L.Dense(7)(L.Flatten()(image)), "must hold one network"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_cut_that_would_leave_out_the_network_is_refused(kind: str, tmp_path: Path) -> None:
    network, reason = REFUSED[kind]
    image = keras.Input(SHAPE)
    model = keras.Model(image, network(image))
    with pytest.raises(ModelError, match=reason) as caught:
        features_found(model, tmp_path / "net.keras")
    assert "\n" not in str(caught.value)


def test_attention_that_works_on_a_map_stays(tmp_path: Path) -> None:
    image = keras.Input(SHAPE)
    features = L.Conv2D(8, 1)(L.Reshape((6, 6, 16))(L.MultiHeadAttention(2, 8)(*[tokens(image)] * 2)))
    model = keras.Model(image, L.Dense(7)(pooled()(features)))
    _same(features_found(model, tmp_path / "net.keras"), keras.Model(image, features))


def test_a_function_that_returns_a_head_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import keras
def headed(weights=None, include_top=False, input_shape=None):
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Conv2D(16, 3, activation="relu")(image))
def with_maps(weights=None, include_top=False, input_shape=None):
    network = headed(weights, include_top, input_shape)
    return keras.Model(network.input, keras.layers.Conv2D(5, 1, activation="softmax")(network.output))
"""
    (tmp_path / "headed_networks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    build(asked_backbone("headed_networks:headed"), UNTRAINED, (32, 32, 3))
    with pytest.raises(ModelError, match=r"with_maps must return a network without a head, but the layers after"):
        build(asked_backbone("headed_networks:with_maps"), UNTRAINED, (32, 32, 3))


FAMILIES = {
    "VGG16": 32, "VGG19": 32, "ResNet50": 32, "ResNet50V2": 32, "DenseNet121": 32, "InceptionV3": 75, "Xception": 71,
    "InceptionResNetV2": 75, "NASNetMobile": 32, "MobileNet": 32, "MobileNetV2": 32, "MobileNetV3Small": 32,
    "MobileNetV3Large": 32, "EfficientNetB0": 32, "EfficientNetV2B0": 32, "ConvNeXtTiny": 32,
}  # fmt: skip
"""A network of each family of keras.applications, with a side in pixels that it takes."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_published_networks_with_their_top_give_what_those_without_it_give(name: str, tmp_path: Path) -> None:
    builder, shape = getattr(keras.applications, name), (FAMILIES[name], FAMILIES[name], 3)
    options = {"weights": None, "input_shape": shape}
    with_top = builder(include_top=True, classes=10, **options)
    without = builder(include_top=False, pooling="avg", **options)
    without.set_weights(with_top.get_weights()[: len(without.get_weights())])
    with_top.save(tmp_path / "net.keras")
    row = asked_backbone(str(tmp_path / "net.keras"), None)
    found = build(ready_backbone(row.name, row.own, str(tmp_path / "net.keras")), OWN, shape)
    images = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype("float32")
    pooled_features = np.asarray(found(images, training=False)).mean((1, 2))
    np.testing.assert_allclose(pooled_features, without(images, training=False), atol=1e-5)
    assert found.count_params() == without.count_params()
