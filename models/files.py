"""Files that are there whole or not at all (studies/files.py has the same: neither package imports the other)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial."
"""What the names of unfinished files begin with."""


@contextmanager
def replacing(path: Path, *, shared: bool = False, sync: bool = True) -> Iterator[Path]:
    """Yield a path to write to. What is written there replaces `path` when the block ends, and is removed if it fails.

    A kill at any moment leaves the old file or the new one.

    Args:
        path: The file to replace. Its folder must exist.
        shared: Several processes may write this file at the same time, each under a name of its own.
        sync: Force the content to disk first, so that a power cut does not leave an empty file either.
    """
    partial = path.with_name(f"{PARTIAL}{f'{os.getpid()}.' if shared else ''}{path.name}")
    try:
        yield partial
        if sync:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
