"""Rows of a table that a person wrote: .csv, .tsv (commas, semicolons or tabs) or .jsonl, its columns found by name."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError

GROUP_COLUMNS = ("group", "patient", "patient_id", "slide", "slide_id")
"""What people call the column that tells which images belong together."""
SUFFIXES = (".csv", ".tsv", ".jsonl")
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Line:
    """A row.

    Attributes:
        number: of its line in the file, from 1.
        values: text by column, stripped; empty where nothing stands.
    """

    number: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """All rows of a file."""

    path: Path
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def column(self, names: Sequence[str]) -> str | None:
        """The column called by the first of these names that there is, in upper case or lower; None without one."""
        by_name = {column.casefold(): column for column in reversed(self.columns)}
        return next((by_name[name] for name in names if name in by_name), None)

    def required(self, names: Sequence[str]) -> str:
        """As `column`. Raises DataError where there is none."""
        found = self.column(names)
        if found is None:
            raise DataError(
                f"{self.path} must have a column {', '.join(names[:-1])} or {names[-1]}, "
                f"but has {', '.join(map(repr, self.columns)) or 'none'}: name the columns in its first line"
            )
        return found


def is_table(path: Path) -> bool:
    """Whether this is a file with the suffix of a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_lines(path: Path) -> Table:
    """Reads a table; empty lines are passed over.

    Raises:
        DataError: unreadable, not UTF-8, no header, or a line that does not fit it, by its number.
    """
    read = _read_json if path.suffix.lower() == ".jsonl" else _read_csv
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns, lines = read(file, path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name and permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8 ({error.reason}): save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is no table ({error}): write it as CSV") from error
    return Table(path, tuple(columns), tuple(lines))


def _read_csv(file: Iterator[str], path: Path) -> tuple[list[str], list[Line]]:
    """Columns, as the first line has them, and rows. What parts them is what stands there most often."""
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
                f"{path} line {number}: the row has {len(fields)} fields, and the header {len(columns)}: "
                "put values with a delimiter in them into quotation marks"
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
            raise DataError(f"{path} line {number}: the row is no JSON ({error}): write one object a line") from error
        if not isinstance(values, dict):
            raise DataError(f"{path} line {number}: the row must be a JSON object, but is {type(values).__name__}")
        # A file may hold half a surrogate pair, which no other file could tell of.
        yield Line(number, {_text(key): "" if value is None else _text(value) for key, value in values.items()})


def _text(value: object) -> str:
    return str(value).encode(errors="replace").decode().strip()
