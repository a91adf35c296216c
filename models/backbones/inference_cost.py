"""What a network costs whoever runs it: floating-point operations for an image, megabytes of weights.

Counted from the layers, since that takes no trace and is the same on every backend: each weight of a convolution's or a
dense layer's kernel is multiplied and added once at each place of the layer's output. What normalization, activations,
pooling and preprocessing take is left out, as in the figures that papers give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import keras

FLOAT32_BYTES = 4
COUNTED = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Dense,
)
"""To count another kind of layer: a row here, if the rule above holds for it."""


@dataclass(frozen=True)
class Cost:
    """Of one network at one size of images."""

    flops_per_image: int | None
    """Twice the multiply-adds; None where a layer multiplies in a way that is not in COUNTED."""
    weights_mb: float
    """Megabytes (10^6 bytes) of the weights in float32, as the exported file holds them. The file itself has some
    kilobytes more for each layer: a fifth more where the layers are small."""


def cost_of(model: keras.Model) -> Cost:
    """Of a functional model whose images have a fixed size."""
    adds = multiply_adds(model)
    return Cost(None if adds is None else 2 * adds, FLOAT32_BYTES * model.count_params() / 1e6)


def multiply_adds(model: keras.Model) -> int | None:
    """For one image; None where a layer multiplies in a way that is not in COUNTED."""
    counts = [_layer_multiply_adds(layer, places) for layer, places in _applied(model)]
    return None if None in counts else sum(counts)  # type: ignore[arg-type]


def _applied(model: keras.Model) -> Iterator[tuple[Any, int]]:
    """Each layer as often as the graph applies it, also in models inside the model, with the places of its output:
    pixels, or 1 of a vector.

    Walks the graph's nodes: a layer itself knows one output only, and none when it stands in several graphs.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    for node in chain.from_iterable(graph._nodes_by_depth.values()):
        if isinstance(node.operation, keras.Model):
            yield from _applied(node.operation)
        else:
            yield node.operation, math.prod(node.output_tensors[0].shape[1:-1])


def _layer_multiply_adds(layer: Any, places: int) -> int | None:
    kernels = [math.prod(weight.shape) for weight in getattr(layer, "weights", ()) if len(weight.shape) > 1]
    if kernels and not isinstance(layer, COUNTED):
        return None
    return int(places * sum(kernels))
