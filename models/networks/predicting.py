"""Prediction for many images in batches of one size, so that the network is traced once."""

from __future__ import annotations

from typing import Protocol

import keras
import numpy as np

PREDICT_BATCH = 128


class Rows(Protocol):
    """An array, or a sequence that computes its slices on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice) -> np.ndarray: ...


def predict(model: keras.Model, images: Rows, batch_size: int | None = None) -> np.ndarray:
    """Return the output of a model for all images, float32 (n, ...).

    Args:
        model: The model to run.
        images: Inputs of the model, (n, ...).
        batch_size: Images per batch; by default PREDICT_BATCH, or all images if there are fewer.
    """
    size = batch_size or min(PREDICT_BATCH, len(images))
    parts = []
    for start in range(0, len(images), size):
        batch = np.asarray(images[start : start + size])
        missing = size - len(batch)
        padded = np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)]) if missing else batch
        parts.append(keras.ops.convert_to_numpy(model.predict_on_batch(padded))[: len(batch)])
    return np.concatenate(parts)
