"""Where labelled images come from. To add a kind of source, add a row to SOURCES."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep import demo_set, folder_source, npz_source, table_source
from data_prep.errors import DataError
from data_prep.images import LabelledImages
from data_prep.listing import Listing, read_listing
from data_prep.pictures import FORMAT_NAMES, not_a_file
from data_prep.progress import Progress, Silent
from data_prep.tables import is_table


@dataclass(frozen=True)
class Source:
    """A kind of source.

    Attributes:
        kind: its name in manifests.
        describe: what it looks like, for help and errors.
        recognise: whether a SOURCE is of this kind.
        read: (source, image size in pixels, seed, progress) -> the images.
        digest: (source, seed) -> sha256 of its content, hexadecimal, without decoding it.
        resized: whether `image_size` matters.
    """

    kind: str
    describe: str
    recognise: Callable[[str], bool]
    read: Callable[[str, int, int, Progress], LabelledImages]
    digest: Callable[[str, int], str]
    resized: bool = False


def file_digest(path: Path) -> str:
    """Sha256 of a file, hexadecimal. Raises DataError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error


def _listing_digest(listing: Listing) -> str:
    """Of names, labels, sides, groups and content; of what is no file, the reason."""
    digest = hashlib.sha256("\n".join(listing.class_names).encode())
    for entry in listing.entries:
        content = not_a_file(entry.path) or file_digest(entry.path)
        parts = (entry.name, entry.label, str(entry.side), entry.group, content)
        digest.update(("\0".join(parts) + "\n").encode(errors="surrogateescape"))
    for bad in listing.unreadable:
        digest.update(f"{bad.name}\0{bad.reason}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


SOURCES = (
    Source(
        "demo",
        "demo (a drawn set of about 1,500 cells)",
        lambda source: source == "demo",
        lambda source, size, seed, progress: demo_set.demo_images(seed, progress).data,
        lambda source, seed: hashlib.sha256(f"demo {demo_set.VERSION} {seed}".encode()).hexdigest(),
    ),
    Source(
        "folder",
        f"a folder with a folder of {FORMAT_NAMES} pictures per class, or train/ and test/ folders with those in them",
        lambda source: Path(source).is_dir(),
        lambda source, size, seed, progress: read_listing(folder_source.list_folder(Path(source)), size, progress),
        lambda source, seed: _listing_digest(folder_source.list_folder(Path(source))),
        resized=True,
    ),
    Source(
        "table",
        "a .csv, .tsv or .jsonl table with the columns path and label",
        lambda source: is_table(Path(source)),
        lambda source, size, seed, progress: read_listing(table_source.list_table(Path(source)), size, progress),
        lambda source, seed: _listing_digest(table_source.list_table(Path(source))),
        resized=True,
    ),
    Source(
        "npz",
        "an .npz file with `images` (n, h, w, 3) uint8 and `labels` (n,)",
        lambda source: Path(source).is_file(),
        lambda source, size, seed, progress: npz_source.read_npz(Path(source)),
        lambda source, seed: file_digest(Path(source)),
    ),
)


def find_source(source: str) -> Source:
    """The row for a SOURCE. Raises DataError when there is nothing at that path."""
    for row in SOURCES:
        if row.recognise(source):
            return row
    kinds = "; ".join(row.describe for row in SOURCES)
    raise DataError(f"there is no file or folder {source!r}: give one of: {kinds}")


def read_source(
    source: str, image_size: int = 96, *, seed: int = 0, progress: Progress | None = None
) -> LabelledImages:
    """All images of a source, with labels.

    Args:
        source: path of a file or a folder, or "demo".
        image_size: side in pixels for sources of pictures (centre crop, then resized); others keep their size.
        seed: of the demo set.
        progress: told of images read.

    Raises:
        DataError: nothing there, unreadable, or not what it should be. Single unreadable pictures are
            listed in `unreadable` instead.
    """
    data = find_source(source).read(source, image_size, seed, progress or Silent())
    if len(data.images) == 0:
        raise DataError(f"{source} has no readable images: give a source with labelled images")
    return data


def require_classes(data: LabelledImages, source: str) -> None:
    """Raises DataError unless there are two or more classes and each has an image."""
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    present = [name for name, count in zip(data.class_names, counts, strict=True) if count]
    if len(present) < 2:
        raise DataError(f"{source} has images of one class only ({present[0]}): a classifier needs two or more classes")
    if len(data.class_names) > len(data.labels):
        raise DataError(
            f"{source} has labels up to {len(data.class_names) - 1} and {len(data.labels)} images, fewer than classes: "
            "number the labels 0, 1, 2, ... without gaps"
        )
    empty = [name for name, count in zip(data.class_names, counts, strict=True) if not count]
    if empty:
        named = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise DataError(
            f"{source} has {len(data.class_names)} classes, but no readable image of {named}: "
            "number the labels 0, 1, 2, ... without gaps, or remove the empty folder"
        )
