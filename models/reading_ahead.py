"""Memory-mapped rows are asked of the disk some steps before they are needed.

Where a set is more than memory holds, a row that is touched makes training wait, and the system read its neighbours
along (up to megabytes of them), which nobody wants of rows in random order.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable

import numpy as np


def read_ahead(rows: Iterable[np.ndarray]) -> None:
    """Has the system begin to read these parts of mapped files, each without gaps, and does not wait for it. Nothing
    happens for what is in memory, or where the system does not offer it."""
    advise = getattr(ctypes.CDLL(None), "madvise", None)
    if advise is None:
        return
    for row in rows:
        address = row.__array_interface__["data"][0]
        start = address - address % mmap.PAGESIZE
        advise(ctypes.c_void_p(start), ctypes.c_size_t(address - start + row.nbytes), mmap.MADV_WILLNEED)
