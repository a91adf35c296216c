"""Prediction for many images in batches of one size, so that the network is traced once."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakKeyDictionary

import keras
import numpy as np

from models.networks.compiled_steps import full_float32
from models.out_of_memory import is_out_of_memory

PREDICT_BATCH = 128
_FITTING: WeakKeyDictionary[keras.Model, int] = WeakKeyDictionary()
"""Models for which larger batches ran out of memory -> images per batch that fitted."""


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
    size = min(size, _FITTING.get(model, size))
    parts, start = [], 0
    with full_float32():
        while start < len(images):
            try:
                parts.append(_answers(model, np.asarray(images[start : start + size]), size))
            except Exception as error:  # each backend has its own errors for a lack of memory
                if size == 1 or not is_out_of_memory(error):
                    raise
                _FITTING[model] = size = size // 2
                continue
            start += size
    return np.concatenate(parts)


def _answers(model: keras.Model, batch: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(batch)
    padded = np.pad(batch, [(0, missing), *[(0, 0)] * (batch.ndim - 1)]) if missing else batch
    answers: np.ndarray = keras.ops.convert_to_numpy(model.predict_on_batch(padded))
    return answers[: len(batch)]
