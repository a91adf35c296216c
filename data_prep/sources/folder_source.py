"""Labelled pictures from a folder: with class folders, with split folders that hold class folders, or with a table."""

from pathlib import Path

from data_prep.errors import DataError
from data_prep.sources.labelled_images import Unreadable
from data_prep.sources.listing import Entry, Listing, require_distinct
from data_prep.sources.picture_files import SUFFIXES
from data_prep.sources.table_rows import Table, read_lines
from data_prep.sources.table_source import SIDE_NAMES, has_labels, label_order, listing_of

METADATA = ("metadata.csv", "metadata.jsonl")
"""Names of tables beside pictures, as in Hugging Face's `imagefolder`, with the columns `file_name` and `label`."""

_UNPACKED = "__MACOSX"  # folder that macOS adds to zip files
_NO_CLASS = "lies in no folder of a class, so it has no label"


def list_folder(folder: Path) -> Listing:
    """List all pictures in a folder, sorted; hidden files and folders are skipped.

    The folder has one of three layouts:

    - A table (METADATA) with labels, in the folder itself or in a split folder, names the pictures and their classes.
    - If all subfolders have names of splits (`train`, `validation`, `test` and so on), and one or more of them contain
      folders or such a table, they are the source's own split.
    - Otherwise each subfolder is a class.

    Raises:
        DataError: There are neither class folders nor a table, two class names differ only in case, the table is
            invalid, or a folder cannot be read.
    """
    try:
        return _listed(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error


def _listed(folder: Path) -> Listing:
    sides = _split_folders(folder)
    table = _labelled_table(folder)
    if table is not None:
        return _below(listing_of(table), sides, folder)
    if not any(path.is_dir() or path.name in METADATA for place in sides for path in _visible(place)):
        sides = {}  # classes that happen to be named like splits
    parts = [_part(folder, place, side) for place, side in (sides or {folder: None}).items()]
    class_names = sorted({name for part in parts for name in part.class_names}, key=label_order)
    if not class_names:
        raise DataError(
            f"{folder} has no subfolders: put the pictures into one folder per class, named after the class"
        )
    require_distinct(class_names, str(folder))
    stray = [
        Unreadable(str(path.relative_to(folder)), _NO_CLASS)
        for place in {folder: None} | sides
        if _labelled_table(place) is None
        for path in _visible(place)
        if path.suffix.lower() in SUFFIXES and not path.is_dir()
    ]
    return Listing(tuple(entry for part in parts for entry in part.entries), tuple(class_names), tuple(stray))


def labelled(folder: Path) -> bool:
    """Return whether a folder has labels: class folders, or a table with labels."""
    return bool(class_folders(folder)) or _labelled_table(folder) is not None


def class_folders(folder: Path) -> list[Path]:
    """Return the class folders, sorted by name.

    Raises:
        DataError: A name is not valid Unicode, so that no output file could contain it.
    """
    folders = [path for path in _visible(folder) if path.is_dir()]
    for path in folders:
        if any("\ud800" <= sign <= "\udfff" for sign in path.name):
            raise DataError(f"the folder name {path.name!r} in {folder} is not valid Unicode: rename the folder")
    return folders


def _split_folders(folder: Path) -> dict[Path, int | None]:
    """Return the split folders, each with 0 train, 1 validation or 2 test; empty if any folder has another name."""
    sides = {path: SIDE_NAMES.get(path.name.casefold()) for path in class_folders(folder)}
    return {} if None in sides.values() else sides


def _part(root: Path, folder: Path, side: int | None) -> Listing:
    """List the pictures in a split folder or in the whole source; their names are paths relative to the root."""
    table = _labelled_table(folder)
    if table is not None:
        return _below(listing_of(table), {folder: side}, root)
    kinds = class_folders(folder)
    found = [(kind.name, path) for kind in kinds for path in _visible(kind)]
    entries = [Entry(str(path.relative_to(root)), path, kind, side) for kind, path in found]
    return Listing(tuple(entries), tuple(kind.name for kind in kinds))


def _below(listing: Listing, sides: dict[Path, int | None], root: Path) -> Listing:
    """Return the listing with names relative to the root, and each picture in the split whose folder holds it."""
    entries = []
    for entry in listing.entries:
        name = str(entry.path.relative_to(root)) if entry.path.is_relative_to(root) else entry.name
        side = next((side for place, side in sides.items() if entry.path.is_relative_to(place)), entry.side)
        entries.append(Entry(name, entry.path, entry.label, side, entry.group))
    return Listing(tuple(entries), listing.class_names, listing.unreadable)


def _labelled_table(folder: Path) -> Table | None:
    """Return the folder's table if it has a column of labels, else None."""
    for name in METADATA:
        if (folder / name).is_file():
            table = read_lines(folder / name)
            if has_labels(table):
                return table
    return None


def _visible(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name != _UNPACKED)
    return sorted(found, key=lambda path: path.name)
