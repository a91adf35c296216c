"""The README names every command and lists the backbones as the table has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.backbones import BACKBONES, default_weights
from search.cli import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_readme(name: str) -> None:
    assert f"hpsearch {name}" in README or f"make {name}" in README


@pytest.mark.parametrize("row", BACKBONES, ids=lambda row: row.name)
def test_the_table_of_backbones_is_that_of_the_code(row: object) -> None:
    line = "| {0.name} | {0.parameters:,} | {0.native_size} | {0.preprocessing} | {1} |"
    assert line.format(row, default_weights(row)) in README  # type: ignore[arg-type]
