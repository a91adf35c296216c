"""Locks between processes. The kernel releases a lock when the process that holds it ends, even after a crash."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def lock(path: Path, *, shared: bool = False, wait: bool = True) -> IO[bytes]:
    """Take the lock on a file and return the open file; closing it releases the lock.

    Use it on local disks only: other machines on a network file system do not see these locks.

    Args:
        path: Lock file. It and its folder are created if they are missing.
        shared: Allow other shared holders at the same time, but no exclusive one.
        wait: Wait until other holders release the lock.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is false.
        OSError: The file is missing and cannot be made.
    """
    handle = _opened(path)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        handle.close()
        raise
    return handle


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab")
    except OSError:
        if not path.is_file():
            raise
        return open(path, "rb")  # another user's file, or a read-only disk: locking takes no right to write


def holders(path: Path) -> int:
    """Return how many processes hold the lock on this file, as far as this container sees them."""
    try:
        inode, table = path.stat().st_ino, Path("/proc/locks").read_text(encoding="utf-8")
    except OSError:
        return 0
    return sum(f":{inode} " in line and " FLOCK " in line and "->" not in line for line in table.splitlines())


def is_free(path: Path) -> bool:
    """Return whether nobody holds the lock on this file."""
    if not path.exists():
        return True
    try:
        lock(path, wait=False).close()
    except BlockingIOError:
        return False
    return True
