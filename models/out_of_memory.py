"""Tells a lack of memory, of the computer or of a GPU, from other errors. Importing it imports no Keras."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

DISK_WORDS = "No space left on device"
"""Words of a full disk, for which TensorFlow uses the same error as for a lack of memory."""
WORDS = re.compile(
    # A status of TensorFlow and JAX; CUDA's driver and runtime; cuDNN, cuBLAS, cuSOLVER and their sisters.
    r"RESOURCE_EXHAUSTED:|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|\bCU[A-Z]+_\w*ALLOC\w*_FAILED"
    # TensorFlow and XLA: no room to try a convolution's algorithms; a tensor that was never copied to the GPU.
    r"|No algorithm worked|Dst tensor is not initialized|OOM when allocating"
    r"|failed to allocate (memory|request|scratch|\d)|(?<!\w)out of memory\b",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error, or one that led to it, is a lack of memory in the words of any backend or library."""
    return any(map(_is_lack, _chain(error)))


def _is_lack(error: BaseException) -> bool:
    text = str(error)
    if DISK_WORDS in text:
        return False
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return type(error).__name__ == "ResourceExhaustedError" or WORDS.search(text) is not None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
