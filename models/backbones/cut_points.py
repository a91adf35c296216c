"""Cut points of a backbone: places in its graph where one tensor alone connects the layers before and after.

The layers before a cut are frozen, and the layers after it are trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

WANTED_FRACTIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class CutPoint:
    """Place in a backbone's graph that separates the frozen layers from the trained layers."""

    fraction: float
    """Share of the backbone's layers before the cut, 0..1."""
    parameter_fraction: float
    """Share of the backbone's weights before the cut, 0..1."""
    layer: str
    """Name of the last layer before the cut; empty at fraction 0."""
    tensor: Any
    """KerasTensor at the cut: the backbone's input at fraction 0, its output at 1."""


def single_tensor_cuts(backbone: keras.Model) -> list[CutPoint]:
    """Return all cut points in order, from the input to the output.

    The search walks nodes instead of layers, because some graphs hold bare operations (MobileNetV3's `add`) and some
    call a layer more than once. A place with the same layer on both sides is no cut point: that layer would be frozen
    and trained at once, and Keras cannot build a model of the layers after it.
    """
    nodes = nodes_of(backbone)
    source = backbone.inputs[0]
    total_weights = max(1, backbone.count_params())
    last_use, last_call = {id(source): -1}, {}
    for position, node in enumerate(nodes):
        last_use |= {id(tensor): position for tensor in node.input_tensors}
        last_call[id(node.operation)] = position
    last_use[id(backbone.outputs[0])] = len(nodes)  # needed after the last node
    cuts = [CutPoint(0.0, 0.0, "", source)]
    alive, weights = {id(source)}, dict[int, int]()
    for position, node in enumerate(nodes, 1):
        alive |= {id(tensor) for tensor in node.outputs}
        alive = {key for key in alive if last_use.get(key, -1) >= position}
        weights[id(node.operation)] = weights_in(node.operation)
        shared = any(last_call[key] >= position for key in weights)
        if alive == {id(node.outputs[0])} and not shared:
            share = sum(weights.values()) / total_weights
            cuts.append(CutPoint(position / len(nodes), share, node.operation.name, node.outputs[0]))
    return cuts


def nodes_of(model: keras.Model) -> list[Any]:
    """Return the nodes (calls of operations) of a functional model in topological order, without its input layers.

    Use nodes to find the output of each call: an operation only knows the output of its first call.
    """
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in model._nodes_by_depth[depth]]
    return [node for node in nodes if not isinstance(node.operation, keras.layers.InputLayer)]


def weights_in(operation: Any) -> int:
    """Return the number of weights of a layer; 0 for a bare operation."""
    return operation.count_params() if isinstance(operation, keras.layers.Layer) else 0


def chosen_cuts(backbone: keras.Model) -> tuple[CutPoint, ...]:
    """Return the cut points nearest to WANTED_FRACTIONS, without duplicates. Trials choose among these."""
    cuts = single_tensor_cuts(backbone)
    nearest = [min(cuts, key=lambda cut: abs(cut.fraction - wanted)) for wanted in WANTED_FRACTIONS]
    return tuple(dict.fromkeys(nearest))


def nearest_cut(cuts: tuple[CutPoint, ...], fraction: float) -> CutPoint:
    """Return the cut point whose share of frozen layers is nearest to `fraction`."""
    return min(cuts, key=lambda cut: abs(cut.fraction - fraction))
