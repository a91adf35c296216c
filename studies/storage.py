"""Studies in an SQLite file, through Optuna's own storage, so that any Optuna tool reads them."""

from __future__ import annotations

import warnings
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError

from studies.errors import StudyError
from studies.replicates import SUFFIX
from studies.settings import ATTRIBUTE, StudySettings, store_settings
from studies.sqlite_file import BUSY_TIMEOUT_S, check_exists, connected, opening
from studies.trials import TAKEN_FROM

READY = "hpsearch:ready"


def database_url(path: Path) -> str:
    """For SQLAlchemy, whatever signs are in the path."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def open_storage(path: Path) -> RDBStorage:
    """Opens or creates the database. StudyError when the file is damaged, no database, or another program's, or lies on
    a network file system."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the command line tells of studies and trials itself
    with opening(path, DatabaseError, RuntimeError):
        with connected(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # stays with the file; readers never block the writer
        return RDBStorage(database_url(path), engine_kwargs={"connect_args": {"timeout": BUSY_TIMEOUT_S}})


def existing_storage(path: Path) -> RDBStorage:
    """Opens the database of studies that are there. StudyError when there is none yet."""
    check_exists(path)
    return open_storage(path)


def study_names(storage: RDBStorage) -> list[str]:
    """The studies that hpsearch made; others that may be in the file are passed over."""
    return sorted(study.study_name for study in storage.get_all_studies() if ATTRIBUTE in study.user_attrs)


def load_study(storage: RDBStorage, name: str) -> optuna.Study:
    """StudyError that lists the studies there are when this one is not there."""
    names = study_names(storage)
    if name not in names:
        raise StudyError(f"there is no study {name!r}; there are {', '.join(names) or 'none'}")
    return optuna.load_study(study_name=name, storage=storage)


def is_complete(study: optuna.Study) -> bool:
    """Whether its making was not cut off before the first trials were queued or taken over. A study of before this was
    marked is complete when it has trained a trial itself."""
    if READY in study.user_attrs:
        return True
    return any(ATTRIBUTE in one.user_attrs and TAKEN_FROM not in one.user_attrs for one in study.trials)


def create_study(storage: RDBStorage, settings: StudySettings) -> optuna.Study:
    """A new, empty study that carries its settings; `finish_study` when its first trials are in it. It replaces one of
    that name without a trial, or whose making was cut off, and what is left of one that the dashboard deleted."""
    names = optuna.study.get_all_study_names(storage)
    if settings.name in names:
        there = optuna.load_study(study_name=settings.name, storage=storage)
        if there.trials and (ATTRIBUTE not in there.user_attrs or is_complete(there)):
            raise StudyError(f"the study {settings.name} was not made by hpsearch; use another workspace")
        optuna.delete_study(study_name=settings.name, storage=storage)
    if settings.name + SUFFIX in names:
        optuna.delete_study(study_name=settings.name + SUFFIX, storage=storage)
    study = optuna.create_study(storage=storage, study_name=settings.name, direction="maximize")
    store_settings(study, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([settings.objective])  # what the dashboard writes at its axes
    return study


def finish_study(study: optuna.Study) -> None:
    study.set_user_attr(READY, True)
