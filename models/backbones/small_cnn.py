"""The baseline: a small convolutional network, trained from scratch and fast enough for a demo on a laptop."""

from __future__ import annotations

import keras

WIDTHS = (16, 32, 64, 128)


def SmallCNN(
    weights: str | None = None, include_top: bool = False, input_shape: tuple[int, int, int] = (96, 96, 3)
) -> keras.Model:
    """Return a network of four blocks of convolution, batch norm and ReLU: (n, h, w, 3) -> (n, h/16, w/16, 128).

    Args:
        weights: A file of weights, or None for random ones.
        include_top: Must be False; the argument exists for compatibility with keras.applications.
        input_shape: (h, w, 3).
    """
    if include_top:
        raise ValueError("SmallCNN must be built with include_top=False")
    image = keras.Input(input_shape)
    x = image
    for block, width in enumerate(WIDTHS, 1):
        # Most of the cost lies in the first block: it sees the full image, and shrinks each side to a quarter.
        kernel, strides = (5, 2) if block == 1 else (3, 1)
        x = keras.layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=f"block{block}_conv")(x)
        # Keras's default of 0.99 lags for hundreds of steps: more than a short training on a small data set has.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{block}_norm")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        if block < len(WIDTHS):
            x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    network = keras.Model(image, x, name="small_cnn")
    if weights is not None:
        network.load_weights(weights)
    return network
