"""Train the best trials of a search again, on other seeds and on folds, to see how reliable their scores are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage

from search.engine.job import STATE_FILE, WEIGHTS_FILE, MakeJob, TrainingJob
from search.engine.loop import seed_of
from search.engine.stop_request import StopRequest, StopRequestedError
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
    """Retraining of one study's best trials."""

    storage: RDBStorage
    study: optuna.Study
    settings: StudySettings
    worker: Worker
    make_job: MakeJob
    say: Callable[[str], None]
    stop_request: StopRequest
    trial_timeout_s: float = inf

    def run(self, wanted: Confirmation) -> None:
        """Train the wanted repetitions that are not stored yet. After an error, the same call continues.

        Raises:
            SearchError: The training process was killed, or the disk is full.
            StopRequestedError: The run was asked to stop.
        """
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
        """Return the number of the trial with the highest mean over other seeds, or of the best one without means."""
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
            for file in (WEIGHTS_FILE, STATE_FILE):  # only the scores are needed
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
    """Return the fold or the seed in words."""
    return f"fold {what.fold + 1} of {what.folds}" if what.folds else f"seed {what.seed}"


def summary(
    storage: RDBStorage, settings: StudySettings, records: Iterable[TrialRecord]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return table rows for the trials on other seeds, and for those on folds; the best mean first."""
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
