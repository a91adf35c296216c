"""Print tables on the terminal, or the same rows as JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from search.terminal.column_widths import fitted, room_of, table_width
from search.terminal.streams import spelled
from search.workspace import DEFAULT_FOLDER, Workspace

IN_DEMO = "HPSEARCH_IN_DEMO"
"""Environment variable that the demo sets for the commands it runs."""
MIN_WIDTH_WITHOUT_TERMINAL = 160


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or error; it is wide if that is no terminal, so that logs are not wrapped."""
    # With the stream itself, rich asks for its encoding, and draws lines that this has.
    file = sys.stderr if stderr else sys.stdout
    out = Console(file=file, highlight=False)
    if out.is_terminal:
        return out
    return Console(file=file, highlight=False, width=max(out.width, MIN_WIDTH_WITHOUT_TERMINAL))


def print_next(workspace: Workspace, command: str) -> None:
    """Print the command that usually comes next; nothing in the demo, which calls the commands itself."""
    if os.environ.get(IN_DEMO):
        return
    folder = str(workspace.folder)
    where = "" if folder == DEFAULT_FOLDER else f"-w {shlex.quote(folder)} "
    click.echo(f"Next: hpsearch {where}{command}")


def print_json(rows: Any) -> None:
    """Print rows as indented JSON."""
    click.echo(json.dumps(rows, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], least: Sequence[str] | None = None) -> None:
    """Print one row per mapping, with numbers right-aligned, floats to four decimals, and a dash for missing values.

    Args:
        rows: Values by column.
        columns: Columns from left to right.
        least: Columns that a narrow terminal may leave out, the least important first; None: all but the first two,
            from the right.
    """
    out, letters = console(), getattr(sys.stdout, "letters", "utf-8")
    values = {column: [row.get(column) for row in rows] for column in columns}
    texts = {column: [spelled(cell(value), letters) for value in values[column]] for column in columns}
    rooms = {column: room_of(column, values[column], texts[column]) for column in columns}
    droppable = () if not out.is_terminal else tuple(reversed(columns[2:])) if least is None else least
    widths = fitted(rooms, droppable, out.width)
    if not out.is_terminal:
        out.width = max(out.width, table_width(widths.values()))
    table = Table(box=box.SIMPLE_HEAD)
    for column, width in widths.items():
        numeric = all(isinstance(value, int | float) or value is None for value in values[column])
        heading = column.replace("_", " ")
        table.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold", width=width)
    for cells in _joined([texts[column] for column in widths], list(widths.values())):
        table.add_row(*map(Text, cells))
    out.print(table)
    if left_out := [column.replace("_", " ") for column in columns if column not in widths]:
        click.echo(f"Left out at this width: {', '.join(left_out)}")


def _joined(texts: list[list[str]], widths: list[int]) -> list[tuple[str, ...]]:
    """Return the rows; merged into one of many lines if no cell is folded, because rich takes a millisecond per row."""
    is_plain = not any("\n" in text for column in texts for text in column)
    fits = all(cell_len(text) <= width for column, width in zip(texts, widths, strict=True) for text in column)
    if is_plain and fits and texts and texts[0]:
        return [tuple("\n".join(column) for column in texts)]
    return list(zip(*texts, strict=True))


def cell(value: Any) -> str:
    """Return the text of a table cell: four decimals, thousands separators, a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1; for nouns whose plural takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def short(value: Any) -> str:
    """Return a value as text, floats with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """Return the text of a figure, with its 95 % interval if the row has one."""
    low, high = row.get("intervals", {}).get(name, (None, None))
    return f"{cell(row[name])} ({cell(low)}-{cell(high)})" if low is not None else cell(row[name])


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
