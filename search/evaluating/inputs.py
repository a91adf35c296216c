"""Images given to an exported model, with labels or without: an .npz file, folders, a table of paths, a picture.

Whatever their size, they are treated as pictures are in training: the middle is cropped, then resized.
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

from data_prep.settings import SPLITS, VALUE_RANGES
from search.errors import SearchError

if TYPE_CHECKING:
    from data_prep.progress import Progress
    from data_prep.sources.labelled_images import LabelledImages

CHUNK_IMAGES = 1024
CHUNK_BYTES = 2**26
VALUE_RANGE = click.option(
    "--value-range",
    type=click.Choice(VALUE_RANGES),
    help="Of the values in an .npz file that is not uint8, where they do not tell.",
)
KINDS = "a folder with pictures, a CSV of their paths, a picture, or an .npz file"


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
    """Whether these are labelled: an .npz file with labels, a folder of class folders, a table with them, a set by its
    name."""
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
    """Images to be scored on: uint8 (n, h, w, 3), int (n,) labels, and int (n,) groups where the data tells of any."""

    images: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None


def labelled_images(
    data: str,
    names: tuple[str, ...],
    shape: tuple[int, int, int],
    progress: Progress | None = None,
    value_range: str | None = None,
) -> Labelled:
    """Labels in the model's own class order; of data with a split of its own the test images alone.

    Args:
        data: a SOURCE of data_prep.
        names: the model's classes.
        shape: (h, w, 3) of the images it takes; others are cropped and resized.
        progress: told of images read.
        value_range: one of VALUE_RANGES, of arrays whose values do not tell.

    Raises DataError for other classes, SearchError for pictures where the model takes no squares.
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
    """Rows of the images to score: where the data has a split of its own, a model may know all but the last side."""
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
    """All images of an .npz file, of a folder with all folders in it, of a table of paths, or one
    picture; labels aside.

    Cropped to the middle and resized, as `prepare` does with pictures; hidden files are passed over.

    Args:
        data: one of KINDS.
        shape: (h, w, 3) of the images that come out.
        progress: told of images as they are taken.
        value_range: one of VALUE_RANGES, of arrays whose values do not tell.

    Raises SearchError when there is nothing to read, or pictures where the model takes no squares.
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
    """Name and path of each picture of a folder or a table, or of the one given."""
    from data_prep.sources.table_rows import is_table
    from data_prep.sources.table_source import list_table

    if data.is_dir():
        return [(str(path.relative_to(data)), path) for path in _visible(data)]
    if is_table(data):
        return [(entry.name, entry.path) for entry in list_table(data, labelled=False).entries]
    return [(data.name, data)]


def _visible(folder: Path) -> list[Path]:
    """Files, and links that lead to no file, sorted."""
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
    """Images uint8 (k, h, w, 3) at another size, cropped as pictures are; as they are where they have it."""
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
        raise SearchError(f"the model takes images of {shape}, pictures are cropped to squares: give an .npz file")
