"""The SQLite file of the studies, handled without Optuna: checks of its location and content, and backups."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil

from studies.errors import StudyError, way_back
from studies.file_locks import lock
from studies.files import replacing
from studies.shared_files import let_group_write, not_writable

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
    path.parent.mkdir(parents=True, exist_ok=True)
    check_place(path)
    if reason := not_writable(_files(path)):
        raise StudyError(f"{reason}: ask for `chmod g+w`, or work on a copy of the workspace{_stale(path)}")
    with lock(path.parent / ".studies.lock"), _named(path, *errors):
        if path.exists() and path.stat().st_size:
            with connected(path) as connection:
                _check_content(path, connection)
        yield
        let_group_write(*_files(path), path.parent / ".studies.lock")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection for reading an existing database.

    Where this user cannot write all its files, it leaves none behind: they would lock out those who can.

    Raises:
        StudyError: There is no database, or it cannot be read.
    """
    check_exists(path)
    if not not_writable(_files(path)):
        with opening(path), connected(path) as connection:
            yield connection
        return
    check_place(path)
    with _named(path), _untouched(path) as connection:
        _check_content(path, connection)
        yield connection


def can_write(path: Path) -> bool:
    """Return whether this user can write the database: its files and their folder."""
    return not_writable(_files(path)) is None


def _files(path: Path) -> tuple[Path, Path, Path, Path]:
    """Return the database's folder and files: the database itself, its write-ahead log and the log's index."""
    return path.parent, path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")


def _stale(path: Path) -> str:
    *others, index = _files(path)
    if not_writable(others) or not_writable([index]) is None:
        return ""
    return f"; while nobody uses the workspace, {index.name} may be removed"


@contextmanager
def _named(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn errors of SQLite, and `errors`, into a StudyError."""
    kinds: tuple[type[Exception], ...] = (sqlite3.DatabaseError, *errors)
    try:
        yield
    except kinds as error:
        if shutil.disk_usage(path.parent).free < ROOM_TO_OPEN and can_write(path):
            raise StudyError(f"{path} cannot be opened, the disk is full: free some space") from error
        raise StudyError(f"{path} cannot be opened as a study database: {_short(error)}") from error


@contextmanager
def _untouched(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that writes nothing beside the database."""
    _, _, log, index = _files(path)
    with tempfile.TemporaryDirectory(prefix="hpsearch-") as folder:
        if log.exists() and index.exists():  # perhaps somebody is writing: SQLite keeps to their locks
            where, how = path, "mode=ro&readonly_shm=1"
        elif log.exists() and log.stat().st_size:  # nobody is connected, and only a copy can take up the log
            where, how = Path(folder, path.name), "mode=rw"
            for one in (path, log):
                shutil.copyfile(one, where.with_name(one.name))
        else:
            where, how = path, "immutable=1"
        name = f"file:{quote(os.fsencode(where.absolute()))}?{how}"
        with closing(sqlite3.connect(name, timeout=BUSY_TIMEOUT_S, uri=True)) as connection:
            yield connection


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


def _check_content(path: Path, connection: sqlite3.Connection) -> None:
    """Raise an error if the database is damaged or has another program's tables."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables <= OPTUNA_TABLES and not tables >= {"studies", "trials", "version_info"}:
        raise StudyError(f"{path} is another program's database: name another workspace with -w")
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"it is damaged, {found}; {way_back(path.name)}")


def backup_database(path: Path, target: Path) -> None:
    """Copy the database to `target`; the copy is complete even if trials are stored meanwhile.

    Raises:
        StudyError: There is no database, or the copy cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial, reading(path) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # a single file, without a write-ahead log
        let_group_write(target)
    except (OSError, sqlite3.Error) as error:
        raise StudyError(f"{path} cannot be copied to {target}: {_short(error)}") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
