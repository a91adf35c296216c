"""The SQLite file of the studies, known without Optuna: where it may lie, whether it is whole, copies of it."""

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
ROOM_TO_OPEN = 1_000_000
"""Bytes that a new database and its write-ahead log take; without them SQLite speaks of input and output alone."""
OPTUNA_TABLES = {
    *("studies", "study_directions", "study_user_attributes", "study_system_attributes", "trials", "trial_params"),
    *("trial_values", "trial_intermediate_values", "trial_user_attributes", "trial_system_attributes"),
    *("trial_heartbeats", "version_info", "alembic_version"),
}
"""Made one by one, so that a start that was cut off leaves some; the next one makes the others."""
NETWORK_FILE_SYSTEMS = (
    *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "9p", "afs", "ceph", "glusterfs"),
    *("lustre", "gpfs", "beegfs", "webdav", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"),
)


def check_exists(path: Path) -> None:
    """StudyError when there is no database yet."""
    if not path.is_file():
        raise StudyError(f"there are no studies in {path.parent} yet: start one with `hpsearch run --backbone NAME`")


@contextmanager
def opening(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Held while the database is opened, or made where there is none: processes that start together on a fresh file
    would race for its tables.

    StudyError when the file is damaged, no database, or another program's, or lies on a network file system; also in
    place of any of `errors`.
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
    return closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S))


def check_place(path: Path) -> None:
    """StudyError on a network file system: SQLite's write-ahead log needs memory that its readers share."""
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    around = next((place for place in path.resolve().parents if place in mounts), None)
    kind = mounts[around].lower() if around else ""
    if kind in NETWORK_FILE_SYSTEMS:
        raise StudyError(
            f"{path} lies on a network file system ({kind}, {around}), where SQLite loses data: name a workspace on a "
            f"local disk with -w"
        )


def _check_content(path: Path) -> None:
    """StudyError when the file is damaged or has another program's tables."""
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
    """A copy of the database as it is now, whole even while trials are stored. StudyError when it cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial, connected(path) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, which is the whole of it
    except (OSError, sqlite3.Error) as error:
        raise StudyError(f"{path} cannot be copied to {target}: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
