"""Room for the images of a large source: a file that has no name, or memory where there is enough."""

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil

from data_prep.errors import DataError
from data_prep.storage import writer

IN_MEMORY = 2**29  # bytes; what is larger goes to a file
DISK_SHARE = 0.6  # of the free space in the folder for temporary files
MEMORY_SHARE = 0.6  # of the free memory, for the images as they are read


def room_for(shape: tuple[int, ...], what: str) -> np.ndarray:
    """An array to be filled, uint8 of that shape: `spilled`, or in memory.

    Args:
        what: it is for, as the error says.

    Raises:
        DataError: there is too little of both.
    """
    array = spilled(shape)
    if array is not None:
        return array
    check_memory(math.prod(shape), what)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        raise DataError(f"{what} does not fit into memory: prepare a smaller source") from error


def check_memory(size: int, what: str) -> None:
    """DataError where so many bytes are more than MEMORY_SHARE of the free memory."""
    available = psutil.virtual_memory().available
    if size > MEMORY_SHARE * available:
        raise DataError(
            f"{what} take {size / 1e9:.1f} GB unpacked, more than {MEMORY_SHARE:.0%} of the "
            f"{available / 1e9:.1f} GB of free memory: prepare a smaller source, or give TMPDIR more space"
        )


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
            return writer.new_array(Path(folder) / "images.npy", shape)
        except OSError:
            return None
