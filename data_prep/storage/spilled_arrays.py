"""Arrays for the images of a source: in a temporary file if they are large, otherwise in memory."""

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.storage import writer
from data_prep.storage.machine import free_memory

IN_MEMORY = 2**29  # bytes; larger arrays go to a file
DISK_SHARE = 0.6  # largest share of the free space in the folder for temporary files
MEMORY_SHARE = 0.6  # largest share of the free memory, for the images that are read


def room_for(shape: tuple[int, ...], what: str) -> np.ndarray:
    """Return a uint8 array to be filled, in a file if `spilled` provides one, otherwise in memory.

    Args:
        shape: Shape of the array.
        what: Name of its content, for errors.

    Raises:
        DataError: Neither a file nor memory has enough room.
    """
    array = spilled(shape)
    if array is not None:
        return array
    check_memory(math.prod(shape), what)
    try:
        return np.empty(shape, np.uint8)
    except MemoryError as error:
        raise DataError(f"{what} do not fit into memory: prepare a smaller source") from error


def check_memory(size: int, what: str) -> None:
    """Require that `size` bytes are at most MEMORY_SHARE of the free memory.

    Args:
        size: Number of bytes.
        what: Name of the content, for errors.

    Raises:
        DataError: They exceed that share.
    """
    available = free_memory()
    if size > MEMORY_SHARE * available:
        raise DataError(
            f"{what} take {size / 1e9:.1f} GB unpacked, more than {MEMORY_SHARE:.0%} of the "
            f"{available / 1e9:.1f} GB of free memory: prepare a smaller source, "
            "or set TMPDIR to a folder with more space"
        )


def spilled(shape: tuple[int, ...]) -> np.ndarray | None:
    """Return an array to be filled that lies in a file, so that the system can free its memory pages at any time.

    The file is in the folder for temporary files (TMPDIR), has no name, and is deleted together with the array.

    Returns:
        uint8 of that shape, memory-mapped; None if it is small enough for memory or the disk has no room for it.
    """
    size = math.prod(shape)
    if size <= IN_MEMORY or size > DISK_SHARE * shutil.disk_usage(tempfile.gettempdir()).free:
        return None
    with tempfile.TemporaryDirectory(prefix="hpsearch-", ignore_cleanup_errors=True) as folder:
        try:
            return writer.new_array(Path(folder) / "images.npy", shape)
        except OSError:
            return None
