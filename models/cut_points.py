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

    Must be called before any other model is made of the same layers: an operation that stands in two graphs has no
    single `output`. Walks operations, not layers, since some graphs hold bare operations (MobileNetV3's `add`).
    """
    operations = [op for op in backbone.operations if not isinstance(op, keras.layers.InputLayer)]
    source = backbone.inputs[0]
    total_weights = max(1, backbone.count_params())
    last_use = {id(source): -1}
    for position, op in enumerate(operations):
        for tensor in _as_list(op.input):
            last_use[id(tensor)] = position
    last_use[id(backbone.outputs[0])] = len(operations)  # needed after the last operation
    cuts = [CutPoint(0.0, 0.0, "", source)]
    alive, weights = {id(source)}, 0
    for position, op in enumerate(operations):
        alive |= {id(tensor) for tensor in _as_list(op.output)}
        alive = {key for key in alive if last_use.get(key, -1) > position}
        weights += op.count_params() if isinstance(op, keras.layers.Layer) else 0
        if len(alive) == 1 and alive == {id(_as_list(op.output)[0])}:
            cuts.append(CutPoint((position + 1) / len(operations), weights / total_weights, op.name, op.output))
    return cuts


def chosen_cuts(backbone: keras.Model) -> tuple[CutPoint, ...]:
    """The cut points nearest to WANTED_FRACTIONS: the few that trials choose among. See `single_tensor_cuts`."""
    cuts = single_tensor_cuts(backbone)
    nearest = [min(cuts, key=lambda cut: abs(cut.fraction - wanted)) for wanted in WANTED_FRACTIONS]
    return tuple(dict.fromkeys(nearest))


def nearest_cut(cuts: tuple[CutPoint, ...], fraction: float) -> CutPoint:
    """The cut point that freezes about this share of the layers."""
    return min(cuts, key=lambda cut: abs(cut.fraction - fraction))


def _as_list(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]
