"""Labelled images from an .npz file.

Pickled objects are never loaded. Shapes and dtypes are checked in the headers before any pixel is read. To read files
with other keys, add a row to LAYOUTS.
"""

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from data_prep.errors import DataError
from data_prep.sources import pixel_values
from data_prep.sources.labelled_images import LabelledImages
from data_prep.sources.npz_labels import check_label_header, classes_of
from data_prep.storage.spilled_arrays import check_memory, room_for

MAX_SIDE = 4096  # pixels
_CHUNK = 2**20  # bytes per read
_ROWS = 256  # images per copy
_BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)

LAYOUTS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("images", "labels"),),
    (("train_images", "train_labels"), ("val_images", "val_labels"), ("test_images", "test_labels")),
)
"""Accepted keys: each row holds pairs (images, labels). Three pairs are a source's own split, as in MedMNIST."""

_OTHER_IMAGES = ("x_train", "x_val", "x_test")
"""Keys that are never read. A file that has them beside the keys of a layout is ambiguous and is rejected."""


class _Header(NamedTuple):
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def read_npz(path: Path, value_range: str | None = None) -> LabelledImages:
    """Read images and labels under the keys of one row of LAYOUTS.

    Images have the shape (n, h, w, 3), (n, h, w, 1) or (n, h, w). Grey images are repeated in three channels. Their
    values are uint8, or other numbers, which are converted to uint8 by the rule of `pixel_values`. Labels are integers
    or names of shape (n,) or (n, 1), or one-hot (n, classes). Numbered classes are named by their numbers, images by
    their rows.

    Args:
        path: Path of the file.
        value_range: One of VALUE_RANGES, needed if the values leave the range open; None applies the rule.

    Raises:
        DataError: The file cannot be read, is not an .npz file, holds pickled objects, lacks a key or has keys of
            several layouts, or a shape, dtype, pixel value or label is not allowed.
    """
    with _opened(path) as archive:
        layout = _layout(archive, path)
        headers = {key: _header(archive, key, path) for pair in layout for key in pair}
        for images_key, labels_key in layout:
            _check_images(headers[images_key], images_key, path)
            check_label_header(headers[labels_key].shape, headers[labels_key].dtype, labels_key, path)
            _check_as_many(headers, (images_key, labels_key), path)
        labels = {key: _read_labels(archive, key, headers[key], path) for _, key in layout}
        numbers, class_names = classes_of(labels, path)
        images = _read_images(archive, {key: headers[key] for key, _ in layout}, path, value_range)
    counts = [len(some) for some in numbers]
    sides = np.repeat(np.arange(len(layout), dtype=np.int8), counts) if len(layout) > 1 else None
    names = _names({key: headers[key] for key, _ in layout})
    return LabelledImages(images, np.concatenate(numbers), class_names, names, sides=sides)


def _names(headers: Mapping[str, _Header]) -> tuple[str, ...]:
    """Return the names of the images under these keys: row numbers, with the split if the key has one (`train/0`)."""
    prefixes = {key: key.removesuffix("images").replace("_", "/") for key in headers}
    return tuple(f"{prefixes[key]}{row}" for key, header in headers.items() for row in range(header.shape[0]))


def brings_split(path: Path) -> bool:
    """Return whether the file has its own split.

    Raises:
        DataError: The file cannot be read, or has keys of several layouts.
    """
    with _opened(path) as archive:
        return len(_layout(archive, path)) > 1


