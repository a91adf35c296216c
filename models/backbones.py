"""The backbones. To add one: a row in BACKBONES; tests/test_models_backbones.py runs over all rows.

Importing this module does not import Keras: the command line lists the rows without it.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import ModelError

IMAGENET, UNTRAINED = "imagenet", "none"


@dataclass(frozen=True)
class Backbone:
    """A network without its head, and what is to be known about its weights."""

    name: str
    builder: str
    """`module:function`, called as keras.applications functions are: (weights=, include_top=False, input_shape=)."""
    preprocessing: str
    """A row of models/preprocessing.py: the input range that the pretrained weights expect."""
    native_size: int
    """Side of the square images it was pretrained on, in pixels."""
    parameters: int
    """Number of weights without the head."""
    weights_file: str | None = None
    """The file that keras.applications keeps its ImageNet weights in; `{size}` stands for the size they are for."""
    min_size: int = 32
    """Side of the smallest images it takes, in pixels."""
    resolution: int | None = None
    """Side that images smaller than `min_size` are enlarged to where the user says nothing; None: they are refused."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More keyword arguments of the builder."""

    @property
    def has_imagenet(self) -> bool:
        return self.weights_file is not None


BACKBONES = (
    Backbone(
        "vgg19", "keras.applications:VGG19", "bgr-mean", 224, 20_024_384,
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        "resnet101v2", "keras.applications:ResNet101V2", "-1..1", 224, 42_626_560,
        "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        "efficientnetv2s", "keras.applications:EfficientNetV2S", "inside", 384, 20_331_360,
        "efficientnetv2-s_notop.h5",
    ),
    Backbone(
        "mobilenetv2_035", "keras.applications:MobileNetV2", "-1..1", 224, 410_208,
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_{size}_no_top.h5", options={"alpha": 0.35},
    ),
    Backbone("small_cnn", "models.small_cnn:SmallCNN", "-1..1", 96, 98_928, min_size=8),
)  # fmt: skip

MOBILENET_SIZES = (96, 128, 160, 192, 224)  # keras.applications takes the 224 px weights for any other size


def backbone_named(name: str) -> Backbone:
    """The row of this name; ModelError with the nearest name otherwise."""
    for row in BACKBONES:
        if row.name == name:
            return row
    known = [row.name for row in BACKBONES]
    near = difflib.get_close_matches(name.lower(), known, 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    raise ModelError(f"unknown backbone {name!r}: {hint}")


def default_weights(backbone: Backbone) -> str:
    return IMAGENET if backbone.has_imagenet else UNTRAINED


def weights_path(backbone: Backbone, image_shape: tuple[int, int, int]) -> Path:
    """Where Keras keeps (or would keep) the ImageNet weights for images of this shape."""
    size = image_shape[0] if image_shape[0] == image_shape[1] and image_shape[0] in MOBILENET_SIZES else 224
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return home / "models" / (backbone.weights_file or "").format(size=size)


def check_weights(backbone: Backbone, weights: str) -> None:
    """ModelError when `weights` (`imagenet`, `none` or a file) cannot be meant for this backbone. Reads no file."""
    if weights == IMAGENET and not backbone.has_imagenet:
        raise ModelError(f"{backbone.name} has no ImageNet weights; use --weights none or a file of your own")
    if weights not in (IMAGENET, UNTRAINED) and not Path(weights).is_file():
        raise ModelError(f"--weights takes imagenet, none or a file, and {weights!r} is no file")


def default_resolution(backbone: Backbone, image_shape: tuple[int, int, int]) -> int:
    """What `Hyperparameters.resolution` is where nobody says anything: 0, the images' own size, where that will do."""
    return 0 if min(image_shape[:2]) >= backbone.min_size else backbone.resolution or 0


def resized_shape(image_shape: tuple[int, int, int], resolution: int) -> tuple[int, int, int]:
    """(h, w, 3) of images whose shorter side is `resolution` pixels, in the same proportions; 0 leaves them."""
    height, width, channels = image_shape
    scale = resolution / min(height, width) if resolution else 1
    return round(height * scale), round(width * scale), channels


def check_size(backbone: Backbone, image_shape: tuple[int, int, int], resolution: int = 0) -> None:
    """ModelError when the images are too small for the network, resized to `resolution` where that is not 0."""
    height, width, _ = image_shape
    if (resolution or min(height, width)) >= backbone.min_size:
        return
    takes = f"{backbone.name} takes images of {backbone.min_size}x{backbone.min_size} or larger"
    if resolution:
        raise ModelError(f"{takes}, and the resolution is {resolution}: give a larger one, or use small_cnn")
    raise ModelError(
        f"{takes}, and the prepared ones are {height}x{width}: resize them in the network with --resolution "
        f"{backbone.min_size} or more, prepare larger ones (--image-size for folders), or use small_cnn"
    )


def build(backbone: Backbone, weights: str, image_shape: tuple[int, int, int]) -> Any:
    """The network as a functional `keras.Model`, (n, h, w, 3) in the row's input range -> (n, h', w', c).

    Downloads ImageNet weights that are not there yet. Raises ModelError when weights or image size do not fit.
    """
    check_weights(backbone, weights)
    module, function = backbone.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    wanted = None if weights == UNTRAINED else weights
    try:
        return builder(weights=wanted, include_top=False, input_shape=image_shape, **backbone.options)
    except Exception as error:
        raise ModelError(_why_not_built(backbone, weights, image_shape, error)) from error


def _why_not_built(backbone: Backbone, weights: str, image_shape: tuple[int, int, int], error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    if weights == IMAGENET:
        path = weights_path(backbone, image_shape)
        if path.is_file():
            return f"the ImageNet weights of {backbone.name} in {path} do not load ({reason}); delete the file"
        return (
            f"the ImageNet weights of {backbone.name} are not on this machine and cannot be downloaded: "
            f"put {path.name} into {path.parent}, or use --weights none ({reason})"
        )
    what = f"with the weights {weights}" if weights != UNTRAINED else "untrained"
    return f"{backbone.name} cannot be built {what} for images of {image_shape[0]}x{image_shape[1]}: {reason}"
