"""Files in a folder that several people share: new ones are writable for the group, and others' are named."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

GROUP = 0o070


def share_with_group(folder: Path) -> None:
    """Let this process and its children make files that the group can write, if the group can write the folder.

    Args:
        folder: Folder to write into; if it is missing, its nearest existing parent counts.
    """
    if _is_shared(nearest(folder)):
        os.umask(os.umask(0) & ~GROUP)


def let_group_write(*paths: Path) -> None:
    """Let the group write files of this user that lie in shared folders. SQLite makes files by a mode of its own."""
    for path in paths:
        if path.exists() and path.stat().st_uid == os.geteuid() and _is_shared(path.parent):
            path.chmod(stat.S_IMODE(path.stat().st_mode) | stat.S_IRGRP | stat.S_IWGRP)


def not_writable(paths: Iterable[Path]) -> str | None:
    """Return the first existing path that this user cannot write, with its owner, as words; None if there is none."""
    found = next((path for path in paths if path.exists() and not may_write(path)), None)
    return f"{belongs(found)}, and you cannot write it" if found else None


def may_write(path: Path) -> bool:
    """Return whether this user may write an existing path; on a disk mounted for reading alone, nobody may."""
    return os.access(path, os.W_OK, effective_ids=True)


def belongs(path: Path) -> str:
    """Return "PATH belongs to OWNER"; for a missing path, of its nearest existing parent."""
    there = nearest(path)
    number = there.stat().st_uid
    try:
        owner = pwd.getpwuid(number).pw_name
    except KeyError:  # common in containers
        owner = f"user {number}"
    return f"{there} belongs to {owner}"


def nearest(path: Path) -> Path:
    """Return the path, or its nearest parent that exists and can be seen."""
    return next(one for one in (path, *path.absolute().parents) if os.path.exists(one))


def _is_shared(folder: Path) -> bool:
    """Return whether the group may write everything in a folder; in a sticky one such as /tmp, only their own files."""
    mode = folder.stat().st_mode
    return bool(mode & stat.S_IWGRP) and not mode & stat.S_ISVTX
