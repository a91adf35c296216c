"""After the search: the best trials trained again, on other seeds and on folds, to see what their scores are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from search.engine.job import STATE_FILE, WEIGHTS_FILE, MakeJob, TrainingJob
from search.engine.loop import StopRequestedError, seed_of
from search.engine.stop_request import StopRequest
from search.engine.worker import Worker, WorkerDiedError
from search.errors import disk_full
from search.planning.run_options import Confirmation
from studies.records import TrialRecord, records_of
from studies.replicates import (
    FinishedReplicate,
    Replicate,
    ReplicateValues,
    best_replicated,
    best_trials,
    replicate_values,
    replicates_of,
    store_replicate,
)
from studies.settings import StudySettings
from studies.trials import BATCH_DIVISOR


@dataclass(frozen=True)
class Confirmer:
    """One study whose best trials are trained again."""

    storage: RDBStorage
    study: optuna.Study
    settings: StudySettings
    worker: Worker
    make_job: MakeJob
    say: Callable[[str], None]
    stop_request: StopRequest
    trial_timeout_s: float = inf

    def run(self, wanted: Confirmation) -> None:
        """Trains what is not stored yet. SearchError when the training process is killed or the disk is full,
        StopRequestedError when the run is to leave; the same call goes on then."""
        records = {record.number: record for record in records_of(self.study)}
        seeds = [
            Replicate(record.number, seed)
            for record in best_trials(records.values(), wanted.top)
            for seed in range(1, wanted.seeds + 1)
        ]
        self._train(seeds, records)
        best = self.best_trial(records.values()) if wanted.folds else None
        if best is not None:
            folds = [Replicate(best, 0, wanted.folds, fold) for fold in range(wanted.folds)]
            self._train(folds, records)

    def best_trial(self, records: Iterable[TrialRecord]) -> int | None:
        """The number of the trial with the highest mean over other seeds; without any, of the best one."""
        retrained = replicates_of(self.storage, self.settings.name)
        if (found := best_replicated(retrained, self.settings.objective)) is not None:
            return found.trial
        return next((record.number for record in best_trials(records, 1)), None)

    def _train(self, wanted: list[Replicate], records: dict[int, TrialRecord]) -> None:
        stored = {one.what for one in replicates_of(self.storage, self.settings.name)}
        missing = [one for one in wanted if one not in stored]
        for place, what in enumerate(missing, 1):
            job = self._job(what, records[what.trial])
            end = self._trained(job)
            name = f"trial {what.trial} again, {described(what)} ({place}/{len(missing)})"
            if end.get("kind") == "disk-full":
                raise disk_full(end["message"])
            if end["event"] != "done":
                self.say(f"{name}: {end['kind']}: {end['message']}")
                continue
            best = end["outcome"]["best"]
            store_replicate(
                self.storage, self.settings.name, FinishedReplicate(what, best["validation"]), best["value"]
            )
            self.say(f"{name}: {best['value']:.4f}")
            for file in (WEIGHTS_FILE, STATE_FILE):  # its figures are what it was for
                (Path(job.folder) / file).unlink(missing_ok=True)

    def _trained(self, job: TrainingJob) -> dict[str, Any]:
        try:
            return self.worker.train(job, self._go_on, self.trial_timeout_s)
        except WorkerDiedError as error:
            if error.kind == "killed":
                raise
            return {"event": "failed", "kind": error.kind, "message": str(error)}

    def _go_on(self, figures: list[dict[str, Any]]) -> bool:
        if self.stop_request.wanted:
            raise StopRequestedError
        return False

    def _job(self, what: Replicate, record: TrialRecord) -> TrainingJob:
        study_seed = self.settings.seed
        job = self.make_job(record.number, record.hyperparameters, seed_of(study_seed, what.seed, "retraining"))
        folder = str(Path(job.folder) / what.folder)
        divisor = self.study.get_trials(deepcopy=False)[record.number].user_attrs.get(BATCH_DIVISOR, 1)
        job = replace(job, folder=folder, batch_divisor=divisor)
        return replace(job, folds=what.folds, fold=what.fold, fold_seed=study_seed)


def described(what: Replicate) -> str:
    return f"fold {what.fold + 1} of {what.folds}" if what.folds else f"seed {what.seed}"


def summary(
    storage: RDBStorage, settings: StudySettings, records: Iterable[TrialRecord]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows for the terminal: of the trials on other seeds, and of those on folds; best mean first."""
    finished = replicates_of(storage, settings.name)
    values = {record.number: record.value for record in records}

    def rows(found: list[ReplicateValues], times: str) -> list[dict[str, Any]]:
        return [
            {"trial": row.trial, "in the search": values[row.trial], "mean": row.mean, "spread": row.spread}
            | {times: len(row.values)}
            for row in found
        ]

    by_seed = rows(replicate_values(finished, settings.objective), "seeds")
    return by_seed, rows(replicate_values(finished, settings.objective, folds=True), "folds")
