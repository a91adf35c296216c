"""Room for the images of a large source: a file that has no name, instead of memory."""

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np

from data_prep import store

IN_MEMORY = 2**29  # bytes; what is larger goes to a file
DISK_SHARE = 0.6  # of the free space in the folder for temporary files


def spilled(shape: tuple[int, ...]) -> np.ndarray | None:
    """An array to be filled whose pages the system can take back at any time, since they lie in a file.

    The file is in the folder for temporary files (TMPDIR), has no name, and goes when the array goes.

    Returns:
        uint8 of that shape, memory-mapped; None where it is small enough for memory or the disk has no room for it.
    """
    size = math.prod(shape)
    if size <= IN_MEMORY or size > DISK_SHARE * shutil.disk_usage(tempfile.gettempdir()).free:
        return None
    with tempfile.TemporaryDirectory(prefix="hpsearch-", ignore_cleanup_errors=True) as folder:
        try:
            return store.new_array(Path(folder) / "images.npy", shape)
        except OSError:
            return None
