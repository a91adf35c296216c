"""Command lines of child processes that import hpsearch's packages."""

from __future__ import annotations

import sys
from pathlib import Path

import search

ENTRY = Path(search.__file__).absolute().parents[1] / "hpsearch_entry.py"


def own_module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs one of hpsearch's modules.

    Neither a folder on PYTHONPATH nor the current folder (-P) can put a user's own models/ or search/ in its place.
    """
    return (sys.executable, "-P", str(ENTRY), name, *arguments)
