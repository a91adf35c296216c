"""Answers of a network for many images, in batches of one size: one trace."""

from __future__ import annotations

import keras
import numpy as np

PREDICT_BATCH = 128


def predict(model: keras.Model, images: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
    """What a model gives for images, float32 (k, ...).

    Args:
        images: what the model takes, (n, ...).
        places: int (k,), which of them, in this order; all where it is not given.
    """
    count = len(images) if places is None else len(places)
    size = min(PREDICT_BATCH, len(images))
    parts = []
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        batch = np.asarray(images[part if places is None else places[part]])
        missing = size - len(batch)
        padded = np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)]) if missing else batch
        parts.append(keras.ops.convert_to_numpy(model.predict_on_batch(padded))[: len(batch)])
    return np.concatenate(parts)
