"""Rows of tables that users write: .csv or .tsv (commas, semicolons or tabs), or .jsonl. Columns are found by name."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError

GROUP_COLUMNS = ("group", "patient", "patient_id", "slide", "slide_id")
"""Accepted names of the column that says which images belong together."""
SUFFIXES = (".csv", ".tsv", ".jsonl")
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Attributes:
        number: Number of its line in the file, from 1.
        values: Stripped text by column; empty for an empty cell.
    """

    number: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """All rows and columns of a file."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def column(self, names: Sequence[str]) -> str | None:
        """Return the column called by the first of `names` that exists, ignoring case; None if none exists."""
        by_name = {column.casefold(): column for column in reversed(self.columns)}
        return next((by_name[name] for name in names if name in by_name), None)

    def required(self, names: Sequence[str]) -> str:
        """Return the column that `column` finds.

        Raises:
            DataError: No such column exists.
        """
        found = self.column(names)
        if found is None:
            raise DataError(
                f"{self.path} must have a column {', '.join(names[:-1])} or {names[-1]}, "
                f"but has {', '.join(map(repr, self.columns)) or 'none'}: name the columns in its first line"
            )
        return found


def is_table(path: Path) -> bool:
    """Return whether this is a file with the suffix of a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_lines(path: Path) -> Table:
    """Read a table; empty lines are skipped.

    Raises:
        DataError: The file cannot be read or is not UTF-8, two columns have one name, or a line is invalid. The message
            gives the line's number.
    """
    read = _read_json if path.suffix.lower() == ".jsonl" else _read_csv
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns, lines = read(_text_lines(file, path), path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV table ({error}): write it as CSV") from error
    return Table(path, tuple(columns), tuple(lines))


def _text_lines(file: Iterable[str], path: Path) -> Iterator[str]:
    for line in file:
        if "\0" in line:
            raise DataError(f"{path} is not UTF-8 text (it has zero bytes, as UTF-16 has): save it as UTF-8")
        yield line


def _read_csv(file: Iterator[str], path: Path) -> tuple[list[str], list[Line]]:
    """Read columns and rows. The delimiter is the one that occurs most often in the first line, which names columns."""
    header = next(file, "")
    delimiter = max(_DELIMITERS, key=header.count)
    columns = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}: the columns must have different names, but are {', '.join(map(repr, columns))}")
    lines = []
    reader = csv.reader(file, delimiter=delimiter)
    for fields in reader:
        number = reader.line_num + 1
        if not any(field.strip() for field in fields):
            continue
        if len(fields) > len(columns):
            raise DataError(
                f"{path} line {number}: the row has {len(fields)} fields, but the header only {len(columns)}: "
                "quote values that contain the delimiter"
            )
        values = [field.strip() for field in fields] + [""] * (len(columns) - len(fields))
        lines.append(Line(number, dict(zip(columns, values, strict=True))))
    return columns, lines


def _read_json(file: Iterator[str], path: Path) -> tuple[list[str], list[Line]]:
    lines = list(_json_lines(file, path))
    return list(dict.fromkeys(column for line in lines for column in line.values)), lines


def _json_lines(file: Iterator[str], path: Path) -> Iterator[Line]:
    for number, text in enumerate(file, start=1):
        if not text.strip():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path} line {number}: the row is not valid JSON ({error}): write one object per line"
            ) from error
        if not isinstance(values, dict):
            raise DataError(f"{path} line {number}: the row must be a JSON object, but is {text.strip()[:40]!r}")
        # `_text` replaces half surrogate pairs, which JSON may contain but which cannot be written to other files.
        yield Line(number, {_text(key): "" if value is None else _text(value) for key, value in values.items()})


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode().strip()
