"""Kinds of source that labelled images can be read from. To add a kind, add a row to SOURCES and one to kinds.KINDS."""

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.progress import Progress, Silent
from data_prep.settings import PrepareSettings
from data_prep.sources import demo_set, folder_source, medmnist, npz_source, table_source, tfds_source
from data_prep.sources.kinds import KINDS
from data_prep.sources.labelled_images import LabelledImages
from data_prep.sources.listing import Listing, read_listing
from data_prep.sources.picture_files import not_a_file
from data_prep.sources.table_rows import is_table


@dataclass(frozen=True)
class Source:
    """A kind of source. Its functions get the SOURCE argument of `hpsearch prepare` as `source`.

    Attributes:
        kind: Name in manifests, a key of KINDS.
        recognise: (source) -> whether it is of this kind.
        read: (source, image size in pixels, seed, progress; options by name) -> the images.
        digest: (source, seed) -> sha256 of its content, hexadecimal, without decoding it.
        resized: Whether images are resized to `image_size`.
        options: Further options of PrepareSettings that this kind takes, with their defaults.
        brings_split: (source) -> whether it has its own split; no pixels are read.
        fetch: (source, progress), downloads what `digest` reads; the attribute is None if no download is needed.
    """

    kind: str
    recognise: Callable[[str], bool]
    read: Callable[..., LabelledImages]
    digest: Callable[[str, int], str]
    resized: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    brings_split: Callable[[str], bool] = lambda source: False
    fetch: Callable[[str, Progress], None] | None = None

    @property
    def describe(self) -> str:
        """Description for help and errors."""
        return KINDS[self.kind]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error


def _listing_digest(listing: Listing) -> str:
    """Return a sha256 over names, labels, splits, groups and contents, or the reason if an entry is not a file."""
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
        lambda source: source == "demo",
        lambda source, size, seed, progress: demo_set.demo_images(seed, progress).data,
        lambda source, seed: hashlib.sha256(f"demo {demo_set.VERSION} {seed}".encode()).hexdigest(),
    ),
    Source(
        "medmnist",
        medmnist.is_known,
        lambda source, image_size, seed, progress, size: medmnist.read_set(source, size, progress),
        lambda source, seed: medmnist.set_digest(source),
        options={"size": medmnist.DEFAULT_SIZE},
        brings_split=lambda source: True,
    ),
    Source(
        "tfds",
        lambda source: source.startswith(tfds_source.PREFIX),
        lambda source, size, seed, progress: tfds_source.read_set(source, size, progress),
        lambda source, seed: tfds_source.set_digest(source),
        resized=True,
        brings_split=tfds_source.brings_split,
        fetch=tfds_source.fetch_set,
    ),
    Source(
        "folder",
        lambda source: Path(source).is_dir(),
        lambda source, size, seed, progress: read_listing(folder_source.list_folder(Path(source)), size, progress),
        lambda source, seed: _listing_digest(folder_source.list_folder(Path(source))),
        resized=True,
        brings_split=lambda source: folder_source.list_folder(Path(source)).brings_split,
    ),
    Source(
        "table",
        lambda source: is_table(Path(source)),
        lambda source, size, seed, progress: read_listing(table_source.list_table(Path(source)), size, progress),
        lambda source, seed: _listing_digest(table_source.list_table(Path(source))),
        resized=True,
        brings_split=lambda source: table_source.list_table(Path(source)).brings_split,
    ),
    Source(
        "npz",
        lambda source: Path(source).is_file(),
        lambda source, size, seed, progress, value_range: npz_source.read_npz(Path(source), value_range),
        lambda source, seed: file_digest(Path(source)),
        options={"value_range": None},
        brings_split=lambda source: npz_source.brings_split(Path(source)),
    ),
)


def find_source(source: str) -> Source:
    """Return the row of SOURCES for a SOURCE.

    Raises:
        DataError: It is neither an existing path nor a known name.
    """
    for row in SOURCES:
        if row.recognise(source):
            return row
    near = difflib.get_close_matches(source, ("demo", *medmnist.SETS), 1, cutoff=0.7)
    meant = f"did you mean {near[0]}?" if near else "`hpsearch prepare --help` lists the kinds of source"
    kinds = ", ".join(row.kind for row in SOURCES)
    raise DataError(
        f"there is no file or folder {source!r}, and no set of that name (kinds of source: {kinds}): {meant}"
    )


