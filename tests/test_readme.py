"""The README names every command and holds the tables of the code. `python tests/test_readme.py` writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_prep.sources.registry import SOURCES
from models.backbones.registry import BACKBONES, default_weights
from models.formats.registry import FORMATS
from search.cli import COMMANDS

PATH = Path(__file__).parents[1] / "README.md"
README = PATH.read_text(encoding="utf-8")


def _table(columns: str, rows: list[tuple[str, ...]]) -> str:
    names = columns.split(", ")
    return "\n".join(f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows))


TABLES = {
    "sources": _table("source, what it looks like", [(row.kind, row.describe) for row in SOURCES]),
    "backbones": _table(
        "backbone, parameters, native size, smallest, preprocessing, default weights",
        [
            (
                row.name,
                f"{row.parameters:,}",
                str(row.native_size),
                str(row.min_size),
                row.preprocessing,
                default_weights(row),
            )
            for row in BACKBONES
        ],
    ),
    "formats": _table(
        "`--format`, what it is, in the folder, needs",
        [
            (row.name, row.title, f"`{row.file}`", f"`pip install 'hpsearch[{row.extra}]'`" if row.extra else "")
            for row in FORMATS.values()
        ],
    ),
}


def _with_tables(text: str) -> str:
    """Each table between its marks, whatever stood there."""
    for name, table in TABLES.items():
        marks = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        text = re.sub(f"{marks[0]}.*?{marks[1]}", lambda _, new=table, m=marks: m[0] + new + m[1], text, flags=re.S)  # type: ignore[misc]
    return text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"hpsearch {name}" in README or f"make {name}" in README


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_the_code(name: str) -> None:
    assert TABLES[name] in README, "run `python tests/test_readme.py`"


if __name__ == "__main__":
    PATH.write_text(_with_tables(README), encoding="utf-8")