def read_images(path: Path, value_range: str | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the images only; the file need not have labels.

    Arguments and errors are those of `read_npz`.

    Returns:
        Images uint8 (n, h, w, 3), those of the splits one after the other, and their names, as in `read_npz`.
    """
    with _opened(path) as archive:
        layout = _layout(archive, path)
        there = [key for key, _ in layout if f"{key}.npy" in archive.namelist()] or [layout[0][0]]
        headers = {key: _header(archive, key, path) for key in there}
        for key, header in headers.items():
            _check_images(header, key, path)
        return _read_images(archive, headers, path, value_range), _names(headers)


def has_labels(path: Path) -> bool:
    """Return whether an .npz file has labels under a key of LAYOUTS.

    Raises:
        DataError: The file cannot be read, or is not an .npz file.
    """
    with _opened(path) as archive:
        found = {name.removesuffix(".npy") for name in archive.namelist()}
    return any(labels in found for layout in LAYOUTS for _, labels in layout)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is not an .npz file ({error}): write one with numpy.savez") from error


def _layout(archive: zipfile.ZipFile, path: Path) -> tuple[tuple[str, str], ...]:
    """Return the row of LAYOUTS whose image keys the file has; the first row if it has none of them."""
    found = {name.removesuffix(".npy") for name in archive.namelist()}
    there = [layout for layout in LAYOUTS if any(key in found for key, _ in layout)]
    images = [key for layout in there for key, _ in layout if key in found]
    images += [key for key in _OTHER_IMAGES if key in found]
    if len(there) > 1 or (there and set(images) & set(_OTHER_IMAGES)):
        raise DataError(
            f"{path} must have its images under one set of keys, but has {', '.join(images)}: "
            "write a file without the other keys"
        )
    return there[0] if there else LAYOUTS[0]


def _header(archive: zipfile.ZipFile, key: str, path: Path) -> _Header:
    """Return shape and dtype of an array, without reading its values."""
    if f"{key}.npy" not in archive.namelist():
        keys = ", ".join(sorted(name.removesuffix(".npy") for name in archive.namelist())[:10]) or "none"
        wanted = ", or ".join(" and ".join(one for pair in layout for one in pair) for layout in LAYOUTS)
        raise DataError(f"{path} must have the keys {wanted}, but {key} is missing; its keys: {keys}")
    try:
        with archive.open(f"{key}.npy") as member:
            header = _read_header(member)
    except _BROKEN as error:
        raise _damaged(path, key, error) from error
    if header.dtype.hasobject:
        raise DataError(
            f"{path}: {key} holds pickled objects, which are never loaded: save a plain array (names with .astype(str))"
        )
    return header


def _read_header(member: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    return _Header(*read[version](member))


def _check_images(header: _Header, key: str, path: Path) -> None:
    shape, _, dtype = header
    pixel_values.require_numbers(dtype, f"{path}: {key}")
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or not all(8 <= s <= MAX_SIDE for s in shape[1:3]):
        raise DataError(
            f"{path}: {key} must have the shape (n, h, w, 3), or (n, h, w) for grey images, with sides of 8 to "
            f"{MAX_SIDE} pixels, but have {shape}"
        )
    if shape[0] == 0:
        raise DataError(f"{path} has no images: {key} is empty: give a file with labelled images")


def _check_as_many(headers: Mapping[str, _Header], pair: tuple[str, str], path: Path) -> None:
    images, labels = (headers[key].shape[0] for key in pair)
    if images != labels:
        raise DataError(
            f"{path}: {pair[0]} and {pair[1]} must have the same length, but have {images} and {labels}: "
            "give each image one label"
        )


def _read_labels(archive: zipfile.ZipFile, key: str, header: _Header, path: Path) -> np.ndarray:
    _check_claim(archive, key, header, path)
    check_memory(math.prod(header.shape) * header.dtype.itemsize, f"{path}: {key}")
    try:
        with archive.open(f"{key}.npy") as member:
            return np.lib.format.read_array(member, allow_pickle=False)
    except _BROKEN as error:
        raise _damaged(path, key, error) from error
    except MemoryError as error:
        raise DataError(f"{path}: {key} do not fit into memory: prepare a smaller file") from error


def _read_images(archive: zipfile.ZipFile, headers: Mapping[str, _Header], path: Path, asked: str | None) -> np.ndarray:
    """Read the images of all these keys, one key after the other, as uint8 (n, h, w, 3)."""
    kinds = {key: (header.shape[1:], header.dtype) for key, header in headers.items()}
    if len(set(kinds.values())) > 1:
        found = "; ".join(f"{key} {dtype} {shape}" for key, (shape, dtype) in kinds.items())
        raise DataError(f"{path}: images of all splits must have one size and dtype, but are {found}")
    for key, header in headers.items():
        _check_claim(archive, key, header, path)
    first = next(iter(headers.values()))
    values = (chunk for key, header in headers.items() for chunk in _values(archive, key, header, path))
    meant = pixel_values.range_of(first.dtype, asked, values, f"{path}: {' and '.join(headers)}")
    total = sum(header.shape[0] for header in headers.values())
    images = room_for((total, *first.shape[1:3], 3), f"{path}: {' and '.join(headers)}")
    start = 0
    for key, header in headers.items():
        stop = start + header.shape[0]
        chunks = (pixel_values.to_uint8(chunk, meant) for chunk in _values(archive, key, header, path))
        if header.fortran_order:
            stored = room_for(header.shape[::-1], f"{path}: {key}")
            _fill(stored.reshape(-1), chunks)
            chunks = (stored.T[at : at + _ROWS].reshape(-1) for at in range(0, header.shape[0], _ROWS))
        colours = header.shape[3:] == (3,)
        _fill(images[start:stop].reshape(-1) if colours else images[start:stop].reshape(-1, 3), chunks)
        start = stop
    return images


def _fill(target: np.ndarray, chunks: Iterable[np.ndarray]) -> None:
    """Copy the chunks into an array of shape (m,), or into each of the three columns of an array of shape (m, 3)."""
    at = 0
    for chunk in chunks:
        target[at : at + len(chunk)] = chunk if target.ndim == 1 else chunk[:, None]
        at += len(chunk)


def _values(archive: zipfile.ZipFile, key: str, header: _Header, path: Path) -> Iterator[np.ndarray]:
    """Yield the values of an array in stored order, in chunks of shape (k,) and its dtype."""
    left = math.prod(header.shape) * header.dtype.itemsize
    most = max(1, _CHUNK // header.dtype.itemsize) * header.dtype.itemsize
    try:
        with archive.open(f"{key}.npy") as member:
            _read_header(member)
            while left:
                chunk = member.read(min(most, left))
                left -= len(chunk)
                if not chunk or len(chunk) % header.dtype.itemsize:
                    raise EOFError(f"the header says {header.shape} values, but {left:,} bytes are missing")
                yield np.frombuffer(chunk, header.dtype)
    except _BROKEN as error:
        raise _damaged(path, key, error) from error


def _check_claim(archive: zipfile.ZipFile, key: str, header: _Header, path: Path) -> None:
    """Reject a header that claims more bytes than the archive lists, before any memory is reserved for them."""
    size = math.prod(header.shape) * header.dtype.itemsize
    if size > archive.getinfo(f"{key}.npy").file_size:
        raise _damaged(path, key, ValueError(f"the header says {header.shape} values, more than the file holds"))


def _damaged(path: Path, key: str, error: Exception) -> DataError:
    return DataError(f"{path}: {key} cannot be read, the file is damaged ({error}): write it again".replace("\n", " "))
