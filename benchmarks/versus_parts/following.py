"""Write the search space of hpsearch's systems, with the peer's trials as the first to try. Part of ../versus.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SPACE = Path(__file__).parent / "space.toml"
OUR_NAMES = {"frozen": "frozen_fraction"}


def space_with(proposed: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write the peers' space as a file for `hpsearch run --space`; return its path.

    Args:
        proposed: Hyperparameters to try first, under the peers' names.
        folder: Folder of the file.
    """
    tables = [SPACE.read_text()]
    for values in proposed:
        rows = [f"{OUR_NAMES.get(name, name)} = {json.dumps(value)}" for name, value in values.items()]
        tables.append("\n".join(["[[first]]", *rows, ""]))
    path = folder / SPACE.name
    path.write_text("\n".join(tables))
    return path
