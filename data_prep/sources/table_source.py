"""Labelled pictures from a table: a CSV of paths and labels, or the metadata file of a folder."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from data_prep.errors import DataError
from data_prep.sources.listing import Entry, Listing, require_distinct
from data_prep.sources.table_rows import GROUP_COLUMNS, Line, Table, read_lines

PATH_COLUMNS = ("path", "file", "file_name", "image", "filename", "filepath", "image_path")
LABEL_COLUMNS = ("label", "class", "category", "target")
SIDE_COLUMNS = ("split",)

SIDE_NAMES: Mapping[str, int] = MappingProxyType(
    {"train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2, "testing": 2}
)
"""Accepted names of splits -> 0 train, 1 validation, 2 test."""


def list_table(path: Path, *, labelled: bool = True) -> Listing:
    """List the pictures that a table names by paths relative to itself.

    Classes are the labels, whole numbers first and by value. A missing picture is noticed only when it is read. If the
    column `split` names one split only, the source has no split of its own.

    Args:
        path: Path of the table.
        labelled: Whether each row must have a label. If False, labels, splits and groups are ignored.

    Raises:
        DataError: A column is missing, or a row has no path, no label or no known split, or repeats a picture.
    """
    return listing_of(read_lines(path), labelled=labelled)


def listing_of(table: Table, *, labelled: bool = True) -> Listing:
    """List the pictures of a table that is already read; arguments and errors are those of `list_table`."""
    column = table.required(PATH_COLUMNS)
    label = table.required(LABEL_COLUMNS) if labelled else None
    side, group = (table.column(names) if labelled else None for names in (SIDE_COLUMNS, GROUP_COLUMNS))
    entries, line_of = [], dict[str, int]()
    for line in table.lines:
        name = Path(_filled(table, line, column)).as_posix()
        if name in line_of:
            raise DataError(
                f"{table.path} line {line.number}: {name} is already in line {line_of[name]}: give each picture one row"
            )
        line_of[name] = line.number
        entries.append(
            Entry(
                name,
                table.path.parent / name,
                _filled(table, line, label) if label else "",
                _side(table, line, side) if side else None,
                line.values.get(group, "") if group else "",
            )
        )
    class_names = sorted({entry.label for entry in entries}, key=label_order)
    require_distinct(class_names, str(table.path))
    return Listing(tuple(entries), tuple(class_names))


def has_labels(table: Table) -> bool:
    """Return whether the table has a column of labels."""
    return table.column(LABEL_COLUMNS) is not None


def _filled(table: Table, line: Line, column: str) -> str:
    value = line.values.get(column, "")
    if not value:
        raise DataError(
            f"{table.path} line {line.number}: the row has no {column}: fill the column {column}, or remove the row"
        )
    return value


def _side(table: Table, line: Line, column: str) -> int:
    value = line.values.get(column, "")
    if value.casefold() not in SIDE_NAMES:
        raise DataError(
            f"{table.path} line {line.number}: {column} must be one of {', '.join(SIDE_NAMES)}, but is {value!r}"
        )
    return SIDE_NAMES[value.casefold()]


def label_order(label: str) -> tuple[bool, int, str]:
    """Return a sort key that puts whole numbers first, by value, and other labels after them, alphabetically."""
    number = label.isascii() and label.isdecimal() and len(label) < 10
    return not number, int(label) if number else 0, label
