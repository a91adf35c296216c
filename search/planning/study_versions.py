"""Take over the trials that still fit into the next version of a study whose space or settings changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FixedTrial, create_trial

from models.hyperparameters import Hyperparameters
from search.engine.job import CORRUPTED_FILE, PROBABILITIES_FILE, WEIGHTS_FILE, trial_folder
from studies.definition import Definition
from studies.records import FOREIGN, record_of
from studies.replicates import replicates_of, store_replicate
from studies.settings import StudySettings, stored_settings
from studies.trials import COUNTED, TAKEN_FROM

MUST_AGREE = ("weights", "own_backbone", "recipe", "objective", "keras_backend", "precision")
"""Settings that must be equal for two trials with the same hyperparameters to be the same trial."""


def take_over(old: optuna.Study, new: optuna.Study, definition: Definition, trials: Path) -> dict[int, int]:
    """Add the finished trials of `old` that lie in the new study's space, with their files.

    Args:
        definition: Search space of the new study.
        trials: Folder where trials leave their files.

    Returns:
        Old trial number -> new one; empty if any setting in MUST_AGREE differs.
    """
    before, after = stored_settings(old), stored_settings(new)
    if any(getattr(before, key) != getattr(after, key) for key in MUST_AGREE):
        return {}
    taken: dict[int, int] = {}
    for trial in old.get_trials(deepcopy=False, states=COUNTED):
        record = record_of(trial)
        values = _whole(record.hyperparameters, definition)
        if record.state == FOREIGN or definition.why_not(values) is not None:
            continue
        fixed = FixedTrial(definition.searched(values))
        definition.suggest(fixed)
        new.add_trial(
            create_trial(
                state=trial.state,
                value=trial.value,
                params=fixed.params,
                distributions=fixed.distributions,
                user_attrs=trial.user_attrs | {TAKEN_FROM: f"{stored_settings(old).name} {trial.number}"},
                intermediate_values=trial.intermediate_values,
                constraints=trial.constraints,
            )
        )
        number = len(new.get_trials(deepcopy=False)) - 1
        _link(
            trial_folder(trials, stored_settings(old).name, trial.number), trial_folder(trials, new.study_name, number)
        )
        taken[trial.number] = number
    return taken


def take_over_replicates(storage: RDBStorage, old: str, new: StudySettings, taken: Mapping[int, int]) -> None:
    """Take over the retraining scores of the trials that were `taken` over (old number -> new one).

    Without these scores, the luckiest trial of the search would be the best of the new version.
    """
    for one in replicates_of(storage, old):
        if one.what.trial in taken and new.objective in one.scores:
            moved = replace(one, what=replace(one.what, trial=taken[one.what.trial]))
            store_replicate(storage, new.name, moved, one.scores[new.objective])


def left_behind_note(left: int, old: str, counted_there: int, new: str) -> str:
    """Return a line on the trials that a new version does not take over because they have no scores yet."""
    trials, are, them = ("trial", "is", "it") if left == 1 else ("trials", "are", "them")
    return (
        f"{left} unfinished {trials} of {old} {are} not taken over: `hpsearch run --study {old} --trials "
        f"{counted_there + left}` finishes {them}, `hpsearch enqueue --study {new} KEY=VALUE` tries the same values "
        f"here"
    )


def _whole(values: dict[str, Any], definition: Definition) -> dict[str, Any]:
    """Return the values with defaults for hyperparameters added since: an older trial was trained with the defaults."""
    missing = [parameter.name for parameter in definition.parameters if parameter.is_used(values)]
    return {name: getattr(Hyperparameters, name) for name in missing} | values


def _link(source: Path, target: Path) -> None:
    """Link a trial's files into another folder, or copy them where the disk supports no hard links."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS_FILE, PROBABILITIES_FILE, CORRUPTED_FILE):
        if (source / name).exists():
            (target / name).unlink(missing_ok=True)
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copy2(source / name, target / name)
