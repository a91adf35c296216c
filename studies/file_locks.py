"""Locks between processes: the kernel lets go of one when its holder ends, however it ends."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def lock(path: Path, *, shared: bool = False, wait: bool = True) -> IO[str]:
    """Take the lock on a file, which is made where there is none. Closing the returned file lets go of it.

    Local disks only: these locks do not cross a network.

    Args:
        path: The lock file. Its folder is made where there is none.
        shared: Several holders at a time, as long as none holds it alone.
        wait: Wait for other holders to let go.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is false.
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a")  # noqa: SIM115  the caller closes it
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        handle.close()
        raise
    return handle


def is_free(path: Path) -> bool:
    """Return whether nobody holds the lock on this file."""
    if not path.exists():
        return True
    try:
        lock(path, wait=False).close()
    except BlockingIOError:
        return False
    return True
