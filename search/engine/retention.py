"""Rules for the files of trials: keep the weights of the best few within a disk budget, and the logs of all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from math import inf
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from search.engine.job import STATE_FILE, WEIGHTS_FILE, trial_folder_name
from search.errors import SearchError
from studies.replicates import replicates_of

GIGABYTE = 1e9


@dataclass(frozen=True)
class Retention:
    """Retention rules of one study.

    Attributes:
        storage: Database of the study.
        folder: Folder of the study's trials, trials/STUDY.
        keep: Number of best complete trials whose weights are kept. Trials that were trained again keep theirs too.
        budget_gb: Limit in GB for all of `trials/`. To meet it, weights are removed, but never the best trial's.
    """

    storage: RDBStorage
    folder: Path
    keep: int
    budget_gb: float = inf

    def sweep(self, study: optuna.Study) -> None:
        """Remove files that need not be kept; call it after each trial.

        Raises:
            SearchError: The remaining files exceed the budget.
        """
        trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
        for state in self.folder.glob(f"*/{STATE_FILE}"):
            trial = trials.get(int(state.parent.name))
            if trial is not None and trial.state.is_finished():
                state.unlink(missing_ok=True)
        ranked = self._ranked(study, trials)
        protected = {again.what.trial for again in replicates_of(self.storage, self.folder.name)}
        for number in ranked[self.keep :]:
            if number not in protected:
                self._weights(number).unlink(missing_ok=True)
        self._keep_to_budget([number for number in ranked[1 : self.keep] if number not in protected])

    def _ranked(self, study: optuna.Study, trials: dict[int, FrozenTrial]) -> list[int]:
        """Return the complete trials that have a weights file, the best first."""
        there = [int(path.parent.name) for path in self.folder.glob(f"*/{WEIGHTS_FILE}")]
        complete = [n for n in there if n in trials and trials[n].state == TrialState.COMPLETE]
        return sorted(complete, key=lambda number: (-(trials[number].value or 0.0), number))

    def _keep_to_budget(self, dispensable: list[int]) -> None:
        """Remove weights of the `dispensable` trials (the best first) from the end until the budget is met.

        Raises:
            SearchError: Removing all of them is not enough.
        """
        if self.budget_gb == inf:
            return
        for number in [*reversed(dispensable), None]:
            used_gb = _size_bytes(self.folder.parent) / GIGABYTE
            if used_gb <= self.budget_gb:
                return
            if number is not None:
                self._weights(number).unlink(missing_ok=True)
        raise SearchError(
            f"the trials in {self.folder.parent} take {used_gb:.2f} GB, more than --disk-budget {self.budget_gb:g}: "
            "allow more, or remove studies that are no longer needed"
        )

    def _weights(self, number: int) -> Path:
        return self.folder / trial_folder_name(number) / WEIGHTS_FILE


def _size_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; weights that versions of a study share by hard link count once."""
    files = [file for file in map(_stat, folder.rglob("*")) if file]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())


def _stat(path: Path) -> os.stat_result | None:
    """Return a file's status; None if another run has just removed or renamed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
