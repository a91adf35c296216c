"""A submission for an image challenge: `Model().predict(X)` labels raw images.

Written by hpsearch. Needs Keras and NumPy; the weights are read from model.keras beside this file.
"""

from pathlib import Path

import keras
import numpy as np


class Model:
    """An image classifier: uint8 RGB images in, class numbers out; preprocessing is inside."""

    def __init__(self) -> None:
        self.network = keras.saving.load_model(Path(__file__).with_name("model.keras"), compile=False)
        self.image_shape = tuple(self.network.input_shape[1:])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class numbers int64 (n,) of images (n, h, w, 3), or (1,) of one image (h, w, 3): raw pixels, 0..255."""
        labels: np.ndarray = self.predict_proba(X).argmax(axis=1)
        return labels

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n, classes) of the same."""
        return np.asarray(self.network.predict(self._checked(X), batch_size=128, verbose=0))

    def _checked(self, X: np.ndarray) -> np.ndarray:
        images = np.asarray(X)
        images = images[np.newaxis] if images.ndim == 3 else images
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"X must be images of {self.image_shape}, but its shape is {np.shape(X)}")
        if images.dtype != np.uint8 and not ((images >= 0) & (images <= 255) & (images == np.floor(images))).all():
            raise ValueError("X must hold raw pixels, whole numbers 0..255: preprocessing is inside the model")
        return images.astype(np.uint8, copy=False)
