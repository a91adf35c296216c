"""Builds the networks of users' own backbones. A `.keras` file is read by four rules:

1. The file must open with Keras's safe mode, without other code, and hold a functional model with one image input
   (n, h, w, 3).
2. If a nested model holds more than half of the weights, it is the network; exports of hpsearch and models built on
   keras.applications are of this form. The layers in front of it must match a row of preprocessing.py. Otherwise the
   whole model is the network and includes its preprocessing.
3. The network's last four-dimensional output is its features. The layers after it are a head and are left out.
4. The network is rebuilt for the size of the images that it will train on.
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

OWN_PACKAGES = ("data_prep", "models", "search", "studies")
"""hpsearch's packages, which are imported in place of a user's own of these names."""

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
    """Build a network by calling the user's `module:function`.

    The module is searched for among the installed modules first, and then in the current folder.

    Raises:
        ModelError: There is no such function, it does not return a network without a head, or the network constrains
            weights.
    """
    module_name, _, name = function.partition(":")
    current_folder = os.getcwd()
    if current_folder not in sys.path:
        sys.path.append(current_folder)  # at the end, so that no user's file replaces one of our packages
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if ours := {(error.name or "").partition(".")[0], module_name.partition(".")[0]} & set(OWN_PACKAGES):
            way_out = f"hpsearch has a package {ours.pop()!r} itself, so give yours another name"
        else:
            way_out = f"run hpsearch in the folder of {module_name}.py, or install the module"
        raise ModelError(f"{module_name} cannot be imported ({error}): {way_out}") from error
    builder = getattr(module, name, None)
    if not callable(builder):
        where = getattr(module, "__file__", module_name)
        raise ModelError(
            f"{where} has no function {name!r}: correct the name, or rename your module if this is another one "
            "(installed modules are found first)"
        )
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
    """Return the name of the row in preprocessing.py that matches the layers in front of the network in a file.

    The layers are compared with each row on eight images of one colour each, which resizing and rotation do not change.

    Raises:
        ModelError: No row matches.
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
        f"the layers in front of the network in {path} match none of {', '.join(PREPROCESSING)}: give the one that the "
        f"network was trained with as --preprocessing"
    )


def _loaded(path: str) -> keras.Model:
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"{path} does not open with Keras alone ({' '.join(str(error).split())[:200]}): for a network with "
            f"layers of your own, use --backbone module:function"
        ) from error
    if not _takes_images(model):
        raise ModelError(
            f"{path} must be a functional model with one input of images (n, h, w, 3), but is {_shapes(model)}"
        )
    return model


def _unwrapped(model: keras.Model) -> tuple[list[keras.Model], keras.Model]:
    """Return the models in front of the innermost network, and that network."""
    fronts = []
    while inner := next((layer for layer in model.layers if _is_most_of(layer, model)), None):
        fronts.append(keras.Model(model.inputs[0], inner._inbound_nodes[-1].input_tensors[0]))
        model = inner
    return fronts, model


def _is_most_of(layer: Any, model: keras.Model) -> bool:
    return isinstance(layer, keras.Model) and _takes_images(layer) and 2 * layer.count_params() > model.count_params()


def _features(network: keras.Model, path: str) -> keras.Model:
    """Return the network up to its last four-dimensional output."""
    whole = keras.Model(network.inputs[0], network.outputs[0])
    for node in reversed(nodes_of(whole)):
        output = node.outputs[0]
        if len(output.shape) == 4:
            features = keras.Model(network.inputs[0], output)
            if features.count_params() > 0:
                return features
            break
    raise ModelError(
        f"{path} must hold one network with features (n, h, w, c), but no such network was found: give a model with one"
    )


def _check_constraints(network: keras.Model, source: str) -> None:
    """Raise ModelError if weights have constraints: training updates all weights as one vector and ignores them."""
    for weight in network.trainable_weights:
        if getattr(weight, "constraint", None) is not None:
            raise ModelError(
                f"{source} has a constraint on {weight.path}, which training would ignore: remove the constraint"
            )


def _takes_images(model: Any) -> bool:
    inputs = getattr(model, "inputs", None) or []
    return len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[-1] == 3


def _shapes(model: Any) -> str:
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return f"a {type(model).__name__}"
    return f"{[tensor.shape for tensor in inputs]} -> {[tensor.shape for tensor in outputs]}"


def _free_sizes(config: Any) -> None:
    """Clear the image sizes in a configuration, so that nested models take images of any size."""
    if isinstance(config, dict):
        for key in ("batch_shape", "build_input_shape"):
            shape = config.get(key)
            if isinstance(shape, list | tuple) and len(shape) == 4:
                config[key] = (shape[0], None, None, shape[3])
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ():
        _free_sizes(value)
