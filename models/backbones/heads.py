"""Where the features of a classifier end and its head begins.

The head is all that works on pooled or flattened features, or that only makes maps of classes. A head may be dense
layers, 1x1 convolutions before or after the pooling, nested models, and any layers without weights between them.
Nested models are looked into: the calls of their layers count as calls of the model around them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import keras

from models.backbones.cut_points import nodes_of, weights_in
from models.errors import ModelError

MOST_BODY_LOST = 0.1
"""Weights outside of the head that a cut may leave out, as a share of the weights that it keeps."""
LEAST_KEPT = 0.05
"""Share of a network's weights, without its last layer, that a cut must keep. VGG16 with its dense layers has 0.11."""
ATTENTION = ("MultiHeadAttention", "GroupedQueryAttention", "GroupQueryAttention", "Attention", "AdditiveAttention")
PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "log_softmax", "sparsemax")
OF_ALL_POSITIONS = ("Mean", "Max", "Sum", "Reshape")
"""Operations that merge all positions of a map if one position is left."""


@dataclass(frozen=True)
class Call:
    """A call of a layer or operation."""

    operation: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    @property
    def weights(self) -> int:
        """Number of weights of the layer."""
        return weights_in(self.operation)

    @property
    def kind(self) -> str:
        """Class name of the layer or operation."""
        return type(self.operation).__name__


def calls_of(model: keras.Model) -> list[Call]:
    """Return the calls of a functional model in topological order, with those inside nested models."""
    return list(_calls(model, {}))


def _calls(model: keras.Model, renamed: dict[int, Any]) -> Iterator[Call]:
    for node in nodes_of(_graph(model)):
        inputs = tuple(renamed.get(id(tensor), tensor) for tensor in node.input_tensors)
        inner = node.operation
        if isinstance(inner, keras.Model) and len(inner.inputs or ()) == len(inner.outputs or ()) == 1:
            renamed[id(inner.inputs[0])] = inputs[0]
            yield from _calls(inner, renamed)
            renamed[id(node.outputs[0])] = renamed.get(id(inner.outputs[0]), inner.outputs[0])
        else:
            yield Call(inner, inputs, tuple(node.outputs))


def _graph(model: keras.Model) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model


def innermost_output(node: Any) -> Any:
    """Return the output of a node; if the node calls a nested model, the tensor inside that model."""
    inner = node.operation
    if not isinstance(inner, keras.Model):
        return node.outputs[0]
    makers = (one for one in nodes_of(_graph(inner)) if any(tensor is inner.outputs[0] for tensor in one.outputs))
    return next((innermost_output(one) for one in makers), None)


def last_features(model: keras.Model, source: str) -> Any:
    """Return the tensor (n, h, w, c) before the head of a classifier. It may lie inside a nested model.

    Args:
        model: Functional model from images, with or without a head.
        source: What messages call the model.

    Raises:
        ModelError: The model has no such tensor, or a cut there leaves out most of its weights or all its attention.
    """
    calls = calls_of(model)
    pooled = _pooled(calls)
    maps = [tensor for call in calls for tensor in call.outputs if len(tensor.shape) == 4 and id(tensor) not in pooled]
    end = _before_class_maps(calls, maps[-1], model) if maps else None
    kept = _leading_to(calls, end) if maps else []
    if not _weights_of(kept):
        raise ModelError(
            f"{source} must hold one network with features (n, h, w, c), but no such network was found: give a model "
            "with one"
        )
    _check_loss(calls, kept, pooled, source)
    return end


def _pooled(calls: list[Call]) -> set[int]:
    """Return the ids of all tensors that come from pooled or flattened features alone."""
    found: set[int] = set()
    for call in calls:
        if _pools(call) or (call.inputs and all(id(tensor) in found for tensor in call.inputs)):
            found |= {id(tensor) for tensor in call.outputs}
    return found


def _pools(call: Call) -> bool:
    """Return whether a call merges all positions of a map or of a sequence into one."""
    if not call.inputs or len(call.inputs[0].shape) < 3:
        return False
    before, after = call.inputs[0].shape, call.outputs[0].shape
    if len(after) <= 2:
        return True
    if len(before) != 4 or tuple(after[1:3]) != (1, 1):
        return False
    if call.kind.startswith(("Global", "Adaptive")):
        return True
    if call.kind == "AveragePooling2D":  # of a whole map; those of 2x2 also stand between convolutions
        return min(side or 0 for side in before[1:3]) > 2
    return call.kind in OF_ALL_POSITIONS and tuple(before[1:3]) != (1, 1)


