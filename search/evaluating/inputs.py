"""Read images for an exported model, with or without labels: an .npz file, folders, a table of paths, or a picture.

Images of another size than the model's are cropped to the middle, then resized, as pictures are in training.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from data_prep.settings import SPLITS
from search.errors import SearchError

if TYPE_CHECKING:
    from data_prep.progress import Progress
    from data_prep.sources.labelled_images import LabelledImages

CHUNK_IMAGES = 1024
CHUNK_BYTES = 2**26
KINDS = "a folder with pictures, a table of their paths, a picture, or an .npz file"


@dataclass(frozen=True)
class Chunk:
    """A run of consecutive images.

    Attributes:
        names: Name of each image: its row number, or its path below the folder.
        images: Readable images, uint8 (k, h, w, 3).
        reasons: Name of an unreadable image -> why it cannot be read.
    """

    names: tuple[str, ...]
    images: np.ndarray
    reasons: dict[str, str]


def has_labels(data: Path | str) -> bool:
    """Return whether the data has labels: an .npz file or table with labels, a folder of class folders, a named set."""
    from data_prep.sources import folder_source, npz_source, table_source
    from data_prep.sources.table_rows import is_table, read_lines

    path = Path(data)
    if path.is_dir():
        return folder_source.labelled(path)
    if is_table(path):
        return table_source.has_labels(read_lines(path))
    return not path.is_file() or (zipfile.is_zipfile(path) and npz_source.has_labels(path))


@dataclass(frozen=True)
class Labelled:
    """Labelled images to score a model on."""

    images: np.ndarray
    """Images, uint8 (n, h, w, 3)."""
    labels: np.ndarray
    """Labels, int (n,)."""
    groups: np.ndarray | None = None
    """Groups of images that belong together, int (n,); None if the data has none."""


def labelled_images(
    data: str,
    names: tuple[str, ...],
    shape: tuple[int, int, int],
    progress: Progress | None = None,
    value_range: str | None = None,
) -> Labelled:
    """Read labelled images, with labels in the model's own class order.

    If the data has its own split, only the last side of it is read: the test images, where it has any.

    Args:
        data: A SOURCE of data_prep.
        names: Class names of the model, by label.
        shape: Shape (h, w, 3) of the images that the model takes; others are cropped and resized.
        progress: Receives the progress on images read.
        value_range: One of VALUE_RANGES, for arrays whose range does not show in their values.

    Raises:
        DataError: The data has a class that the model lacks.
        SearchError: The data are pictures, and the model's images are not square.
    """
    from data_prep.external_sets import class_order
    from data_prep.sources.registry import find_source, read_source

    if find_source(data).resized:
        _require_square(shape)
    found = read_source(data, shape[0], progress=progress, value_range=value_range)
    order = class_order(found, data, names, "model")
    for row in found.unreadable:
        click.echo(f"left out {row.name}: {row.reason}", err=True)
    rows = _last_side(found, data)
    groups = None if found.groups is None else found.groups[rows]
    return Labelled(_fitted(found.images[rows], shape), order[found.labels[rows]], groups)


def _last_side(found: LabelledImages, data: str) -> np.ndarray | slice:
    """Return the rows to score. If the data has its own split, a model may have trained on all but the last side."""
    if found.sides is None:
        return slice(None)
    last = int(found.sides.max())
    rows = np.flatnonzero(found.sides == last)
    which = f"{len(rows):,} {SPLITS[last]} images of its {len(found.sides):,}"
    click.echo(f"{data} has a split of its own: the {which} are scored", err=True)
    return rows


def chunks(
    data: Path, shape: tuple[int, int, int], progress: Progress | None = None, value_range: str | None = None
) -> Iterator[Chunk]:
    """Yield all images of an .npz file, a folder with its subfolders, a table of paths, or one picture, without labels.

    Images are cropped to the middle and resized, as `prepare` does with pictures. Hidden files are skipped.

    Args:
        data: One of KINDS.
        shape: Shape (h, w, 3) of the yielded images.
        progress: Receives the progress as images are consumed.
        value_range: One of VALUE_RANGES, for arrays whose range does not show in their values.

    Raises:
        SearchError: There is nothing to read, or the data are pictures and `shape` is not square.
    """
    from data_prep.progress import Silent
    from data_prep.sources.npz_source import read_images

    watcher = progress or Silent()
    step = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // math.prod(shape)))
    if data.is_file() and zipfile.is_zipfile(data):
        images, names = read_images(data, value_range)
        watcher.start("labelling", len(images))
        for start in range(0, len(images), step):
            part = _fitted(images[start : start + step], shape)
            yield Chunk(names[start : start + step], part, {})
            watcher.advance(len(part))
        return
    _require_square(shape)
    paths = _pictures(data)
    if not paths:
        raise SearchError(f"{data} has no pictures in it: give {KINDS}")
    watcher.start("labelling", len(paths))
    for start in range(0, len(paths), step):
        yield _read_pictures(paths[start : start + step], shape)
        watcher.advance(len(paths[start : start + step]))


def _pictures(data: Path) -> list[tuple[str, Path]]:
    """Return name and path of each picture in a folder or a table, or of the one picture given."""
    from data_prep.sources.table_rows import is_table
    from data_prep.sources.table_source import list_table

    if data.is_dir():
        return [(str(path.relative_to(data)), path) for path in _visible(data)]
    if is_table(data):
        return [(entry.name, entry.path) for entry in list_table(data, labelled=False).entries]
    return [(data.name, data)]


def _visible(folder: Path) -> list[Path]:
    """Return the visible files below a folder, sorted, with links that lead to no file."""
    found = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _read_pictures(paths: list[tuple[str, Path]], shape: tuple[int, int, int]) -> Chunk:
    from data_prep.sources.picture_files import read_pictures

    names = tuple(name for name, _ in paths)
    read = list(read_pictures((path for _, path in paths), shape[0]))
    pictures = [picture for picture in read if not isinstance(picture, str)]
    reasons = {name: reason for name, reason in zip(names, read, strict=True) if isinstance(reason, str)}
    return Chunk(names, np.stack(pictures) if pictures else np.empty((0, *shape), np.uint8), reasons)


def _fitted(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return uint8 images (k, h, w, 3) cropped and resized to `shape`; unchanged if they have that shape."""
    if images.shape[1:] == shape:
        return images
    from PIL import Image

    from data_prep.sources.picture_files import fit
    from data_prep.storage.spilled_arrays import spilled

    target = (len(images), *shape)
    room = spilled(target)
    fitted = np.empty(target, np.uint8) if room is None else room
    for place, image in enumerate(images):
        fitted[place] = fit(Image.fromarray(image), (shape[1], shape[0]))
    return fitted


def _require_square(shape: tuple[int, int, int]) -> None:
    if shape[0] != shape[1]:
        raise SearchError(
            f"the model needs {shape[0]}x{shape[1]} images but pictures are cropped to squares: give an .npz file "
            f"instead"
        )
