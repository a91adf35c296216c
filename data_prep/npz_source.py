"""Labelled images from an .npz file. Never unpickles; shapes and dtypes are read from headers before any pixel is."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import psutil

from data_prep.errors import DataError
from data_prep.images import LabelledImages
from data_prep.spill import spilled

MAX_SIDE = 4096  # pixels
MEMORY_SHARE = 0.6  # of the free memory, for the images as they are read
_CHUNK = 2**20  # bytes read at a time
MAX_CLASSES = 10_000
_BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def read_npz(path: Path) -> LabelledImages:
    """Images and labels from `images` (n, h, w, 3) uint8 and `labels` (n,) or (n, 1) integers.

    Classes are named by their numbers, images by their rows.

    Raises:
        DataError: unreadable, not an npz, pickled objects, a key missing, a wrong shape or dtype, labels out of range.
    """
    with _opened(path) as archive:
        headers = {key: _header(archive, key, path) for key in ("images", "labels")}
        _check_headers(headers, path)
        images = _read(archive, "images", headers["images"], path)
        labels = _read(archive, "labels", headers["labels"], path).reshape(-1)
    classes = _check_labels(labels, path)
    return LabelledImages(
        images,
        labels.astype(np.int64),
        tuple(str(label) for label in range(classes)),
        tuple(str(row) for row in range(len(images))),
    )


def read_images(path: Path) -> np.ndarray:
    """`images` (n, h, w, 3) uint8 alone, whatever else is in the file. Raises DataError as `read_npz` does."""
    with _opened(path) as archive:
        header = _header(archive, "images", path)
        _check_images(header, path)
        return _read(archive, "images", header, path)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is not an .npz file ({error}): write one with numpy.savez") from error


def _header(archive: zipfile.ZipFile, key: str, path: Path) -> _Header:
    """Shape and dtype of a member, without reading its values."""
    if f"{key}.npy" not in archive.namelist():
        keys = ", ".join(sorted(name.removesuffix(".npy") for name in archive.namelist())[:10]) or "none"
        raise DataError(f"{path} must have the keys images and labels, but {key} is missing; its keys: {keys}")
    try:
        with archive.open(f"{key}.npy") as member:
            header = _read_header(member)
    except _BROKEN as error:
        raise _damaged(path, key, error) from error
    if header.dtype.hasobject:
        raise DataError(f"{path}: {key} holds pickled objects, which are never loaded: save it as a plain array")
    return header


def _read_header(member: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return _Header(*read[version](member))


def _check_images(header: _Header, path: Path) -> None:
    shape, _, dtype = header
    if dtype != np.uint8:
        raise DataError(f"{path}: images must be uint8 with values 0..255, but are {dtype}: convert them first")
    if len(shape) != 4 or shape[3] != 3 or not all(8 <= side <= MAX_SIDE for side in shape[1:3]):
        raise DataError(f"{path}: images must have the shape (n, h, w, 3), sides 8..{MAX_SIDE}, but have {shape}")
    if shape[0] == 0:
        raise DataError(f"{path} has no images: give a file with labelled images")


def _check_headers(headers: dict[str, _Header], path: Path) -> None:
    (shape, _, _), (label_shape, _, label_dtype) = headers["images"], headers["labels"]
    _check_images(headers["images"], path)
    if label_dtype.kind not in "iu":
        raise DataError(f"{path}: labels must be integers, but are {label_dtype}: number the classes 0, 1, 2, ...")
    if len(label_shape) not in (1, 2) or label_shape[1:] not in ((), (1,)):
        raise DataError(f"{path}: labels must have the shape (n,) or (n, 1), but have {label_shape}")
    if label_shape[0] != shape[0]:
        raise DataError(f"{path}: images and labels must be as many, but there are {shape[0]} and {label_shape[0]}")


def _read(archive: zipfile.ZipFile, key: str, header: _Header, path: Path) -> np.ndarray:
    """A small file may claim or unpack to far more than there is room for: that is refused before it is tried."""
    size = math.prod(header.shape) * header.dtype.itemsize
    if size > archive.getinfo(f"{key}.npy").file_size:
        raise _damaged(path, key, ValueError(f"{header.shape} values do not fit into what it holds"))
    array = None if header.dtype != np.uint8 or header.fortran_order else spilled(header.shape)
    available = psutil.virtual_memory().available
    if array is None and size > MEMORY_SHARE * available:
        raise DataError(
            f"{path}: {key} takes {size / 1e9:.1f} GB unpacked, more than {MEMORY_SHARE:.0%} of the "
            f"{available / 1e9:.1f} GB of free memory: prepare a smaller file, or give TMPDIR more space"
        )
    try:
        with archive.open(f"{key}.npy") as member:
            if array is not None:
                return _filled(array, member)
            return np.ascontiguousarray(np.lib.format.read_array(member, allow_pickle=False))
    except MemoryError as error:
        raise DataError(f"{path}: {key} does not fit into memory: prepare a smaller file") from error
    except _BROKEN as error:
        raise _damaged(path, key, error) from error


def _filled(array: np.ndarray, member: IO[bytes]) -> np.ndarray:
    """The array with the values that follow the member's header, which is known to fit."""
    _read_header(member)
    flat, done = array.reshape(-1), 0
    while done < len(flat):
        chunk = member.read(min(_CHUNK, len(flat) - done))
        if not chunk:
            raise EOFError(f"{len(flat)} values announced, {done} found")
        flat[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        done += len(chunk)
    return array


def _damaged(path: Path, key: str, error: Exception) -> DataError:
    return DataError(f"{path}: {key} cannot be read, the file is damaged ({error}): write it again".replace("\n", " "))


def _check_labels(labels: np.ndarray, path: Path) -> int:
    """Number of classes. Raises DataError for labels below 0 or beyond MAX_CLASSES."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise DataError(f"{path}: labels must be 0 or more, but row {int(labels.argmin())} has {low}")
    if high >= MAX_CLASSES:
        raise DataError(
            f"{path}: labels are out of range: row {int(labels.argmax())} has {high}, beyond {MAX_CLASSES} classes: "
            "number the classes 0, 1, 2, ... without gaps"
        )
    return high + 1
