"""Prediction in batches, which become smaller where memory runs out. No GPU is used."""

from __future__ import annotations

import numpy as np
import pytest

from models.networks.predicting import predict
from models.out_of_memory import is_out_of_memory


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
    assert crowded.sizes[:3] == [20, 10, 5]
    with pytest.raises(RuntimeError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        predict(Crowded(room=0), images)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "message",
    [
        "INTERNAL: CUDA error: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "No algorithm worked!  Error messages:   Profiling failure on CUDNN engine",
        "CUDNN_STATUS_ALLOC_FAILED in cudnnConvolutionForward",
        "failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 123 bytes",
        "Failed to allocate memory for the device",
        "OOM when allocating tensor with shape[128,96,96,64]",
    ],
)
def test_words_of_exhausted_memory_are_known(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    outer = RuntimeError("Exception encountered when calling Conv2D.call()")
    outer.__cause__ = RuntimeError(message)
    assert is_out_of_memory(outer)
    assert not is_out_of_memory(RuntimeError("shapes (3, 4) and (5,) do not match"))
