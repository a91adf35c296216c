"""What stands in front of a backbone: raw pixels to the range its weights expect, and random changes while training.

Stock Keras layers and operations only, so that an exported model opens anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

# ImageNet means per channel in BGR order, as keras.applications.imagenet_utils subtracts them in mode "caffe".
BGR_MEANS = (103.939, 116.779, 123.68)
# ImageNet means and standard deviations per channel in RGB order, of pixels as 0..1: its mode "torch".
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
    """Images (n, h, w, 3), uint8 or float, 0..255, as float32 of this height and width; untouched where that is theirs.

    Bilinear. Shrunk by 1.5 or more, each pixel is the mean of those that fall on it (a bilinear step to a multiple of
    the size, then average pooling), since a bilinear step alone would skip some. `antialias` does that too, by an
    operation that neither ONNX nor LiteRT has. An operation rather than the layer `Resizing`, which puts all that
    follows it into training mode where a model is called without `training`, as its export does.
    """
    have = tuple(x.shape[1:3])
    if have == tuple(size):
        return x
    times = max(1, round(min(have) / min(size)))
    x = keras.layers.Rescaling(1.0)(x)  # uint8 would be rounded again
    between = (size[0] * times, size[1] * times)
    if between != have:
        x = keras.ops.image.resize(x, between)
    return keras.layers.AveragePooling2D(times)(x) if times > 1 else x


# Each takes images (n, h, w, 3), uint8 or float, 0..255, and gives float32 in the range of its name.
PREPROCESSING: dict[str, Callable[[Any], Any]] = {
    "-1..1": _to_minus_one_one,
    "bgr-mean": _bgr_minus_mean,
    "rgb-mean-std": _rgb_standardized,
    "inside": _to_float,  # the network rescales by itself
}


# As a share of the full range. The published 0.05 moves MobileNetV2's mean features by 1.9 of their standard deviations
# over images: with batch norm in inference mode the network would never be trained on what clean images look like.
NOISE = 0.01


def in_model_augmentation() -> list[keras.layers.Layer]:
    """The published recipe's random layers: flip, rotation, zoom, contrast, and slighter noise than theirs.

    In order, for images of 0..255 and giving float32 of 0..255; inside they work on 0..1.
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
