"""The SQLite file of the studies, handled without Optuna: checks of its location and content, and backups."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil

from studies.errors import StudyError, way_back
from studies.file_locks import lock
from studies.files import replacing

BUSY_TIMEOUT_S = 60
"""Seconds to wait for another process's lock on the database."""
ROOM_TO_OPEN = 1_000_000
"""Bytes that a new database and its write-ahead log need. With less, SQLite reports only an input/output error."""
OPTUNA_TABLES = {
    *("studies", "study_directions", "study_user_attributes", "study_system_attributes", "trials", "trial_params"),
    *("trial_values", "trial_intermediate_values", "trial_user_attributes", "trial_system_attributes"),
    *("trial_heartbeats", "version_info", "alembic_version"),
}
"""Tables of Optuna. It creates them one by one, so an interrupted start leaves some; the next one adds the rest."""
NETWORK_FILE_SYSTEMS = (
    *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "9p", "afs", "ceph", "glusterfs"),
    *("lustre", "gpfs", "beegfs", "webdav", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"),
    *("fuse.drive", "fuse.rclone", "fuse.gcsfuse"),  # Google Drive on Colab, and mounted cloud storage
)


def check_exists(path: Path) -> None:
    """Raise StudyError if there is no database yet."""
    if not path.is_file():
        raise StudyError(f"there are no studies in {path.parent} yet: start one with `hpsearch run --backbone NAME`")


@contextmanager
def opening(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Check the file, and hold a lock while the block opens the database or creates it.

    Without the lock, processes that start together on a new file would create its tables at the same time.

    Args:
        path: Database file. Its folder is created if it is missing.
        errors: Exceptions of the block that become a StudyError, besides sqlite3.DatabaseError.

    Raises:
        StudyError: The file is damaged, no database, or another program's, or lies on a network file system; or the
            block raised one of `errors`.
    """
    kinds: tuple[type[Exception], ...] = (sqlite3.DatabaseError, *errors)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_place(path)
    with lock(path.parent / ".studies.lock"):
        try:
            _check_content(path)
            yield
        except kinds as error:
            if shutil.disk_usage(path.parent).free < ROOM_TO_OPEN:
                raise StudyError(f"{path} cannot be opened, the disk is full: free some space") from error
            raise StudyError(f"{path} cannot be opened as a study database: {_short(error)}") from error


def connected(path: Path) -> closing[sqlite3.Connection]:
    """Return a connection that closes at the end of a `with` block."""
    return closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S))


def check_place(path: Path) -> None:
    """Raise StudyError if the file lies on a network file system.

    SQLite's write-ahead log needs memory that all its readers share, so they must run on one machine.
    """
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    around = next((place for place in path.resolve().parents if place in mounts), None)
    kind = mounts[around].lower() if around else ""
    if kind in NETWORK_FILE_SYSTEMS:
        raise StudyError(
            f"{path} lies on a network file system ({kind}, {around}), where SQLite loses data: name a workspace on a "
            f"local disk with -w"
        )


def _check_content(path: Path) -> None:
    """Raise an error if the file is damaged or has another program's tables."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with connected(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables <= OPTUNA_TABLES and not tables >= {"studies", "trials", "version_info"}:
            raise StudyError(f"{path} is another program's database: name another workspace with -w")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged, {found}; {way_back(path.name)}")


def backup_database(path: Path, target: Path) -> None:
    """Copy the database to `target`; the copy is complete even if trials are stored meanwhile.

    Raises:
        StudyError: The copy cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial, connected(path) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # a single file, without a write-ahead log
    except (OSError, sqlite3.Error) as error:
        raise StudyError(f"{path} cannot be copied to {target}: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
