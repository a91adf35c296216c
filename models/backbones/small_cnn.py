"""The baseline: a small convolutional network trained from scratch, quick enough for a laptop's demo."""

from __future__ import annotations

import keras

WIDTHS = (16, 32, 64, 128)


def SmallCNN(
    weights: str | None = None, include_top: bool = False, input_shape: tuple[int, int, int] = (96, 96, 3)
) -> keras.Model:
    """Four blocks of convolution, batch norm and ReLU, shrinking the image: (n, h, w, 3) -> (n, h/16, w/16, 128)."""
    if include_top:
        raise ValueError("SmallCNN has no top of its own")
    image = keras.Input(input_shape)
    x = image
    for block, width in enumerate(WIDTHS, 1):
        # The first block sees details of the full image, and leaves a quarter of its side: most of the cost lies there.
        kernel, strides = (5, 2) if block == 1 else (3, 1)
        x = keras.layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=f"block{block}_conv")(x)
        # Keras's 0.99 lags for hundreds of steps, longer than a short training of a small set has.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"block{block}_norm")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        if block < len(WIDTHS):
            x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    network = keras.Model(image, x, name="small_cnn")
    if weights is not None:
        network.load_weights(weights)
    return network
