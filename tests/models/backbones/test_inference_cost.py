"""What a network costs, against counts by hand and against TensorFlow's own graph of the same network."""

from __future__ import annotations

from math import prod

import keras
import pytest
import tensorflow as tf

from models.backbones.inference_cost import cost_of, multiply_adds
from models.backbones.registry import UNTRAINED, backbone_named
from models.networks.classifier import ClassifierSettings, make_classifier

L = keras.layers


def network(*layers: keras.layers.Layer) -> keras.Model:
    image = keras.Input((8, 6, 3))
    x = image
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([L.Conv2D(5, 3, padding="same")], 8 * 6 * 3 * 3 * 3 * 5),
        ([L.Conv2D(4, 3, strides=2)], 3 * 2 * 3 * 3 * 3 * 4),
        ([L.Conv2D(6, 1, groups=3)], 8 * 6 * 1 * 6),
        ([L.DepthwiseConv2D(3, padding="same", depth_multiplier=2)], 8 * 6 * 3 * 3 * 3 * 2),
        ([L.SeparableConv2D(7, 3, padding="same")], 8 * 6 * (3 * 3 * 3 + 3 * 7)),
        ([L.Dense(5)], 8 * 6 * 3 * 5),
        ([L.Flatten(), L.Dense(5)], 8 * 6 * 3 * 5),
        ([keras.Sequential([L.Conv2D(5, 1), L.BatchNormalization()]), L.ReLU()], 8 * 6 * 3 * 5),
        ([L.MaxPooling2D(2), L.GlobalAveragePooling2D()], 0),
        ([L.Conv2DTranspose(5, 3)], None),
    ],
)
def test_each_kind_of_layer(layers: list[keras.layers.Layer], expected: int | None) -> None:
    assert multiply_adds(network(*layers)) == expected


def test_a_layer_counts_as_often_as_it_is_applied() -> None:
    shared = L.Conv2D(3, 1)
    assert multiply_adds(network(shared, shared)) == 2 * 8 * 6 * 3 * 3


def test_the_small_network_by_hand() -> None:
    settings = ClassifierSettings(backbone_named("small_cnn"), UNTRAINED, (32, 32, 3), 8)
    joined = make_classifier(settings, 0.0).joined
    convolutions = 16 * 16 * 25 * 3 * 16 + 8 * 8 * 9 * 16 * 32 + 4 * 4 * 9 * 32 * 64 + 2 * 2 * 9 * 64 * 128
    cost = cost_of(joined)
    assert cost.flops_per_image == 2 * (convolutions + 128 * 8)
    assert cost.weights_mb == pytest.approx(4e-6 * (98_928 + 128 * 8 + 8))


def test_tensorflow_counts_the_same_in_its_graph() -> None:
    model = network(
        L.Conv2D(4, 3), L.DepthwiseConv2D(3), L.SeparableConv2D(6, 2), L.GlobalAveragePooling2D(), L.Dense(5)
    )
    traced = tf.function(lambda images: model(images, training=False))
    graph = traced.get_concrete_function(tf.TensorSpec((1, 8, 6, 3))).graph
    total = 0
    for op in graph.get_operations():
        if op.type in ("Conv2D", "DepthwiseConv2dNative"):
            total += prod(op.outputs[0].shape[1:3]) * prod(op.inputs[1].shape)
        elif op.type == "MatMul":
            total += prod(op.inputs[1].shape)
    assert cost_of(model).flops_per_image == 2 * total > 0
