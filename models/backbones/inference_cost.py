"""Inference cost of a network: floating-point operations per image and megabytes of weights.

Operations are counted from the layers, which needs no trace and is the same on every backend. Each kernel weight of a
convolution or dense layer costs one multiply-add at every position of the layer's output. Normalization, activations,
pooling and preprocessing are left out, as in the figures published in papers.
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
"""Layer types that are counted. Add another only if it costs one multiply-add per kernel weight and output position."""


@dataclass(frozen=True)
class Cost:
    """Inference cost of a network at one image size."""

    flops_per_image: int | None
    """Twice the number of multiply-adds; None if a layer with a kernel is not of a type in COUNTED."""
    weights_mb: float
    """Megabytes (10^6 bytes) of the weights in float32, as in the exported file. The file adds some kilobytes for each
    layer: up to a fifth more if the layers are small."""


def cost_of(model: keras.Model) -> Cost:
    """Return the inference cost of a functional model with a fixed image size."""
    adds = multiply_adds(model)
    return Cost(None if adds is None else 2 * adds, FLOAT32_BYTES * model.count_params() / 1e6)


def multiply_adds(model: keras.Model) -> int | None:
    """Return the multiply-adds for one image, or None if a layer with a kernel is not of a type in COUNTED."""
    counts = [_layer_multiply_adds(layer, places) for layer, places in _applied(model)]
    return None if None in counts else sum(counts)  # type: ignore[arg-type]


def _applied(model: keras.Model) -> Iterator[tuple[Any, int]]:
    """Yield each call of a layer, nested models included, with the number of positions of its output.

    The positions are pixels, or 1 for a vector. The graph's nodes are walked, because a layer only knows one output,
    and none if it is part of several graphs.
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
