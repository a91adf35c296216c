"""Pictures found but not read yet, with what is known of each, and how they are read."""

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
        name: unique; the path below the folder, or as a table has it.
        path: where it lies.
        label: name of its class.
        side: 0 train, 1 validation, 2 test; None where the source does not say.
        group: what it belongs to; empty where nothing is known.
    """

    name: str
    path: Path
    label: str
    side: int | None = None
    group: str = ""


@dataclass(frozen=True)
class Listing:
    """All pictures of a source, and what was found that can be none."""

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def brings_split(self) -> bool:
        """Whether every picture has a side and there are two sides or three: one alone is no split."""
        sides = {entry.side for entry in self.entries}
        return None not in sides and len(sides) > 1


def read_listing(listing: Listing, image_size: int, progress: Progress) -> LabelledImages:
    """Pictures, cropped to the central square and resized. Unreadable ones are listed with the reason.

    Returns:
        Images (n, image_size, image_size, 3), in the order of the listing.
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
    """Names of groups as numbers 0, 1, ... in the order of their first image; those without a name stand alone.

    Returns:
        int64 (n,).
    """
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(names)], np.int64)


def require_distinct(class_names: Iterable[str], source: str) -> None:
    """Raises DataError where two classes have one name but for upper and lower case, or how accents are written."""
    by_normalized_name: dict[str, str] = {}
    for name in class_names:
        normalized = unicodedata.normalize("NFKC", name).casefold().strip()
        if normalized in by_normalized_name:
            raise DataError(
                f"{source} has the classes {by_normalized_name[normalized]!r} and {name!r}, one name but for case, "
                "accents or spaces: give both one name if they are one class, or clearly different ones"
            )
        by_normalized_name[normalized] = name