def _before_class_maps(calls: list[Call], end: Any, model: keras.Model) -> Any:
    """Return `end`, or the tensor before the layer that makes a map of each class.

    A layer makes such maps if it has as many channels as the model has answers, and these become probabilities. For
    logits, it must be a 1x1 convolution without normalization after it, and be linear or narrower than its input.
    """
    makers = {id(tensor): call for call in calls for tensor in call.outputs}
    inside = {id(call) for call in _leading_to(calls, end)}
    after = [call for call in calls if id(call) not in inside]
    passed: list[Call] = []
    call = makers.get(id(end))
    while call and len(call.inputs) == 1 and (not call.weights or _normalizes(call)):
        passed.append(call)
        call = makers.get(id(call.inputs[0]))
    if call is None or len(call.inputs) != 1:
        return end
    plain = list(takewhile(lambda other: not other.weights or _normalizes(other), after))
    answers = {tensor.shape[-1] for tensor in model.outputs}
    if len(plain) < len(after):  # another head may stand on the probabilities of this one, but not on its logits
        answers = {one.outputs[0].shape[-1] for one in (call, *passed, *plain) if _gives_probabilities(one)}
    if not _is_classifier(call, passed, plain, answers):
        return end
    tensor = call.inputs[0]
    while (before := makers.get(id(tensor))) and "Dropout" in before.kind:
        tensor = before.inputs[0]
    return tensor


def _is_classifier(call: Call, passed: list[Call], after: list[Call], answers: set[int]) -> bool:
    """Return whether a layer makes maps of classes; `passed` and `after` are the calls after it."""
    known = isinstance(call.operation, keras.layers.Conv2D | keras.layers.SeparableConv2D | keras.layers.Dense)
    channels = call.outputs[0].shape[-1]
    if not known or channels not in answers:
        return False
    if any(_gives_probabilities(one) for one in (call, *passed, *after)):
        return True
    one_by_one = getattr(call.operation, "kernel_size", (1, 1)) == (1, 1)
    plain = all("Dropout" in one.kind for one in passed) and _activation(call) == "linear"
    normalized = any(_normalizes(one) for one in passed)
    return bool(after) and one_by_one and not normalized and (plain or channels < call.inputs[0].shape[-1])


def _activation(call: Call) -> str:
    return getattr(getattr(call.operation, "activation", None), "__name__", "")


def _gives_probabilities(call: Call) -> bool:
    return _activation(call) in PROBABILITIES or call.kind in ("Softmax", "Sigmoid", "LogSoftmax", "HardSigmoid")


def _normalizes(call: Call) -> bool:
    return call.kind.endswith("Normalization")


def _leading_to(calls: list[Call], end: Any) -> list[Call]:
    """Return the calls that a tensor depends on."""
    wanted, found = {id(end)}, []
    for call in reversed(calls):
        if any(id(tensor) in wanted for tensor in call.outputs):
            wanted |= {id(tensor) for tensor in call.inputs}
            found.append(call)
    return found[::-1]


def weights_before(model: keras.Model, end: Any) -> int:
    """Return the number of weights in the layers that a tensor of a model depends on."""
    return _weights_of(_leading_to(calls_of(model), end))


def _weights_of(calls: list[Call]) -> int:
    """Return the number of weights of the layers called, each counted once."""
    return sum({id(call.operation): call.weights for call in calls}.values())


def _check_loss(calls: list[Call], kept: list[Call], pooled: set[int], source: str) -> None:
    """Raise ModelError if a cut after the calls `kept` leaves out what is no head, or nearly all weights."""
    layers = {id(call.operation) for call in kept}
    lost = [call for call in calls if call.weights and id(call.operation) not in layers]
    place = kept[-1].operation.name
    way_out = "make it return its features as a map (n, h, w, c), without pooling or a head, and save it again"
    attention = [call for call in calls if id(call.operation) not in layers and _attends(call)]
    if attention and not any(_attends(call) for call in kept):
        raise ModelError(
            f"the last map (n, h, w, c) in {source} is the output of {place}, before all attention layers "
            f"({attention[0].operation.name}, ...): {way_out}"
        )
    last = max((place for place, call in enumerate(lost) if not _normalizes(call)), default=0)
    answers = lost[last:]  # the last layer of a classifier is always replaced
    body = [call for call in lost[:last] if not all(id(tensor) in pooled for tensor in call.inputs)]
    if _weights_of(body) > MOST_BODY_LOST * _weights_of(kept):
        raise ModelError(
            f"the last map (n, h, w, c) in {source} is the output of {place}, which leaves out "
            f"{_weights_of(body):,} weights that are no head (those of {body[0].operation.name}, ...): {way_out}"
        )
    share = _weights_of(kept) / max(1, _weights_of(kept) + _weights_of(lost) - _weights_of(answers))
    if share < LEAST_KEPT:
        raise ModelError(
            f"{source} has only {_weights_of(kept):,} weights before its head, {100 * share:.2g} % without its last "
            "layer; the rest are dense layers, which are replaced: give a network with more of its weights in "
            "convolutions"
        )


def _attends(call: Call) -> bool:
    layer = call.operation
    inner = layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else ()
    return any(type(one).__name__ in ATTENTION for one in inner)
