"""From trials' weights to one `.keras` file of stock layers: raw uint8 images in, probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from models.backbones.registry import UNTRAINED
from models.errors import ModelError
from models.networks.classifier import ClassifierSettings, make_classifier


@dataclass(frozen=True)
class Member:
    """A trained network of a model: most models have one."""

    settings: ClassifierSettings
    dropout: float
    weights: Path
    """As a trial left them."""


def save_model(members: Sequence[Member], target: Path, orientations: bool = False) -> None:
    """Joins the networks, loads the trials' weights into them and writes `target`: the mean of their probabilities.

    Args:
        orientations: True: the mean over each image mirrored and, where it is square, turned as well.

    Raises ModelError when the weights do not fit.
    """
    networks = [_loaded(member) for member in members]
    if len(networks) == 1 and not orientations:
        networks[0].save(target)
        return
    image = keras.Input(networks[0].input_shape[1:], dtype="uint8", name="image")
    views = _orientations(image) if orientations else [image]
    answers = []
    for number, network in enumerate(networks):
        # Named anew: two may be of one backbone.
        named = keras.Model(network.inputs[0], network.outputs[0], name=f"member_{number}")
        answers += [named(view) for view in views]
    mean = keras.layers.Average(name="probabilities")(answers)
    keras.Model(image, mean, name="hpsearch_average").save(target)


def _loaded(member: Member) -> keras.Model:
    # All weights come from the trial: the pretrained ones need not be on this machine.
    joined = make_classifier(replace(member.settings, weights=UNTRAINED), member.dropout).joined
    try:
        joined.load_weights(member.weights)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the trial's weights in {member.weights} do not load: {' '.join(str(error).split())[:200]}"
        ) from error
    return joined


def _orientations(images: Any) -> list[Any]:
    """The images themselves, mirrored in each direction and in both; square ones also with their axes swapped."""
    turned = [images, keras.ops.transpose(images, (0, 2, 1, 3))] if images.shape[1] == images.shape[2] else [images]
    return [view for one in turned for view in (one, *(keras.ops.flip(one, axis) for axis in (1, 2, (1, 2))))]


def load_model(path: Path) -> tuple[object, tuple[int, int, int]]:
    """An exported model and its image shape (h, w, 3). ModelError when it is not one."""
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(f"{path} does not open as a Keras model: {' '.join(str(error).split())[:200]}") from error
    shape = getattr(model, "input_shape", None)
    if not (isinstance(shape, tuple) and len(shape) == 4 and shape[3] == 3 and all(shape[1:])):
        raise ModelError(f"{path} is no image classifier: its input is {shape}, not (images, height, width, 3)")
    return model, shape[1:]
