"""Writing of a prepared set: its files are written to a new folder, synced, then renamed into place."""

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

_ROWS = 1024  # images per copy


def unfinished(folder: Path) -> Path:
    """Return the path at which a new set is built."""
    return folder.with_name(folder.name + ".new")


def tidy(folder: Path) -> None:
    """Remove the leftovers of an interrupted preparation; the old set is kept or restored."""
    recover(folder)
    for leftover in (unfinished(folder), previous(folder)):
        if leftover.exists():
            shutil.rmtree(leftover)


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield a new folder to write into, which replaces `folder` if the block succeeds and is removed otherwise.

    A kill at any moment leaves no partial set at `folder`. Between the two renames of a replacement, the old set is at
    `previous(folder)`, and the next open or `prepare` restores it.

    Raises:
        DataError: The files cannot be written, for example on a full disk.
        PermissionError: This user may not write them.
    """
    new = unfinished(folder)
    try:
        tidy(folder)
        new.mkdir(parents=True)
        yield new
        sync(new)
        _publish(new, folder)
    except PermissionError:
        raise  # the command line names the file's owner
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
    """Force a folder and everything in it to disk."""
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
    """Create a .npy file of uint8, and return it as a memory-mapped array to be filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Claim the disk space first: if the disk fills up while the map is written, the process is killed by SIGBUS.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        size = int(np.prod(shape, dtype=np.int64))
        _claim(file, size)
    return np.lib.format.open_memmap(path, "r+")


def _claim(file: BinaryIO, size: int) -> None:
    """Reserve `size` bytes after the current position; raise OSError if the disk has less."""
    end = file.tell() + size
    try:
        if size:
            os.posix_fallocate(file.fileno(), file.tell(), size)
    except (AttributeError, OSError) as error:  # missing on macOS and on some file systems
        if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.EOPNOTSUPP):
            raise
    file.truncate(end)


def write_rows(path: Path, images: np.ndarray, rows: np.ndarray) -> None:
    """Write images[rows] to a .npy file, without holding all of them in memory."""
    array = new_array(path, (len(rows), *images.shape[1:]))
    for start in range(0, len(rows), _ROWS):
        array[start : start + _ROWS] = images[rows[start : start + _ROWS]]
    array.flush()  # type: ignore[attr-defined]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, indented for people to read."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def checksums(folder: Path, names: list[str]) -> dict[str, str]:
    """Return the sha256 of each file, hexadecimal, by name."""
    sums = {}
    for name in sorted(names):
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
