"""Open a planned study in the database, or make it if it is new, and make the jobs of its trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from models.backbones.registry import NAMED_WEIGHTS
from search.engine.job import MakeJob, NetworkSource, TrainingJob, trial_folder
from search.planning.planned_study import PlannedStudy
from search.planning.study_versions import left_behind_note, take_over, take_over_replicates
from search.planning.warm_start import Hints, take_hints
from search.workspace import Workspace
from studies.proposals import tried
from studies.pruners import PRUNERS
from studies.storage import create_study, finish_study, load_study, study_names
from studies.trials import count_finished, count_unfinished

Say = Callable[[str], None]


def open_study(
    storage: RDBStorage, planned: PlannedStudy, trials: Path, say: Say, hints: Hints | None = None
) -> optuna.Study:
    """Open the planned study, or make it if it is new.

    A new version takes over the trials of the version before it. Any other new study queues the hyperparameters to try
    first.

    Args:
        trials: Folder where trials leave their files.
        say: Called with a line on whatever was taken over, queued or skipped.
        hints: Best trials of another study. They are queued first, also in a study that exists already.
    """
    settings = planned.settings
    if planned.is_new:
        study = create_study(storage, settings)
        if planned.predecessor is not None:
            _take_over(storage, planned, study, trials, say)
        if hints is not None:
            take_hints(study, planned.definition, hints, say)
        if planned.predecessor is None:
            _queue_first(study, planned, say)
        finish_study(study)
    else:
        study = load_study(storage, settings.name)
        if hints is not None:
            take_hints(study, planned.definition, hints, say)
    study.pruner = _pruner(planned)
    return study


def reopened(storage: RDBStorage, planned: PlannedStudy) -> optuna.Study | None:
    """Return a study that was renamed while it was searched; None if it was deleted."""
    if planned.settings.name not in study_names(storage):
        return None
    study = load_study(storage, planned.settings.name)
    study.pruner = _pruner(planned)
    return study


def _pruner(planned: PlannedStudy) -> optuna.pruners.BasePruner:
    return PRUNERS[planned.settings.pruner](planned.head_epochs, planned.settings.recipe["epochs"])


def _take_over(storage: RDBStorage, planned: PlannedStudy, study: optuna.Study, trials: Path, say: Say) -> None:
    assert planned.predecessor is not None
    old = load_study(storage, planned.predecessor.name)
    taken = take_over(old, study, planned.definition, trials)
    take_over_replicates(storage, planned.predecessor.name, planned.settings, taken)
    say(f"{len(taken)} of {count_finished(old)} trials of {planned.predecessor.name} fit and are taken over")
    if left := count_unfinished(old):
        say(left_behind_note(left, planned.predecessor.name, count_finished(old), planned.settings.name))


def _queue_first(study: optuna.Study, planned: PlannedStudy, say: Say) -> None:
    definition = planned.definition
    for first in definition.first:
        if why := definition.why_not(first):
            say(f"skipping hyperparameters to try first: {why}")
        elif tried(study, definition.searched(first)) is None:  # a hint may have queued the same values
            study.enqueue_trial(definition.searched(first))


def network_source(workspace: Workspace, planned: PlannedStudy) -> NetworkSource:
    """Return the data that a training process needs to build the study's network."""
    settings = planned.settings
    named = planned.weights in NAMED_WEIGHTS
    return NetworkSource(
        prepared=str(workspace.prepared.resolve()),
        backbone=settings.backbone,
        weights=planned.weights if named else str(Path(planned.weights).resolve()),
        own_backbone=settings.own_backbone,
        backbone_file=workspace.backbone_file(settings.own_backbone),
    )


def job_maker(workspace: Workspace, planned: PlannedStudy) -> MakeJob:
    """Return the function that makes the jobs of the study's trials."""
    settings, source = planned.settings, network_source(workspace, planned)

    def make(number: int, hyperparameters: Mapping[str, Any], seed: int) -> TrainingJob:
        return TrainingJob(
            settings=settings,
            source=source,
            folder=str(trial_folder(workspace.trials, settings.name, number).resolve()),
            hyperparameters=dict(hyperparameters),
            seed=seed,
            cache_folder=str(workspace.features.resolve()),
        )

    return make
