"""Images given to an exported model, with labels or without: an .npz file, folders, a single picture."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from search.errors import SearchError

CHUNK_IMAGES = 1024


@dataclass(frozen=True)
class Chunk:
    """Some of the images, in order.

    Attributes:
        names: one an image: the row number, or the path below the folder.
        images: uint8 (k, h, w, 3), the readable ones.
        reasons: why an image cannot be read, by its name.
    """

    names: tuple[str, ...]
    images: np.ndarray
    reasons: dict[str, str]


def has_labels(data: Path | str) -> bool:
    """Whether these are labelled images: an .npz file with `labels`, a folder of class folders, `demo`."""
    path = Path(data)
    if path.is_dir():
        from data_prep.folder_source import class_folders

        return bool(class_folders(path))
    return not path.is_file() or (zipfile.is_zipfile(path) and "labels.npy" in _members(path))


def labelled_images(data: str, names: tuple[str, ...], shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the model's own class order.

    Args:
        data: a SOURCE of data_prep.
        names: the model's classes.
        shape: (h, w, 3) of the images it takes.

    Raises SearchError for other shapes or classes.
    """
    from data_prep.sources import read_source

    found = read_source(data, shape[0])
    _check_shape(found.images.shape, data, shape)
    # By name where the model knows all of them; otherwise number k of a numbered file is the model's class k.
    by_name = set(found.class_names) <= set(names)
    numbered = found.class_names == tuple(str(number) for number in range(len(found.class_names)))
    if not by_name and not (numbered and len(found.class_names) <= len(names)):
        stranger = found.class_names[-1] if numbered else min(set(found.class_names) - set(names))
        raise SearchError(f"{data} has the class {stranger!r}, and the model knows {', '.join(names)} alone")
    order = np.array([names.index(name) for name in found.class_names] if by_name else range(len(names)))
    for row in found.unreadable:
        click.echo(f"left out {row.name}: {row.reason}", err=True)
    return found.images, order[found.labels]


def chunks(data: Path, shape: tuple[int, int, int]) -> Iterator[Chunk]:
    """All images of an .npz file (its `images`), of a folder with all folders in it, or one picture; labels aside.

    Pictures are cropped to the central square and resized, as `prepare` does; hidden files are passed over.

    Raises SearchError when there is nothing to read, or arrays of another shape.
    """
    if data.is_file() and zipfile.is_zipfile(data):
        images = _array(data, shape)
        for start in range(0, len(images), CHUNK_IMAGES):
            part = images[start : start + CHUNK_IMAGES]
            yield Chunk(tuple(str(start + number) for number in range(len(part))), part, {})
        return
    if shape[0] != shape[1]:
        raise SearchError(f"the model takes images of {shape}, pictures are cropped to squares: give an .npz file")
    paths = {str(path.relative_to(data)): path for path in _visible(data)} if data.is_dir() else {data.name: data}
    if not paths:
        raise SearchError(f"{data} has no pictures in it: give a folder with JPEG or PNG pictures, or an .npz file")
    names = list(paths)
    for start in range(0, len(names), CHUNK_IMAGES):
        yield _read_pictures({name: paths[name] for name in names[start : start + CHUNK_IMAGES]}, shape)


def _visible(folder: Path) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _read_pictures(paths: dict[str, Path], shape: tuple[int, int, int]) -> Chunk:
    from data_prep.folder_source import read_picture

    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what matters comes as an error
        read = dict(zip(paths, pool.map(lambda path: read_picture(path, shape[0]), paths.values()), strict=True))
    pictures = [picture for picture in read.values() if not isinstance(picture, str)]
    reasons = {name: reason for name, reason in read.items() if isinstance(reason, str)}
    return Chunk(tuple(paths), np.stack(pictures) if pictures else np.empty((0, *shape), np.uint8), reasons)


def _array(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    from data_prep.npz_source import read_images

    images = read_images(path)
    _check_shape(images.shape, path, shape)
    return images


def _check_shape(found: tuple[int, ...], data: Path | str, shape: tuple[int, int, int]) -> None:
    if found[1:] != shape:
        raise SearchError(f"the model takes images of {shape}, {data} has {found[1:]}")


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise SearchError(f"{path} cannot be read as an .npz file ({error}): write it again") from error
