"""Tables on the terminal, or the same rows as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

MIN_WIDTH_WITHOUT_TERMINAL = 160
NAMES = ("study", "backbone", "name")
"""Columns of what other commands are given: never folded."""


def console(*, stderr: bool = False) -> Console:
    """Standard output, or error; wide where nobody looks, so that a log or a pipe is not folded."""
    out = Console(highlight=False, stderr=stderr)
    if out.is_terminal:
        return out
    return Console(highlight=False, stderr=stderr, width=max(out.width, MIN_WIDTH_WITHOUT_TERMINAL))


def print_json(rows: Any) -> None:
    click.echo(json.dumps(rows, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """One row per mapping; numbers to the right, floats to four places, absent values as a dash."""
    out, table = console(), Table(box=box.SIMPLE_HEAD)
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float) or row.get(column) is None for row in rows)
        table.add_column(
            column.replace("_", " "), justify="right" if numeric else "left", overflow="fold", no_wrap=column in NAMES
        )
    texts = [[cell(row.get(column)) for column in columns] for row in rows]
    for cells in _joined(texts, columns, out.width):
        table.add_row(*map(Text, cells))
    out.print(table)


def _joined(texts: list[list[str]], columns: Sequence[str], width: int) -> list[list[str]]:
    """All rows as one of many lines, where none has to be folded: rich takes a millisecond for each row."""
    widths = (max(map(cell_len, (name, *column))) for name, *column in zip(columns, *texts, strict=True))
    fits = sum(widths) + 2 * len(columns) + len("  ") <= width
    is_plain = not any("\n" in text for row in texts for text in row)
    return [["\n".join(column) for column in zip(*texts, strict=True)]] if texts and fits and is_plain else texts


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def with_interval(row: Mapping[str, Any], name: str) -> str:
    """A figure with its 95 % interval, where the row has one."""
    low, high = row.get("intervals", {}).get(name, (None, None))
    return f"{cell(row[name])} ({cell(low)}-{cell(high)})" if low is not None else cell(row[name])


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
