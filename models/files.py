"""Atomic file writing.

studies/files.py has the same function, because neither package imports the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial."
"""Prefix of the names of unfinished files."""


@contextmanager
def replacing(path: Path, *, shared: bool = False, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends, and is deleted if the block fails.

    A process that is killed at any moment leaves either the old file or the new one.

    Args:
        path: The file to replace. Its folder must exist.
        shared: Whether several processes may write this file at the same time. Each then uses its own temporary name.
        sync: Whether to force the content to disk first, so that a power cut does not leave an empty file.
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
