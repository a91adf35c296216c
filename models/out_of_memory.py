"""Recognises that memory ran out, in the words of each backend and of NVIDIA's libraries. Imports no Keras."""

from __future__ import annotations

STARTS = ("RESOURCE_EXHAUSTED",)
"""Beginnings of the messages of JAX's runtime errors."""
PHRASES = (
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
    "hipErrorOutOfMemory",
    "CUDA out of memory",
    "OOM when allocating",
    "Out of memory while trying to allocate",
    "Failed to allocate memory",
    "failed to allocate",
    "unable to allocate",
    "No algorithm worked",  # cuDNN found no algorithm of a convolution whose workspace fits
)
"""Parts of messages, in any letters' case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, says that the memory of the machine or GPU ran out."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        text = str(cause)
        if isinstance(cause, MemoryError) or type(cause).__name__ == "ResourceExhaustedError":
            return True
        if text.startswith(STARTS) or any(phrase.lower() in text.lower() for phrase in PHRASES):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
