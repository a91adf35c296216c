"""Builds one `.keras` file from the weights of trials. It has stock layers only: raw uint8 images -> probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.backbones.registry import UNTRAINED
from models.errors import ModelError
from models.formats.portable import make_portable
from models.keras_versions import newer_keras
from models.networks.classifier import ClassifierSettings, make_classifier


@dataclass(frozen=True)
class Member:
    """One trained network of an exported model. Most models have a single member."""

    settings: ClassifierSettings
    dropout: float
    weights: Path
    """File of weights that the trial saved."""


def save_model(members: Sequence[Member], target: Path, orientations: bool = False) -> None:
    """Write a `.keras` file that returns the mean of the members' probabilities.

    Args:
        members: Networks with the weights of their trials.
        target: File to write.
        orientations: Whether to also average over mirrored and, if the images are square, rotated copies of each image.

    Raises:
        ModelError: Weights do not load into their network.
    """
    networks = [_loaded(member) for member in members]
    if len(networks) == 1 and not orientations:
        _save(networks[0], target)
        return
    image = keras.Input(networks[0].input_shape[1:], dtype="uint8", name="image")
    views = _orientations(image) if orientations else [image]
    answers = []
    for number, network in enumerate(networks):
        # Members of the same backbone share a name, which must be unique here.
        named = keras.Model(network.inputs[0], network.outputs[0], name=f"member_{number}")
        answers += [named(view) for view in views]
    mean = keras.layers.Average(name="probabilities")(answers)
    _save(keras.Model(image, mean, name="hpsearch_average"), target)


def _save(model: keras.Model, target: Path) -> None:
    model.save(target)
    make_portable(target)


def _loaded(member: Member) -> keras.Model:
    # All weights come from the trial, so the pretrained weights need not be on this machine.
    joined = make_classifier(replace(member.settings, weights=UNTRAINED), member.dropout).joined
    try:
        joined.load_weights(member.weights)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the trial's weights in {member.weights} do not load: {' '.join(str(error).split())[:200]}"
        ) from error
    return joined


def _orientations(images: Any) -> list[Any]:
    """Return the images as they are and mirrored along each axis and both; square ones also transposed (8 views)."""
    turned = [images, keras.ops.transpose(images, (0, 2, 1, 3))] if images.shape[1] == images.shape[2] else [images]
    # Older versions of Keras cannot run a flip of two axes at once with TensorFlow.
    both = [(one, keras.ops.flip(one, 1)) for one in turned]
    return [view for pair in both for view in (*pair, *(keras.ops.flip(one, 2) for one in pair))]


def load_model(path: Path) -> tuple[object, tuple[int, int, int]]:
    """Return an exported model and its image shape (h, w, 3).

    Raises:
        ModelError: The file does not open with Keras, or is no image classifier.
    """
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        if newer_keras(path):  # an older Keras may open a file and fail at the first image
            model.predict_on_batch(np.zeros((1, *model.input_shape[1:]), np.uint8))
    except Exception as error:
        reason = newer_keras(path) or f"{path} does not open as a Keras model: {' '.join(str(error).split())[:200]}"
        raise ModelError(reason) from error
    shape = getattr(model, "input_shape", None)
    if not (isinstance(shape, tuple) and len(shape) == 4 and shape[3] == 3 and all(shape[1:])):
        raise ModelError(f"{path} must take images of shape (images, height, width, 3), but its input is {shape}")
    return model, shape[1:]
