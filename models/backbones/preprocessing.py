"""Layers in front of a backbone: resizing, preprocessing to the range its weights expect, and random augmentation.

They are stock Keras layers and operations, so that an exported model opens anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

# ImageNet means per channel in BGR order, which keras.applications.imagenet_utils subtracts in mode "caffe".
BGR_MEANS = (103.939, 116.779, 123.68)
# ImageNet means and standard deviations per channel in RGB order, of pixels scaled to 0..1: mode "torch".
RGB_MEANS, RGB_DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _bgr_minus_mean(x: Any) -> Any:
    x = keras.layers.Rescaling(1.0)(x)
    x = keras.ops.flip(x, axis=-1)
    return keras.layers.Rescaling(1.0, offset=[-mean for mean in BGR_MEANS])(x)


def _rgb_standardized(x: Any) -> Any:
    scale = [1 / (255 * deviation) for deviation in RGB_DEVIATIONS]
    offset = [-mean / deviation for mean, deviation in zip(RGB_MEANS, RGB_DEVIATIONS, strict=True)]
    return keras.layers.Rescaling(scale, offset=offset)(x)


def _to_minus_one_one(x: Any) -> Any:
    return keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)


def _to_float(x: Any) -> Any:
    return keras.layers.Rescaling(1.0)(x)


def resized(x: Any, size: tuple[int, int]) -> Any:
    """Resize images to a height and width.

    Resizing is bilinear. Shrinking by a factor of 1.5 or more first resizes to a multiple of the size and then averages
    blocks of pixels, because a bilinear step alone would skip pixels. `antialias` would do the same, but uses an
    operation that ONNX and LiteRT lack. The layer `Resizing` is avoided: when a model is called without `training`, as
    its export does, that layer puts all layers after it into training mode.

    Args:
        x: Images (n, h, w, 3), uint8 or float, 0..255.
        size: Height and width in pixels.

    Returns:
        Images float32 (n, *size, 3), 0..255; `x` itself if it has this size.
    """
    have = tuple(x.shape[1:3])
    if have == tuple(size):
        return x
    times = max(1, round(min(have) / min(size)))
    x = keras.layers.Rescaling(1.0)(x)  # to float32: a uint8 result would be rounded
    between = (size[0] * times, size[1] * times)
    if between != have:
        x = keras.ops.image.resize(x, between)
    return keras.layers.AveragePooling2D(times)(x) if times > 1 else x


# Each function takes images (n, h, w, 3), uint8 or float, 0..255, and returns float32 in the range that its name says.
PREPROCESSING: dict[str, Callable[[Any], Any]] = {
    "-1..1": _to_minus_one_one,
    "bgr-mean": _bgr_minus_mean,
    "rgb-mean-std": _rgb_standardized,
    "inside": _to_float,  # the network rescales its input
}


# Standard deviation of the noise, as a share of the full range. The published recipe's 0.05 shifts MobileNetV2's mean
# features by 1.9 of their standard deviations over images. With batch norm in inference mode, the network would then
# never train on the features of clean images.
NOISE = 0.01


def in_model_augmentation() -> list[keras.layers.Layer]:
    """Return the random layers of the published recipe in order: flip, rotation, zoom, contrast, and weaker noise.

    They take images of 0..255 and return float32 of 0..255. In between, they work on 0..1.
    """
    return [
        keras.layers.Rescaling(1 / 255),
        keras.layers.RandomFlip("horizontal_and_vertical"),
        keras.layers.RandomRotation(0.1, fill_mode="reflect"),
        keras.layers.RandomZoom(0.1, fill_mode="reflect"),
        keras.layers.RandomContrast(0.1, value_range=(0, 1)),
        keras.layers.GaussianNoise(NOISE),
        keras.layers.Rescaling(255.0),
    ]
