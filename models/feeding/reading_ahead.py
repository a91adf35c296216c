"""Memory-mapped rows are asked of the disk some steps before they are needed.

Where a set is more than memory holds, a row that is touched makes training wait, and the system read its neighbours
along (up to megabytes of them), which nobody wants of rows in random order.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from pathlib import Path

import numpy as np


def read_ahead(array: np.ndarray, *places: np.ndarray) -> None:
    """Has the system begin to read `array[places]` of a memory-mapped array, and does not wait for it. Nothing happens
    for what is in memory, or where the system does not offer it.

    Args:
        places: int (k,) for each of the first axes; what lies at each place has no gaps.
    """
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None:
        return
    advise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)
    size = array.itemsize * math.prod(array.shape[len(places) :])
    offsets = sum(place * stride for place, stride in zip(places, array.strides, strict=False))
    addresses = array.__array_interface__["data"][0] + offsets
    starts = addresses - addresses % mmap.PAGESIZE
    for start, length in zip(starts.tolist(), (addresses - starts + size).tolist(), strict=True):
        advise(start, length, mmap.MADV_WILLNEED)


def forget(path: Path) -> None:
    """Has the system drop what it holds of a file in memory, where it offers that; nothing may have it mapped."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