def source_options(settings: PrepareSettings) -> dict[str, Any]:
    """Return all settings that only some kinds of source take, for the main source.

    A setting for an external set alone becomes None. One that nothing takes stays, and is refused later.
    """
    names = {name for row in SOURCES for name in row.options}
    taken, given = find_source(settings.source).options, {name: getattr(settings, name) for name in sorted(names)}
    for name in given:
        if given[name] is not None and name not in taken:
            externals = map(find_source, settings.external_sources.values())
            given[name] = None if any(name in row.options for row in externals) else given[name]
    return given


def resolved_options(row: Source, **given: Any) -> dict[str, Any]:
    """Return the options of this kind of source, with its defaults in place of None.

    Raises:
        DataError: An option is given that only other kinds take.
    """
    for name, value in given.items():
        if value is not None and name not in row.options:
            kinds = " or ".join(other.kind for other in SOURCES if name in other.options)
            raise DataError(f"--{name.replace('_', '-')} is for sources of kind {kinds}, not {row.kind}: leave it out")
    return {name: default if given.get(name) is None else given[name] for name, default in row.options.items()}


def fetch_source(source: str, progress: Progress) -> None:
    """Download what must be on this machine before the digest of a source can be computed.

    Raises:
        DataError: The source is not found, or the download fails.
    """
    row = find_source(source)
    if row.fetch is not None:
        row.fetch(source, progress)


def read_source(
    source: str,
    image_size: int = 96,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    class_names: Sequence[str] = (),
    **options: Any,
) -> LabelledImages:
    """Read all images of a source, with labels.

    Args:
        source: Path or name that a row of SOURCES recognises.
        image_size: Side in pixels to which pictures are centre-cropped and resized; arrays keep their size.
        seed: Seed of the demo set.
        progress: Receives the number of images read; None reports nothing.
        class_names: Names of the classes, indexed by label, for a source that numbers them; empty keeps the source's.
        options: Options as returned by `source_options`; None or a missing option means the source's default.

    Raises:
        DataError: The source is not found, cannot be read or is invalid. Single pictures that cannot be read do not
            raise; they are listed in `unreadable`.
    """
    row = find_source(source)
    data = row.read(source, image_size, seed, progress or Silent(), **resolved_options(row, **options))
    if len(data.images) == 0:
        bad = data.unreadable
        why = f" ({len(bad):,} unreadable, the first is {bad[0].name}: {bad[0].reason})" if bad else ""
        raise DataError(f"{source} has no readable images{why}: give a source with labelled images")
    return _named(data, tuple(class_names), source) if class_names else data


def _named(data: LabelledImages, names: tuple[str, ...], source: str) -> LabelledImages:
    """Return the images with these names in place of class numbers."""
    classes = len(data.class_names)
    if data.class_names == names:
        return data
    if data.class_names != tuple(map(str, range(classes))):
        shown = ", ".join(data.class_names[:5]) + (", ..." if classes > 5 else "")
        raise DataError(
            f"class names are for sources that number their classes, but {source} has {shown}: drop --class-names"
        )
    if len(names) != classes:
        raise DataError(f"class names must be one for each of the {classes} classes of {source}, but are {len(names)}")
    return replace(data, class_names=names)


def require_classes(data: LabelledImages, source: str) -> None:
    """Require two or more classes, each with an image.

    Raises:
        DataError: There is one class only, or a class has no image.
    """
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    present = [name for name, count in zip(data.class_names, counts, strict=True) if count]
    if len(present) < 2:
        raise DataError(f"{source} has images of one class only ({present[0]}): a classifier needs two or more classes")
    if len(data.class_names) > len(data.labels):
        raise DataError(
            f"{source} has labels up to {len(data.class_names) - 1}, but only {len(data.labels)} images: "
            "number the labels 0, 1, 2, ... without gaps"
        )
    empty = [name for name, count in zip(data.class_names, counts, strict=True) if not count]
    if empty:
        named = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise DataError(
            f"{source} has {len(data.class_names)} classes, but no readable image of {named}: "
            "number the labels 0, 1, 2, ... without gaps, or remove the empty folder"
        )
