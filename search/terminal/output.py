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

from search.workspace import DEFAULT_FOLDER, Workspace

IN_DEMO = "HPSEARCH_IN_DEMO"
"""Environment variable that the demo sets for the commands it runs."""
MIN_WIDTH_WITHOUT_TERMINAL = 160
NAMES = ("study", "backbone", "name")
"""Columns whose values are arguments of other commands; they are never wrapped."""


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


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print one row per mapping, with numbers right-aligned, floats to four decimals, and a dash for missing values."""
    out, table = console(), Table(box=box.SIMPLE_HEAD)
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float) or row.get(column) is None for row in rows)
        table.add_column(
            Text(column.replace("_", " ")),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=column in NAMES,
        )
    texts = [[cell(row.get(column)) for column in columns] for row in rows]
    for cells in _joined(texts, columns, out.width):
        table.add_row(*map(Text, cells))
    out.print(table)


def _joined(texts: list[list[str]], columns: Sequence[str], width: int) -> list[list[str]]:
    """Merge all rows into one of many lines if nothing needs wrapping, because rich takes a millisecond per row."""
    widths = (max(map(cell_len, (name, *column))) for name, *column in zip(columns, *texts, strict=True))
    fits = sum(widths) + 3 * len(columns) + 1 <= width  # a cell is padded on both sides, and borders are one wide
    is_plain = not any("\n" in text for row in texts for text in row)
    return [["\n".join(column) for column in zip(*texts, strict=True)]] if texts and fits and is_plain else texts


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
