"""Studies in an SQLite file, through Optuna's own storage, so that any Optuna tool reads them."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path

import optuna
import psutil
from optuna.storages import RDBStorage
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError

from studies.errors import StudyError
from studies.settings import ATTRIBUTE, StudySettings, store_settings

BUSY_TIMEOUT_S = 60
ROOM_TO_OPEN = 1_000_000
"""Bytes that a new database and its write-ahead log take; without them SQLite speaks of input and output alone."""
READY = "hpsearch:ready"
OPTUNA_TABLES = {"studies", "trials", "version_info"}
NETWORK_FILE_SYSTEMS = (
    *("nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "9p", "afs", "ceph", "glusterfs"),
    *("lustre", "gpfs", "beegfs", "webdav", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs"),
)


def database_url(path: Path) -> str:
    """For SQLAlchemy, whatever signs are in the path."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(path: Path) -> RDBStorage:
    """Opens or creates the database. StudyError when the file is damaged, no database, or another program's, or lies on
    a network file system."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the command line tells of studies and trials itself
    path.parent.mkdir(parents=True, exist_ok=True)
    check_place(path)
    # Processes that start together on a fresh file would race for the schema: one at a time.
    with open(path.parent / ".studies.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _check_content(path)
            with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")  # stays with the file; readers never block the writer
            return RDBStorage(database_url(path), engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_S}})
        except (sqlite3.DatabaseError, DatabaseError, RuntimeError) as error:
            if shutil.disk_usage(path.parent).free < ROOM_TO_OPEN:
                raise StudyError(f"{path} cannot be opened, the disk is full: free some space") from error
            raise StudyError(f"{path} cannot be opened as a study database: {_short(error)}") from error


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
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not tables >= OPTUNA_TABLES:
            raise StudyError(f"{path} is another program's database: name another workspace with -w")
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged, {found}; put a file that `hpsearch backup` made in its place")


def backup_database(path: Path, target: Path) -> None:
    """A copy of the database as it is now, whole even while trials are stored. StudyError when it cannot be written."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, which is the whole of it
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except (OSError, sqlite3.Error) as error:
        raise StudyError(f"{path} cannot be copied to {target}: {_short(error)}") from error
    finally:
        partial.unlink(missing_ok=True)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def existing_storage(path: Path) -> RDBStorage:
    """Opens the database to read. StudyError when there is none yet."""
    if not path.is_file():
        raise StudyError(f"there are no studies in {path.parent} yet: start one with `hpsearch run --backbone NAME`")
    return open_storage(path)


def study_names(storage: RDBStorage) -> list[str]:
    """The studies that hpsearch made; others that may be in the file are passed over."""
    summaries = optuna.study.get_all_study_summaries(storage, include_best_trial=False)
    return sorted(summary.study_name for summary in summaries if ATTRIBUTE in summary.user_attrs)


def load_study(storage: RDBStorage, name: str) -> optuna.Study:
    """StudyError that lists the studies there are when this one is not there."""
    names = study_names(storage)
    if name not in names:
        raise StudyError(f"there is no study {name!r}; there are {', '.join(names) or 'none'}")
    return optuna.load_study(study_name=name, storage=storage)


def is_complete(study: optuna.Study) -> bool:
    """Whether its making was not cut off before the first trials were queued or taken over."""
    return READY in study.user_attrs or any(ATTRIBUTE in trial.user_attrs for trial in study.trials)


def create_study(storage: RDBStorage, settings: StudySettings) -> optuna.Study:
    """A new, empty study that carries its settings; `finish_study` when its first trials are in it. It replaces one of
    that name without a trial, or whose making was cut off."""
    if settings.name in optuna.study.get_all_study_names(storage):
        there = optuna.load_study(study_name=settings.name, storage=storage)
        if there.trials and (ATTRIBUTE not in there.user_attrs or is_complete(there)):
            raise StudyError(f"the study {settings.name} was not made by hpsearch; use another workspace")
        optuna.delete_study(study_name=settings.name, storage=storage)
    study = optuna.create_study(storage=storage, study_name=settings.name, direction="maximize")
    store_settings(study, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([settings.objective])  # what the dashboard writes at its axes
    return study


def finish_study(study: optuna.Study) -> None:
    study.set_user_attr(READY, True)
