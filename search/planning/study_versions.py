"""A study whose space or settings changed: the next version of it takes over what still fits."""

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
from studies.records import record_of
from studies.replicates import replicates_of, store_replicate
from studies.settings import StudySettings, stored_settings
from studies.trials import COUNTED, TAKEN_FROM

MUST_AGREE = ("weights", "own_backbone", "recipe", "objective", "keras_backend", "precision")
"""Settings without which two trials with the same hyperparameters are not the same trial."""


def take_over(old: optuna.Study, new: optuna.Study, definition: Definition, trials: Path) -> dict[int, int]:
    """Adds the finished trials of `old` that lie in the new study's space, with their files: old number -> new one.

    None is, where weights, a backbone of the user's own, recipe or objective differ.
    """
    before, after = stored_settings(old), stored_settings(new)
    if any(getattr(before, key) != getattr(after, key) for key in MUST_AGREE):
        return {}
    taken: dict[int, int] = {}
    for trial in old.get_trials(deepcopy=False, states=COUNTED):
        values = _whole(record_of(trial).hyperparameters, definition)
        if definition.why_not(values) is not None:
            continue
        fixed = FixedTrial(definition.searched(values))
        definition.suggest(fixed)
        new.add_trial(
            create_trial(
                state=trial.state,
                value=trial.value,
                params=fixed.params,
                distributions=fixed.distributions,
                user_attrs=trial.user_attrs | {TAKEN_FROM: f"{old.study_name} {trial.number}"},
                intermediate_values=trial.intermediate_values,
                constraints=trial.constraints,
            )
        )
        number = len(new.get_trials(deepcopy=False)) - 1
        _link(trial_folder(trials, old.study_name, trial.number), trial_folder(trials, new.study_name, number))
        taken[trial.number] = number
    return taken


def take_over_replicates(storage: RDBStorage, old: str, new: StudySettings, taken: Mapping[int, int]) -> None:
    """What trials that were `taken` over came to when they were trained again: the luckiest of the search would else be
    the best of the new version."""
    for one in replicates_of(storage, old):
        if one.what.trial in taken and new.objective in one.scores:
            moved = replace(one, what=replace(one.what, trial=taken[one.what.trial]))
            store_replicate(storage, new.name, moved, one.scores[new.objective])


def stay_behind(left: int, old: str, counted_there: int, new: str) -> str:
    """Of trials that a new version does not take over, since they have no figures yet."""
    them, s = ("it", "s") if left == 1 else ("them", "")
    return (
        f"{left} unfinished trial{'' if left == 1 else 's'} of {old}, waiting or running, stay{s} there: `hpsearch run "
        f"--study {old} --trials {counted_there + left}` finishes {them}, `hpsearch enqueue --study {new} KEY=VALUE` "
        f"proposes the same values here"
    )


def _whole(values: dict[str, Any], definition: Definition) -> dict[str, Any]:
    """A trial of before knew nothing of hyperparameters that came later, and was trained with their defaults."""
    missing = [parameter.name for parameter in definition.parameters if parameter.is_used(values)]
    return {name: getattr(Hyperparameters, name) for name in missing} | values


def _link(source: Path, target: Path) -> None:
    """The same files under another name, or copies of them where the disk knows no links."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS_FILE, PROBABILITIES_FILE, CORRUPTED_FILE):
        if (source / name).exists():
            (target / name).unlink(missing_ok=True)
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copy2(source / name, target / name)
