"""Prediction in batches, which become smaller where memory runs out. No GPU is used."""

from __future__ import annotations

import numpy as np
import pytest

from models.networks.predicting import predict


class Crowded:
    """Stands for a network on a device that holds `room` images; it notes the sizes of its batches."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, list[int]()

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory")
        return images[:, 0, 0, :1].astype("float32")


def test_batches_are_halved_until_they_fit() -> None:
    images = np.arange(20, dtype="float32").reshape(20, 1, 1, 1)
    crowded = Crowded(room=5)
    np.testing.assert_array_equal(predict(crowded, images)[:, 0], np.arange(20))  # type: ignore[arg-type]
    assert crowded.sizes == [20, 10, 5, 5, 5, 5]
    crowded.sizes.clear()
    predict(crowded, images)  # type: ignore[arg-type]
    assert crowded.sizes == [5, 5, 5, 5]  # the size that fitted is remembered
    with pytest.raises(RuntimeError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        predict(Crowded(room=0), images)  # type: ignore[arg-type]
