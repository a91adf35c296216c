"""Studies in an SQLite file, written through Optuna's own storage, so that any Optuna tool can read them."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError

from studies.errors import StudyError
from studies.replicates import replicate_study
from studies.settings import ATTRIBUTE, StudySettings, identities, settings_from, store_settings
from studies.sqlite_file import BUSY_TIMEOUT_S, check_exists, connected, opening
from studies.trials import TAKEN_FROM

READY = "hpsearch:ready"
"""User attribute of a study whose creation is finished."""


def database_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a database file; the path may contain any characters.

    Raises:
        StudyError: The path has bytes that are no UTF-8, which SQLAlchemy cannot pass on.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise StudyError(
            f"the path {str(path)!a} is not UTF-8: rename its folder, or name another workspace with -w"
        ) from None
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(path: Path) -> RDBStorage:
    """Open the database, or create it.

    Raises:
        StudyError: The file is damaged, no database, or another program's, or lies on a network file system.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the command line reports studies and trials itself
    with opening(path, DatabaseError):
        with connected(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # stored in the file; readers then never block the writer
        try:
            return RDBStorage(database_url(path), engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_S}})
        except RuntimeError as error:
            raise StudyError(_other_schema(path, str(error))) from error


def _other_schema(path: Path, why: str) -> str:
    """Return the message for a database whose tables are those of another version of Optuna."""
    if "storage upgrade" in why:
        mend = f"copy it, then run `optuna storage upgrade --storage {shlex.quote(database_url(path))}`"
        return f"{path} has the tables of an older Optuna: {mend}"
    if "updating optuna" in why:
        return (
            f"{path} has the tables of a newer Optuna than {optuna.__version__}: update it with `pip install -U optuna`"
        )
    return f"{path} cannot be opened as a study database: {why}"


def existing_storage(path: Path) -> RDBStorage:
    """Open an existing database.

    Raises:
        StudyError: There is none yet, or `open_storage` cannot open it.
    """
    check_exists(path)
    return open_storage(path)


def study_names(storage: RDBStorage) -> list[str]:
    """Return the sorted names of the studies that hpsearch created; other studies in the file are skipped.

    A study that was renamed in the dashboard has its old name here (see `studies.settings.identities`).
    """
    return sorted(_identities(storage).values())


def _identities(storage: RDBStorage) -> dict[str, str]:
    """Return the name in the database of each study that hpsearch created, and the name by which hpsearch knows it."""
    texts = {one.study_name: one.user_attrs.get(ATTRIBUTE) for one in storage.get_all_studies()}
    return identities({name: settings_from(text) for name, text in texts.items() if text is not None})


def load_study(storage: RDBStorage, name: str) -> optuna.Study:
    """Load a study by the name by which hpsearch knows it, or by the one that it was given in the dashboard.

    Raises:
        StudyError: There is no such study; the message lists the existing ones.
    """
    names = _identities(storage)
    for stored, known in names.items():
        if name in (known, stored):
            return optuna.load_study(study_name=stored, storage=storage)
    raise StudyError(f"there is no study {name!r}; existing studies: {', '.join(sorted(names.values())) or 'none'}")


def is_complete(study: optuna.Study) -> bool:
    """Return whether the creation of a study was finished: its first trials were queued or taken over.

    Studies of earlier versions of hpsearch lack the mark READY. They count as complete if they have trained a trial
    themselves.
    """
    if READY in study.user_attrs:
        return True
    return any(ATTRIBUTE in one.user_attrs and TAKEN_FROM not in one.user_attrs for one in study.trials)


def create_study(storage: RDBStorage, settings: StudySettings) -> optuna.Study:
    """Create an empty study with its settings; call `finish_study` after adding its first trials.

    It replaces a study of the same name that has no trials or whose creation was interrupted, and the leftover
    replicates of a study that was deleted in the dashboard.

    Raises:
        StudyError: A study of this name has trials and is complete, or hpsearch did not create it.
    """
    names = optuna.study.get_all_study_names(storage)
    if settings.name in names:
        there = optuna.load_study(study_name=settings.name, storage=storage)
        if there.trials and ATTRIBUTE not in there.user_attrs:
            raise StudyError(f"the study {settings.name} was not created by hpsearch; use another workspace")
        if there.trials and is_complete(there):
            raise StudyError(f"a study named {settings.name} exists already; use another workspace")
        optuna.delete_study(study_name=settings.name, storage=storage)
    if left := replicate_study(storage, settings.name):
        optuna.delete_study(study_name=left, storage=storage)
    study = optuna.create_study(storage=storage, study_name=settings.name, direction="maximize")
    store_settings(study, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([settings.objective])  # the dashboard labels its axes with it
    return study


def finish_study(study: optuna.Study) -> None:
    """Mark the creation of a study as finished."""
    study.set_user_attr(READY, True)
