"""Ask the system to read rows of memory-mapped arrays from disk some steps before they are needed.

When the data exceed memory, touching a row makes training wait for the disk. The system then also reads the row's
neighbours, up to megabytes of them, which is wasted when rows are used in random order.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from pathlib import Path

import numpy as np


def read_ahead(array: np.ndarray, *places: np.ndarray) -> None:
    """Start reading `array[places]` from disk, without waiting for it.

    Does nothing for rows that are in memory already, or on systems without `madvise`.

    Args:
        array: Memory-mapped array.
        places: Indices, int (k,), one array for each of the first axes. The data at each index must be contiguous.
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
    """Drop a file from the system's page cache, where the system can do so. The file must not be memory-mapped."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
