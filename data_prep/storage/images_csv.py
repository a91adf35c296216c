"""images.csv: one row per image read, with the decision about it and the reason."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from data_prep.errors import DataError

KEPT, REJECTED, LEFT_OUT = "kept", "rejected", "left out"


@dataclass(frozen=True)
class ImageRow:
    """Row of images.csv, for one image read. Every field is text, and empty if it does not apply.

    Attributes:
        name: Path below the source's folder, or row number.
        label: Number of its class; empty for unreadable pictures.
        class_name: Name of its class.
        decision: "kept", "rejected", or "left out" (by --limit).
        reason: Short name of the reason for a rejection.
        detail: Details of a rejection, or of why the image was left out.
        distance: pHash distance in bits to the image it was compared with.
        twin: Name of the image kept in its place.
        group: Number of its group.
        split: train, validation or test.
        row: Row in the split's arrays.
        phash: Perceptual hash of 64 bits, hexadecimal.
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
    """Write the rows with a header."""
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)


def read_table(path: Path) -> list[ImageRow]:
    """Read the rows that `write_table` wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [ImageRow(**row) for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): run `hpsearch prepare --force`") from error
