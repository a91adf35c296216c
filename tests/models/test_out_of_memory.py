"""A lack of memory is known in the words of each library, and nothing else is taken for one."""

from __future__ import annotations

import errno

import pytest

from models.out_of_memory import is_out_of_memory
from search.engine.worker_process import kind_of

LACKS = (
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3221225472 bytes.",
    "{{function_node __wrapped__Mul}} failed to allocate memory [Op:Mul]",
    "INTERNAL: failed initializing StreamExecutor for CUDA device ordinal 0: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    "Graph execution error: No algorithm worked!  Error messages: Profiling failure on CUDNN engine 1",
    "cuDNN launch failure : CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED",
    "cusolverDnCreate: CUSOLVER_STATUS_ALLOC_FAILED",
    "Failed to allocate request for 1.50GiB (1610612736B) on device ordinal 0",
    "failed to allocate 3.20G (3435973632 bytes) from device",
    "Failed to allocate scratch buffer for device 0",
    "OOM when allocating tensor with shape[128,64,112,112] on /job:localhost/replica:0/task:0/device:GPU:0",
    "Dst tensor is not initialized.",
    "CUDA error: out of memory",
)


@pytest.mark.parametrize("text", LACKS)
def test_all_words_for_a_lack_of_memory_are_known(text: str) -> None:
    assert kind_of(RuntimeError(text)) == "out-of-memory"


def test_errors_of_a_lack_are_known_by_kind_and_behind_another_error() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    outer = ValueError("Exception encountered when calling Conv2D.call()")
    outer.__cause__ = RuntimeError(LACKS[0])
    assert kind_of(outer) == "out-of-memory"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("INTERNAL: RESOURCE_EXHAUSTED is a word here"), "bug"),
        (RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"), "bug"),
        (ValueError("failed to allocate seats"), "bug"),
        (RuntimeError("RESOURCE_EXHAUSTED: state.npz; No space left on device"), "disk-full"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
    ],
)
def test_other_errors_are_no_lack_of_memory(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
