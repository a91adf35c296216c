"""Lists of pictures that were found but are not read yet, and the function that reads them."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.progress import Progress
from data_prep.sources.labelled_images import LabelledImages, Unreadable
from data_prep.sources.picture_files import read_pictures
from data_prep.storage.spilled_arrays import room_for


@dataclass(frozen=True)
class Entry:
    """A picture to be read.

    Attributes:
        name: Unique name: the path below the folder, or the path as written in the table.
        path: Location of the file.
        label: Name of its class.
        side: Its split: 0 train, 1 validation, 2 test. None if the source does not say.
        group: Name of its group, such as the patient or slide; empty if unknown.
    """

    name: str
    path: Path
    label: str
    side: int | None = None
    group: str = ""


@dataclass(frozen=True)
class Listing:
    """All pictures of a source.

    Attributes:
        entries: Pictures to be read.
        class_names: Names of the classes, indexed by label.
        unreadable: Files that were found but cannot be used, with the reason.
    """

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def brings_split(self) -> bool:
        """Whether every picture has a split and there are at least two splits; a single one does not count."""
        sides = {entry.side for entry in self.entries}
        return None not in sides and len(sides) > 1


def read_listing(listing: Listing, image_size: int, progress: Progress) -> LabelledImages:
    """Read the pictures, crop each to its central square and resize it.

    Args:
        listing: Pictures to be read.
        image_size: Side in pixels after resizing.
        progress: Receives the number of pictures read.

    Returns:
        Images uint8 (n, image_size, image_size, 3), in the order of the listing. Pictures that cannot be read are in
        `unreadable`, with the reason.
    """
    entries = listing.entries
    progress.start("reading pictures", len(entries))
    shape = (len(entries), image_size, image_size, 3)
    images = room_for(shape, "the pictures")
    found: list[Entry] = []
    unreadable = list(listing.unreadable)
    pictures = read_pictures((entry.path for entry in entries), image_size)
    for entry, picture in zip(entries, pictures, strict=True):
        progress.advance(1)
        if isinstance(picture, str):
            unreadable.append(Unreadable(entry.name, picture))
            continue
        images[len(found)] = picture
        found.append(entry)
    numbers = {name: number for number, name in enumerate(listing.class_names)}
    return LabelledImages(
        images[: len(found)],
        np.array([numbers[entry.label] for entry in found], np.int64),
        listing.class_names,
        tuple(entry.name for entry in found),
        tuple(unreadable),
        np.array([entry.side for entry in found], np.int8) if listing.brings_split else None,
        group_numbers([entry.group for entry in found]) if any(entry.group for entry in found) else None,
    )


def group_numbers(names: Sequence[str]) -> np.ndarray:
    """Number the groups 0, 1, ... in the order of their first image.

    Args:
        names: Name of each image's group; an image with an empty name is a group of its own.

    Returns:
        int64 (n,).
    """
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(names)], np.int64)


def require_distinct(class_names: Iterable[str], source: str) -> None:
    """Require class names that differ in more than case, spaces around them or the encoding of accents.

    Raises:
        DataError: Two names are too similar.
    """
    by_normalized_name: dict[str, str] = {}
    for name in class_names:
        normalized = unicodedata.normalize("NFKC", name).casefold().strip()
        if normalized in by_normalized_name:
            raise DataError(
                f"{source} has the classes {by_normalized_name[normalized]!r} and {name!r}, which differ only in case, "
                "spaces or the encoding of accents: use one name if they are one class, or clearly different names"
            )
        by_normalized_name[normalized] = name
