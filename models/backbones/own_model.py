"""Opens a user's `.keras` file as a model in float32, whatever arithmetic it was trained in."""

from __future__ import annotations

from typing import Any

import keras

from models.errors import ModelError
from models.keras_versions import keras_2, newer_keras

FLOAT32 = "float32"
AUGMENTATION = ("Random", "RandAugment", "AugMix", "CutMix", "MixUp")
"""How the names of Keras's random augmentation layers begin."""


def opened(path: str) -> keras.Model:
    """Return the model in a `.keras` file, with float32 layers; weights of another precision are converted.

    Raises:
        ModelError: The file does not open with Keras alone, holds a quantized model, or takes no images.
    """
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            newer_keras(path)
            or keras_2(path)
            or f"{path} does not open with Keras alone ({' '.join(str(error).split())[:200]}): for a network with "
            f"layers of your own, use --backbone module:function"
        ) from error
    if not takes_images(model):
        raise ModelError(
            f"{path} must be a functional model with one input of images (n, h, w, 3), but is {shapes(model)}"
        )
    return in_float32(model, path)


def in_float32(model: keras.Model, source: str) -> keras.Model:
    """Return the model itself if all its layers are float32, else one of the same weights whose layers are.

    Raises:
        ModelError: The model is quantized.
    """
    odd = other_policies(model)
    quantized = [policy for policy in odd if policy.quantization_mode is not None]
    if quantized:
        raise ModelError(
            f"{source} is quantized ({quantized[0].name}) and cannot be trained further: give the model from before "
            "quantizing"
        )
    if not odd:
        return model
    config = model.get_config()
    _set_float32(config)
    converted = type(model).from_config(config)
    set_weights(converted, model.get_weights())
    return converted


def set_weights(model: keras.Model, weights: list[Any]) -> None:
    """Set a model's weights. In Keras, `Normalization` layers would go on with the statistics from before."""
    model.set_weights(weights)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def without_augmentation(model: keras.Model) -> keras.Model:
    """Return a functional model without its random augmentation layers, which hpsearch has of its own.

    They would also be active in an exported model, whose formats call it without `training`.
    """
    if not any(_augments(layer) for layer in model.layers):
        return model

    def called(layer: Any, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if _augments(layer) else layer(*inputs, **options)

    return keras.models.clone_model(model, call_function=called, clone_function=lambda layer: layer)


def _augments(layer: Any) -> bool:
    """Return whether a layer augments images at random, or is a nested model of such layers alone."""
    if isinstance(layer, keras.Sequential):
        return bool(layer.layers) and all(_augments(one) for one in layer.layers)
    return type(layer).__name__.startswith(AUGMENTATION)


def other_policies(model: keras.Model) -> list[Any]:
    """Return the dtype policies of a model's layers that are not float32."""
    policies = [layer.dtype_policy for layer in model._flatten_layers()]
    return [one for one in policies if {one.compute_dtype, one.variable_dtype, one.name} != {FLOAT32}]


def _set_float32(config: Any) -> None:
    """Make each dtype of floating-point numbers in a model's configuration float32, nested models included."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key.endswith("dtype") and "float" in _policy_name(value):
                config[key] = FLOAT32
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ():
        _set_float32(value)


def _policy_name(dtype: Any) -> str:
    """Return the name of a dtype or of a serialized dtype policy; empty for anything else."""
    if isinstance(dtype, dict):
        dtype = (dtype.get("config") or {}).get("name")
    return dtype if isinstance(dtype, str) else ""


def takes_images(model: Any) -> bool:
    """Return whether a model has one input, of images with three channels."""
    inputs = getattr(model, "inputs", None) or []
    return len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[-1] == 3


def shapes(model: Any) -> str:
    """Return the shapes of a model's inputs and outputs for a message."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return f"a {type(model).__name__}"
    return f"{[tensor.shape for tensor in inputs]} -> {[tensor.shape for tensor in outputs]}"
