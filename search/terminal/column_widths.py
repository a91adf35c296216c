"""Fit a table into a terminal: figures are never folded; if it is narrow, the least important columns are left out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len

NAMES = ("study", "backbone", "name")
"""Columns whose values are arguments of other commands; they are folded last."""
FRAME = 3
"""Width that each column takes besides its text; the whole table takes 1 more."""
SHORTEST_TEXT = 14
SHORTEST_NAME = 6


@dataclass(frozen=True)
class Room:
    """The widths that a column can do with."""

    natural: int
    """Without folding anything."""
    least: int
    """With folded headings and texts, but whole names and figures."""
    last: int
    """With folded names too."""


def room_of(column: str, values: Sequence[Any], texts: Sequence[str]) -> Room:
    """Return the widths of a column with these values and their texts."""
    heading = column.replace("_", " ")
    word = max(map(cell_len, heading.split()), default=0)
    longest = max((cell_len(line) for text in texts for line in text.splitlines()), default=0)
    natural = max(cell_len(heading), longest)
    if column in NAMES:
        return Room(natural, max(word, longest), min(natural, max(word, SHORTEST_NAME)))
    if all(map(is_figure, values)):
        return Room(natural, max(word, longest), max(word, longest))
    folded = min(natural, max(word, SHORTEST_TEXT))
    return Room(natural, folded, min(folded, max(word, SHORTEST_NAME)))


def is_figure(value: Any) -> bool:
    """Return whether a cell holds a figure, such as 0.6927, `0.69 (0.64-0.75)` or `31 s`, which is not to be folded."""
    return value is None or isinstance(value, int | float) or bool(re.match(r"[-+]?[\d.]|-?$", str(value)))


def fitted(rooms: dict[str, Room], least: Sequence[str], width: int) -> dict[str, int]:
    """Return the width of each column that is shown.

    Args:
        rooms: Column -> its room.
        least: Columns that may be left out, the least important first.
        width: Width of the terminal.
    """
    shown = dict(rooms)
    for column in least:
        if table_width([room.least for room in shown.values()]) <= width:
            break
        shown.pop(column, None)
    widths = {column: room.least for column, room in shown.items()}
    for column, room in reversed(shown.items()):  # too narrow even so: names are folded
        widths[column] -= max(0, min(room.least - room.last, table_width(widths.values()) - width))
    for column, room in shown.items():
        widths[column] += max(0, min(room.natural - widths[column], width - table_width(widths.values())))
    return widths


def table_width(widths: Iterable[int]) -> int:
    """Return the width of a table whose columns have these widths."""
    return sum(width + FRAME for width in widths) + 1
