"""images.csv: one row per image read, with what was decided about it and why."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from data_prep.errors import DataError

KEPT, REJECTED, LEFT_OUT = "kept", "rejected", "left out"


@dataclass(frozen=True)
class ImageRow:
    """One image read; every field as text, empty where it does not apply.

    Attributes:
        name: path below the source's folder, or row number.
        label: number of its class; empty for unreadable pictures.
        class_name: name of its class.
        decision: "kept", "rejected", or "left out" (by --limit).
        reason: of a rejection.
        detail: of a rejection.
        distance: pHash distance in bits to what it was compared with.
        twin: name of the image kept in its place.
        group: number of its group.
        split: train, validation or test.
        row: its row in the split's arrays.
        phash: 64 bits, hexadecimal.
    """

    name: str
    label: str = ""
    class_name: str = ""
    decision: str = KEPT
    reason: str = ""
    detail: str = ""
    distance: str = ""
    twin: str = ""
    group: str = ""
    split: str = ""
    row: str = ""
    phash: str = ""


_COLUMNS = [field.name for field in fields(ImageRow)]


def write_table(path: Path, rows: Iterable[ImageRow]) -> None:
    """Writes the rows with a header."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)


def read_table(path: Path) -> list[ImageRow]:
    """Reads them back. Raises DataError when the file is missing or damaged."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [ImageRow(**row) for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): run `hpsearch prepare --force`") from error
