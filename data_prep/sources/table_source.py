"""Pictures named by a table, with a label each: a CSV of paths and labels, or the metadata of a folder."""

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
"""What people call the sides of a split -> 0 train, 1 validation, 2 test."""


def list_table(path: Path, *, labelled: bool = True) -> Listing:
    """Pictures named in a table, by paths relative to it; classes are the labels, numbers in their order.

    A file that is not there shows when it is read. Where only one side stands in the column `split`, it is no split.

    Args:
        labelled: whether each row must have a label; otherwise labels are not looked at.

    Raises:
        DataError: a column is missing, or a row has no path, no label, no known split, or names a picture again.
    """
    return listing_of(read_lines(path), labelled=labelled)


def listing_of(table: Table, *, labelled: bool = True) -> Listing:
    """As `list_table`, of a table that is read already."""
    column = table.required(PATH_COLUMNS)
    label = table.required(LABEL_COLUMNS) if labelled else None
    side, group = (table.column(names) if labelled else None for names in (SIDE_COLUMNS, GROUP_COLUMNS))
    entries, line_of = [], dict[str, int]()
    for line in table.lines:
        name = Path(_filled(table, line, column)).as_posix()
        if name in line_of:
            raise DataError(
                f"{table.path} line {line.number}: {name} stands in line {line_of[name]} already: "
                "give one row a picture"
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
    """Whether the table has a column of labels."""
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
    """Whole numbers by value, before other labels by their letters."""
    number = label.isascii() and label.isdecimal() and len(label) < 10
    return not number, int(label) if number else 0, label
