"""Builds the networks of users' own backbones. A `.keras` file is read by four rules:

1. The file must open with Keras's safe mode, without other code, and hold a functional model with one image input
   (n, h, w, 3). Its layers become float32 (own_model.py).
2. If a nested model holds more than half of the weights, it is the network; exports of hpsearch and models built on
   keras.applications are of this form. The layers in front of it must match a row of preprocessing.py. Otherwise the
   whole model is the network and includes its preprocessing.
3. The network ends before its head (heads.py). A layer normalization right after the pooling stays, as in ConvNeXt.
4. The network is rebuilt for the size of the images that it will train on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from models.backbones.cut_points import nodes_of
from models.backbones.heads import calls_of, innermost_output, last_features, weights_before
from models.backbones.own_code import imported
from models.backbones.own_model import opened, other_policies, set_weights, shapes, takes_images, without_augmentation
from models.backbones.preprocessing import PREPROCESSING
from models.backbones.registry import OWN, Backbone
from models.backbones.user_rows import FOUND_OUT, stored_backbone
from models.errors import ModelError

Shape = tuple[int, int, int]


def ready_backbone(name: str, own: Mapping[str, str], file: str) -> Backbone:
    """Return the row of `stored_backbone` (user_rows.py), and detect its preprocessing if that is FOUND_OUT."""
    row = stored_backbone(name, own, file)
    return replace(row, preprocessing=preprocessing_in(file)) if row.preprocessing == FOUND_OUT else row


def network_from_file(weights: str | None, include_top: bool, input_shape: Shape, path: str) -> keras.Model:
    """Build the network in a `.keras` file, without its head.

    Args:
        weights: `own` for the weights in the `.keras` file, None for random ones, or a file of weights.
        include_top: Ignored; the argument exists for compatibility with keras.applications.
        input_shape: (h, w, 3).
        path: The `.keras` file.

    Returns:
        A functional model: images float32 (n, h, w, 3) -> features (n, h', w', c).

    Raises:
        ModelError: The file holds no such network, or the network constrains weights.
    """
    _, inner, end = _unwrapped(opened(path), path)
    features = without_augmentation(_features(inner, end, path))
    config = features.get_config()
    if features.inputs[0].shape[1:] != input_shape:
        _free_sizes(config)
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"] |= {"batch_shape": (None, *input_shape), "dtype": "float32"}
    network = keras.Model.from_config(config)
    if weights == OWN:
        set_weights(network, features.get_weights())
    elif weights is not None:
        network.load_weights(weights)
    _check_constraints(network, path)
    return network


def network_from_function(weights: str | None, include_top: bool, input_shape: Shape, function: str) -> keras.Model:
    """Build a network by calling the user's `module:function`.

    The module is searched for among the installed modules first, and then in the current folder.

    Raises:
        ModelError: There is no such function, it does not return a network without a head, or the network constrains
            weights.
    """
    module_name, _, name = function.partition(":")
    module = imported(module_name)
    builder = getattr(module, name, None)
    if not callable(builder):
        where = getattr(module, "__file__", module_name)
        raise ModelError(
            f"{where} has no function {name!r}: correct the name, or rename your module if this is another one "
            "(installed modules are found first)"
        )
    network = builder(weights=weights, include_top=include_top, input_shape=input_shape)
    if not (takes_images(network) and len(network.outputs) == 1 and len(network.outputs[0].shape) == 4):
        raise ModelError(
            f"{function} must return a functional keras.Model from images (n, h, w, 3) to features (n, h', w', c), "
            f"without pooling or a head, but returned {shapes(network)}"
        )
    _check_function(network, function)
    return network


@lru_cache(4)
def preprocessing_in(path: str) -> str:
    """Return the name of the row in preprocessing.py that matches the layers in front of the network in a file.

    The layers are compared with each row on eight images of one colour each, which resizing and rotation do not change.

    Raises:
        ModelError: No row matches.
    """
    model = opened(path)
    fronts, _, _ = _unwrapped(model, path)
    if not fronts:
        return "inside"
    colours = np.random.default_rng(0).integers(0, 256, (8, 1, 1, 3)).astype("uint8")
    height, width = (side or 32 for side in model.inputs[0].shape[1:3])
    x: Any = np.broadcast_to(colours, (8, height, width, 3))
    for front in fronts:
        x = front(x, training=False)
    for name, preprocess in PREPROCESSING.items():
        if x.shape[-1] == 3 and np.abs(np.asarray(x) - np.asarray(preprocess(colours))).max() < 0.01:
            return name
    raise ModelError(
        f"the layers in front of the network in {path} match none of {', '.join(PREPROCESSING)}: give the one that the "
        f"network was trained with as --preprocessing"
    )


def _unwrapped(model: keras.Model, path: str) -> tuple[list[keras.Model], keras.Model, Any]:
    """Return the models in front of the innermost network, that network, and its features."""
    end = last_features(model, path)
    fronts: list[keras.Model] = []
    while inner := next((layer for layer in model.layers if _is_network_of(layer, model, end)), None):
        front = keras.Model(model.inputs[0], inner._inbound_nodes[-1].input_tensors[0])
        if front.trainable_weights:
            break
        fronts.append(front)
        model = inner
    return fronts, model, end


def _is_network_of(layer: Any, model: keras.Model, end: Any) -> bool:
    """Return whether a nested model holds the features `end`: as its output, if most weights are its own, or inside."""
    if not (isinstance(layer, keras.Model) and takes_images(layer)):
        return False
    if any(innermost_output(node) is end for node in layer._inbound_nodes[-1:]):
        return bool(2 * layer.count_params() > model.count_params())
    return any(output is end for call in calls_of(layer) for output in call.outputs)


def _features(network: keras.Model, end: Any, path: str) -> keras.Model:
    """Return the network up to the features `end`, which one of its layers or nested models makes."""
    nodes = nodes_of(keras.Model(network.inputs[0], network.outputs))
    makers = [node for node in nodes if end is innermost_output(node)]
    if not makers:
        raise ModelError(
            f"{path} has its features inside of a nested model that does not take the images: use --backbone "
            "module:function"
        )
    features = makers[-1].outputs[0]
    pooled = [node for node in nodes if any(tensor is features for tensor in node.input_tensors)]
    if len(pooled) == 1 and len(pooled[0].outputs[0].shape) == 2:
        norms = [node for node in nodes if pooled[0].outputs[0] is node.input_tensors[0]]
        if len(norms) == 1 and isinstance(norms[0].operation, keras.layers.LayerNormalization):
            vector = norms[0].outputs[0]
            features = keras.layers.Reshape((1, 1, vector.shape[-1]))(vector)
    return keras.Model(network.inputs[0], features)


def _check_function(network: keras.Model, function: str) -> None:
    """Raise ModelError if a function's network has a head, or layers or constraints that hpsearch cannot train."""
    end = last_features(network, function)
    if weights_before(network, end) < network.count_params():
        raise ModelError(
            f"{function} must return a network without a head, but the layers after {end._keras_history[0].name} are "
            f"one: return a model whose output is that of {end._keras_history[0].name}"
        )
    if odd := [*other_policies(network), *other_policies(keras.Sequential())]:
        raise ModelError(
            f"{function} makes layers of {odd[0].name}, but hpsearch needs float32 layers: make them so (faster "
            "arithmetic in training is --precision)"
        )
    _check_constraints(network, function)


def _check_constraints(network: keras.Model, source: str) -> None:
    """Raise ModelError if weights have constraints: training updates all weights as one vector and ignores them."""
    for weight in network.trainable_weights:
        if getattr(weight, "constraint", None) is not None:
            raise ModelError(
                f"{source} has a constraint on {weight.path}, which training would ignore: remove the constraint"
            )


def _free_sizes(config: Any) -> None:
    """Clear the image sizes in a configuration, so that nested models take images of any size."""
    if isinstance(config, dict):
        for key in ("batch_shape", "build_input_shape"):
            shape = config.get(key)
            if isinstance(shape, list | tuple) and len(shape) == 4:
                config[key] = (shape[0], None, None, shape[3])
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ():
        _free_sizes(value)
