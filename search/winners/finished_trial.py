"""Find a finished trial and the job that trained it, so that it can be trained again exactly as before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.storages import RDBStorage

from models.backbones.registry import NAMED_WEIGHTS
from models.keras_config import backend_name
from search.engine.job import TrainingJob
from search.engine.loop import seed_of
from search.errors import SearchError
from search.planning.open_study import job_maker
from search.planning.planned_study import PlannedStudy
from search.planning.run_options import weights_identity
from search.workspace import Workspace
from studies.definition import definition_of
from studies.records import TrialRecord, record_of
from studies.settings import StudySettings, stored_settings
from studies.storage import load_study
from studies.trials import BATCH_DIVISOR, TAKEN_FROM


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial with the job that trained it.

    Attributes:
        settings: Settings of the study that trained it. A new version of that study may have taken it over since.
        record: Stored record of the trial, with the figures of all epochs.
        job: Job with the same seed, hyperparameters, cache precision and batch divisor; `folder` is the trial's.
    """

    settings: StudySettings
    record: TrialRecord
    job: TrainingJob


def finished_trial(
    workspace: Workspace, storage: RDBStorage, study: optuna.Study, number: int, weights: str | None = None
) -> FinishedTrial:
    """Return the trial with this number; one taken over from an earlier version, from the study that trained it.

    Args:
        weights: File with the pretrained weights, for a study whose weights came from a file.

    Raises:
        SearchError: There is no such trial, it failed or is not finished, or it cannot be trained here as before.
    """
    trial = _trial(study, number)
    record, settings = record_of(trial), stored_settings(study)
    if record.state not in ("complete", "pruned") or record.failure:
        failure = record.failure
        how = f"ended with {failure['kind']}, see {failure['log']}" if failure else record.state_text
        raise SearchError(
            f"trial {number} of {study.study_name} cannot be repeated ({how}): choose a complete or pruned trial"
        )
    if origin := trial.user_attrs.get(TAKEN_FROM):
        name, _, old_number = origin.rpartition(" ")
        return finished_trial(workspace, storage, load_study(storage, name), int(old_number), weights)
    if settings.keras_backend != backend_name():
        raise SearchError(
            f"the study {settings.name} was made with KERAS_BACKEND={settings.keras_backend}, and {backend_name()} "
            f"gives other figures: set that variable"
        )
    planned = PlannedStudy(settings, definition_of(settings.space), _weights(settings, weights), False)
    seed = seed_of(settings.seed, number, "training")
    job = job_maker(workspace, planned)(number, record.hyperparameters, seed)
    return FinishedTrial(settings, record, replace(job, batch_divisor=trial.user_attrs.get(BATCH_DIVISOR, 1)))


def _trial(study: optuna.Study, number: int) -> optuna.trial.FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if not 0 <= number < len(trials):
        there = f"trials 0 to {len(trials) - 1}" if trials else "no trials yet"
        raise SearchError(f"there is no trial {number} in {study.study_name}: it has {there}")
    return trials[number]


def _weights(settings: StudySettings, file: str | None) -> str:
    """Return the name of the study's weights, or the file after checking that the study started from it."""
    if settings.weights in NAMED_WEIGHTS:
        if file is not None:
            raise SearchError(
                f"the study {settings.name} was made with weights {settings.weights}: leave --weights out"
            )
        return settings.weights
    if file is None:
        raise SearchError(f"the study {settings.name} was made with weights from a file: name that file by --weights")
    if not Path(file).is_file():
        raise SearchError(f"there is no file {file}: name the weights that the study {settings.name} was made with")
    if weights_identity(file) != settings.weights:
        raise SearchError(f"the study {settings.name} was made with other weights than {file}: name its own file")
    return file
