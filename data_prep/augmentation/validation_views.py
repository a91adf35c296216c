"""Augmented views of the validation images, for a refit: training that uses these images too, after the search.

The views are stored outside the prepared set, in which only training images are augmented.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_prep.augmentation.levels import augment
from data_prep.errors import DataError
from data_prep.progress import Progress
from data_prep.storage import writer
from data_prep.storage.reader import PreparedSet


def write_validation_views(prepared: PreparedSet, levels: Iterable[str], folder: Path, progress: Progress) -> None:
    """Write {level}.npy, uint8 (n_validation, copies, h, w, 3), for each level whose file does not exist.

    The number of copies and the seed are the prepared set's.

    Args:
        prepared: set with the validation images.
        levels: names of augmentation levels in the set's bank.
        folder: folder for views of this prepared set only; one process at a time may write into it.
        progress: receiver of progress reports, in views.

    Raises:
        DataError: a file cannot be written.
    """
    images = prepared.images("validation")
    shapes = {level: (len(images), *prepared.bank(level).shape[1:]) for level in levels}
    missing = {level: shape for level, shape in shapes.items() if not _is_there(folder / f"{level}.npy", shape)}
    if not missing:
        return
    seed = int(prepared.manifest["settings"]["seed"])
    try:
        views = {level: writer.new_array(_partial(folder, level), shape) for level, shape in missing.items()}
        total = sum(shape[0] * shape[1] for shape in missing.values())
        progress.start(f"augmenting validation images, levels {', '.join(missing)}", total)
        augment(images, views, (seed, 0), progress)
        for level, array in views.items():
            array.flush()  # type: ignore[attr-defined]
            os.replace(_partial(folder, level), folder / f"{level}.npy")
        writer.sync(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror or error}): free some space") from error


def read_validation_views(levels: Iterable[str], folder: Path) -> list[np.ndarray]:
    """Return the views that `write_validation_views` wrote, memory-mapped, in the order of `levels`."""
    return [np.load(folder / f"{level}.npy", mmap_mode="r", allow_pickle=False) for level in levels]


def _is_there(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return found.shape == shape and found.dtype == np.uint8


def _partial(folder: Path, level: str) -> Path:
    return folder / f"partial.{level}.npy"
