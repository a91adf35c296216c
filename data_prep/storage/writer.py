"""Files of a prepared set: written beside it, synced, then renamed into place."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_prep.errors import DataError
from data_prep.storage.reader import previous, recover

_ROWS = 1024  # images copied at a time


def unfinished(folder: Path) -> Path:
    """Where a new set is built."""
    return folder.with_name(folder.name + ".new")


def tidy(folder: Path) -> None:
    """Removes what an interrupted preparation left behind; the old set stays or comes back."""
    recover(folder)
    for leftover in (unfinished(folder), previous(folder)):
        if leftover.exists():
            shutil.rmtree(leftover)


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when the block ends well, and is removed otherwise.

    A kill at any moment leaves the old set or none: between the two renames of a replacement the old one lies at
    `previous(folder)`, from where the next open or `prepare` brings it back.

    Raises:
        DataError: the files cannot be written (disk full, no permission).
    """
    new = unfinished(folder)
    try:
        tidy(folder)
        new.mkdir(parents=True)
        yield new
        sync(new)
        _publish(new, folder)
    except OSError as error:
        place = error.filename or new
        raise DataError(
            f"{place} cannot be written ({error.strerror or error}): free some space or choose another --workspace"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _publish(new: Path, folder: Path) -> None:
    if folder.exists():
        os.rename(folder, previous(folder))
    os.rename(new, folder)
    _sync_one(folder.parent)
    shutil.rmtree(previous(folder), ignore_errors=True)


def sync(folder: Path) -> None:
    """Forces a folder and all in it to disk."""
    for path in sorted(folder.rglob("*")):
        _sync_one(path)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def new_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A memory-mapped uint8 .npy file of that shape, to be filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # the space is claimed first: a full disk found later, through the map, is a SIGBUS
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        size = int(np.prod(shape, dtype=np.int64))
        _claim(file, size)
    return np.lib.format.open_memmap(path, "r+")


def _claim(file: BinaryIO, size: int) -> None:
    """Makes room for `size` bytes after the current position; OSError where the disk has less."""
    end = file.tell() + size
    try:
        if size:
            os.posix_fallocate(file.fileno(), file.tell(), size)
    except (AttributeError, OSError) as error:  # not on macOS, not on every file system
        if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    file.truncate(end)


def write_rows(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Writes images[rows] as a .npy file, without holding them in memory."""
    array = new_array(path, (len(rows), *images.shape[1:]))
    for start in range(0, len(rows), _ROWS):
        array[start : start + _ROWS] = images[rows[start : start + _ROWS]]
    array.flush()  # type: ignore[attr-defined]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON, readable."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def checksums(folder: Path, names: list[str]) -> dict[str, str]:
    """Sha256 of files, hexadecimal, by name."""
    sums = {}
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
