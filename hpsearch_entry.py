"""Start of the command `hpsearch` and of its child processes, under a name that no other project has.

Python looks through PYTHONPATH before the installed packages, so a user's own `models` or `search` would be imported in
place of ours. Here ours are found first. Run as a script, this file runs a module of hpsearch:
    python -P hpsearch_entry.py MODULE [ARGUMENT]...
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

FOLDER = str(Path(__file__).absolute().parent)
PACKAGES = ("data_prep", "models", "search", "studies")


class OwnPackages:
    """Import finder for hpsearch's packages; all other modules are left to Python."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [FOLDER], target) if name in PACKAGES else None


def main() -> None:
    """Run the command line."""
    sys.meta_path.insert(0, OwnPackages())
    from search.cli import main as command_line

    command_line(prog_name="hpsearch")


if __name__ == "__main__":
    sys.meta_path.insert(0, OwnPackages())
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
