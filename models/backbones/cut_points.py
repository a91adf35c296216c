"""Where a backbone can be cut in two: places in its graph where a single tensor carries everything on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

WANTED_FRACTIONS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True)
class CutPoint:
    """A place to cut: what lies before it is frozen, what lies behind is trained."""

    fraction: float
    """Share of the backbone's layers before the cut, 0..1."""
    parameter_fraction: float
    """Share of the backbone's weights before the cut, 0..1."""
    layer: str
    """The last layer before the cut; empty at 0."""
    tensor: Any
    """The KerasTensor that carries everything on; the input at 0, the output at 1."""


def single_tensor_cuts(backbone: keras.Model) -> list[CutPoint]:
    """All cut points in order, the input and the output included.

    Walks nodes, not layers: some graphs hold bare operations (MobileNetV3's `add`), some call a layer more than once.
    Where one is called on both sides there is no cut: its weights would be frozen and trained at once, and Keras makes
    no model of what lies behind.
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
        weights[id(node.operation)] = _weights(node.operation)
        shared = any(last_call[key] >= position for key in weights)
        if alive == {id(node.outputs[0])} and not shared:
            share = sum(weights.values()) / total_weights
            cuts.append(CutPoint(position / len(nodes), share, node.operation.name, node.outputs[0]))
    return cuts


def nodes_of(model: keras.Model) -> list[Any]:
    """The calls of operations in a functional model but for its inputs, each after those whose outputs it takes. An
    operation itself knows the output of its first call alone."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [node for depth in depths for node in model._nodes_by_depth[depth]]
    return [node for node in nodes if not isinstance(node.operation, keras.layers.InputLayer)]


def _weights(operation: Any) -> int:
    return operation.count_params() if isinstance(operation, keras.layers.Layer) else 0


def chosen_cuts(backbone: keras.Model) -> tuple[CutPoint, ...]:
    """The cut points nearest to WANTED_FRACTIONS: the few that trials choose among. See `single_tensor_cuts`."""
    cuts = single_tensor_cuts(backbone)
    nearest = [min(cuts, key=lambda cut: abs(cut.fraction - wanted)) for wanted in WANTED_FRACTIONS]
    return tuple(dict.fromkeys(nearest))


def nearest_cut(cuts: tuple[CutPoint, ...], fraction: float) -> CutPoint:
    """The cut point that freezes about this share of the layers."""
    return min(cuts, key=lambda cut: abs(cut.fraction - fraction))
