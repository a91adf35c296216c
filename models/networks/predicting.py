"""Prediction for many images in batches of one size, so that the network is traced once."""

from __future__ import annotations

from typing import Protocol

import keras
import numpy as np

from models.networks.compiled_steps import full_float32
from models.out_of_memory import is_out_of_memory

PREDICT_BATCH = 128


class Rows(Protocol):
    """An array, or a sequence that computes its slices on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> np.ndarray: ...


def predict(model: keras.Model, images: Rows, batch_size: int | None = None) -> np.ndarray:
    """Return the output of a model for all images, float32 (n, ...), computed in full float32.

    A batch that does not fit in the device's memory is halved, down to one image.

    Args:
        model: The model to run.
        images: Inputs of the model, (n, ...).
        batch_size: Images per batch; by default PREDICT_BATCH, or all images if there are fewer.
    """
    size = batch_size or min(PREDICT_BATCH, len(images))
    with full_float32():
        while True:
            try:
                return _predicted(model, images, size)
            except Exception as error:
                if size <= 1 or not is_out_of_memory(error):
                    raise
                size //= 2


def _predicted(model: keras.Model, images: Rows, size: int) -> np.ndarray:
    parts = []
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        missing = size - len(batch)
        padded = np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)]) if missing else batch
        parts.append(keras.ops.convert_to_numpy(model.predict_on_batch(padded))[: len(batch)])
    return np.concatenate(parts)
