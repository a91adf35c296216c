"""The networks of a user's own backbones. Four rules say what is taken out of a `.keras` file:

1. The file opens with Keras alone, in its safe mode, and holds a functional model of one image input (n, h, w, 3).
2. Where a model inside it holds more than half of the weights, that is the network (in an export of ours, and in a
   model built on one of keras.applications); what stands in front of it must be a row of preprocessing.py. Otherwise
   the whole is the network, and does its own preprocessing.
3. The network's last output of four dimensions is the features; all behind it was a head and is left out.
4. It is rebuilt for the size of the images at hand.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import keras
import numpy as np

from models.backbones.cut_points import nodes_of
from models.backbones.preprocessing import PREPROCESSING
from models.backbones.registry import OWN, Backbone
from models.backbones.user_rows import FOUND_OUT, stored_backbone
from models.errors import ModelError

Shape = tuple[int, int, int]


def ready_backbone(name: str, own: Mapping[str, str], file: str) -> Backbone:
    """As `models.backbones.user_rows.stored_backbone`, with the preprocessing found out."""
    row = stored_backbone(name, own, file)
    return replace(row, preprocessing=preprocessing_in(file)) if row.preprocessing == FOUND_OUT else row


def network_from_file(weights: str | None, include_top: bool, input_shape: Shape, path: str) -> keras.Model:
    """The features of the network in a file: float32 (n, h, w, 3) -> (n, h', w', c). ModelError when it has none.

    Args:
        weights: `own`: those in the file; None: random ones; or a file of weights.
    """
    features = _features(_unwrapped(_loaded(path))[1], path)
    config = features.get_config()
    if features.inputs[0].shape[1:] != input_shape:
        _free_sizes(config)
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"] |= {"batch_shape": (None, *input_shape), "dtype": "float32"}
    network = keras.Model.from_config(config)
    if weights == OWN:
        network.set_weights(features.get_weights())
    elif weights is not None:
        network.load_weights(weights)
    _check_constraints(network, path)
    return network


def network_from_function(weights: str | None, include_top: bool, input_shape: Shape, function: str) -> keras.Model:
    """What `module:function` makes, the module looked for in the current folder after all that is installed.

    Raises ModelError when there is no such function, or what it makes is no network without a head.
    """
    module_name, _, name = function.partition(":")
    current_folder = os.getcwd()
    if current_folder not in sys.path:
        sys.path.append(current_folder)  # behind our own packages, which a file of that name must not replace
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(
            f"{module_name} cannot be imported ({error}): call hpsearch in the folder where {module_name}.py lies, or "
            f"install it"
        ) from error
    builder = getattr(module, name, None)
    if not callable(builder):
        where = getattr(module, "__file__", module_name)
        raise ModelError(f"{where} has no function {name!r} (installed modules and hpsearch's own come before yours)")
    network = builder(weights=weights, include_top=include_top, input_shape=input_shape)
    if not (_takes_images(network) and len(network.outputs) == 1 and len(network.outputs[0].shape) == 4):
        raise ModelError(
            f"{function} must return a functional keras.Model from images (n, h, w, 3) to features (n, h', w', c), "
            f"without pooling or a head, but returned {_shapes(network)}"
        )
    _check_constraints(network, function)
    return network


@lru_cache(4)
def preprocessing_in(path: str) -> str:
    """The row of models/backbones/preprocessing.py that stands in front of the network in a file.

    Found by its answers to images of one colour each, which resizing and turning leave alone. ModelError for any other.
    """
    model = _loaded(path)
    fronts, _ = _unwrapped(model)
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
        f"what stands in front of the network in {path} is none of {', '.join(PREPROCESSING)}: say by --preprocessing "
        f"which of them it was trained with"
    )


def _loaded(path: str) -> keras.Model:
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"{path} does not open with Keras alone ({' '.join(str(error).split())[:200]}): layers of your own need "
            f"--backbone module:function"
        ) from error
    if not _takes_images(model):
        raise ModelError(f"{path} is no functional model with one input of images (n, h, w, 3): it is {_shapes(model)}")
    return model


def _unwrapped(model: keras.Model) -> tuple[list[keras.Model], keras.Model]:
    """The network inside a model, and what stands in front of it."""
    fronts = []
    while inner := next((layer for layer in model.layers if _is_most_of(layer, model)), None):
        fronts.append(keras.Model(model.inputs[0], inner._inbound_nodes[-1].input_tensors[0]))
        model = inner
    return fronts, model


def _is_most_of(layer: Any, model: keras.Model) -> bool:
    return isinstance(layer, keras.Model) and _takes_images(layer) and 2 * layer.count_params() > model.count_params()


def _features(network: keras.Model, path: str) -> keras.Model:
    """The network up to its last output of four dimensions."""
    whole = keras.Model(network.inputs[0], network.outputs[0])
    for node in reversed(nodes_of(whole)):
        output = node.outputs[0]
        if len(output.shape) == 4:
            features = keras.Model(network.inputs[0], output)
            if features.count_params() > 0:
                return features
            break
    raise ModelError(f"{path} holds no single network with features (n, h, w, c): give a model of one network")


def _check_constraints(network: keras.Model, source: str) -> None:
    """ModelError where weights are constrained: training moves them all as one vector, and would not keep to it."""
    for weight in network.trainable_weights:
        if getattr(weight, "constraint", None) is not None:
            raise ModelError(f"{source} constrains {weight.path}, which training here does not keep to: leave that out")


def _takes_images(model: Any) -> bool:
    inputs = getattr(model, "inputs", None) or []
    return len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[-1] == 3


def _shapes(model: Any) -> str:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return f"a {type(model).__name__}"
    return f"{[tensor.shape for tensor in inputs]} -> {[tensor.shape for tensor in outputs]}"


def _free_sizes(config: Any) -> None:
    """Lets models inside a configuration take images of any size."""
    if isinstance(config, dict):
        for key in ("batch_shape", "build_input_shape"):
            shape = config.get(key)
            if isinstance(shape, list | tuple) and len(shape) == 4:
                config[key] = (shape[0], None, None, shape[3])
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ():
        _free_sizes(value)
