"""Submission to an image challenge: `Model().predict(X)` labels raw images.

Written by hpsearch. It needs Keras and NumPy, and reads the network from model.keras in the same folder.
"""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np


class Model:
    """Image classifier: takes raw RGB images and returns class numbers. Preprocessing is part of the model."""

    def __init__(self) -> None:
        file = Path(__file__).with_name("model.keras")
        try:
            self.network = keras.saving.load_model(file, compile=False)
        except Exception as error:
            # One line instead of a traceback, in which a challenge's log would hide the cause.
            raise SystemExit(_why_not_opened(file, error)) from None
        self.image_shape = tuple(self.network.input_shape[1:])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class number of each image.

        Args:
            X: Images (n, h, w, 3), or one image (h, w, 3), of raw pixels 0..255.

        Returns:
            Class numbers int64 (n,), or (1,) for one image.

        Raises:
            ValueError: The shape does not fit the model, or the values are no raw pixels.
        """
        labels: np.ndarray = self.predict_proba(X).argmax(axis=1)
        return labels

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the class probabilities, float32 (n, classes). Arguments and errors are those of `predict`."""
        return np.asarray(self.network.predict(self._checked(X), batch_size=128, verbose=0))

    def _checked(self, X: np.ndarray) -> np.ndarray:
        images = np.asarray(X)
        images = images[np.newaxis] if images.ndim == 3 else images
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"X must hold images of shape {self.image_shape}, but has the shape {np.shape(X)}")
        if images.dtype != np.uint8 and not ((images >= 0) & (images <= 255) & (images == np.floor(images))).all():
            raise ValueError("X must hold raw pixels, whole numbers 0..255, because preprocessing is part of the model")
        return images.astype(np.uint8, copy=False)


def _why_not_opened(file: Path, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    try:
        with zipfile.ZipFile(file) as archive:
            written = json.loads(archive.read("metadata.json"))["keras_version"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return f"{file.name} is no Keras model: {reason}"
    return f"{file.name} was written by Keras {written} and does not work with Keras {keras.__version__}: {reason}"
