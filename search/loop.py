"""The ask-and-tell loop of one study: ask Optuna, let a worker train, report, prune, tell. Never imports Keras."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import optuna
from optuna.trial import TrialState

from search.errors import SearchError
from search.job import TrainingJob
from search.workers import Worker, WorkerDiedError
from studies.definition import Definition
from studies.records import (
    TrialRecord,
    counted,
    give_back_orphans,
    mark_infeasible,
    next_position,
    record_of,
    store_record,
)
from studies.samplers import SAMPLERS
from studies.settings import StudySettings

FAILURES_IN_A_ROW = 3
# Failures that say something about the hyperparameters: stored as pruned and infeasible, so that the sampler learns
# from them without ever preferring them to a healthy early prune. Anything else is a bug and not counted.
INFEASIBLE = ("diverged", "out-of-memory")


class Observer(Protocol):
    """What hears of a search's progress; search/progress.py has the views."""

    def trial_started(self, number: int, hyperparameters: dict[str, Any], done: int) -> None: ...

    def epoch(self, number: int, figures: dict[str, Any]) -> None: ...

    def trial_finished(self, record: TrialRecord, done: int) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class Search:
    """One study and what it needs to run."""

    study: optuna.Study
    settings: StudySettings
    definition: Definition
    worker: Worker
    make_job: Callable[[int, dict[str, Any], int], TrainingJob]
    """(trial number, hyperparameters, seed) -> the worker's job."""
    observer: Observer

    def run(self, trials: int) -> None:
        """Goes on until `trials` trials are complete or pruned, counting those of earlier runs.

        An interrupt (KeyboardInterrupt) gives the running trial back and goes on its way. SearchError when several
        trials in a row end in a bug.
        """
        for number in give_back_orphans(self.study):
            self.observer.say(f"trial {number} was cut off by an earlier end; its hyperparameters are tried again")
        failures = 0
        try:
            while (done := counted(self.study)) < trials:
                record = self._one_trial(done)
                failures = failures + 1 if record.state == "fail" else 0
                self.observer.trial_finished(record, counted(self.study))
                if failures == FAILURES_IN_A_ROW and record.failure:
                    raise SearchError(
                        f"{failures} trials in a row failed, the last with: {record.failure['message']} "
                        f"({record.failure['place']}); the log is {self.worker.log}"
                    )
        except KeyboardInterrupt:
            self.worker.stop()
            give_back_orphans(self.study)
            raise

    def _one_trial(self, done: int) -> TrialRecord:
        position = next_position(self.study)
        self.study.sampler = SAMPLERS[self.settings.sampler](seed_of(self.settings.seed, position, "sampler"))
        trial = self.study.ask()
        hyperparameters = self.definition.suggest(trial)
        self.observer.trial_started(trial.number, hyperparameters, done)
        job = self.make_job(trial.number, hyperparameters, seed_of(self.settings.seed, position, "training"))
        epochs: list[dict[str, Any]] = []

        def on_epoch(figures: dict[str, Any]) -> bool:
            epochs.append(figures)
            trial.report(figures["value"], figures["step"])
            self.observer.epoch(trial.number, figures)
            return trial.should_prune()

        try:
            end = self.worker.train(job, on_epoch)
        except WorkerDiedError as error:
            give_back_orphans(self.study)
            failure = {"kind": "killed", "message": str(error), "place": str(self.worker.log)}
            return replace(record_of(self.study.trials[trial.number]), failure=failure)
        return self._tell(trial, hyperparameters, epochs, end)

    def _tell(
        self, trial: optuna.Trial, hyperparameters: dict[str, Any], epochs: list[dict[str, Any]], end: dict[str, Any]
    ) -> TrialRecord:
        if end["event"] == "done":
            store_record(trial, hyperparameters, epochs, end["outcome"])
            if end["outcome"]["stopped"]:
                told = self.study.tell(trial, state=TrialState.PRUNED)
            else:
                told = self.study.tell(trial, end["outcome"]["best"]["value"])
            return record_of(told)
        failure = {key: end[key] for key in ("kind", "message", "place")}
        store_record(trial, hyperparameters, epochs, {}, failure)
        if failure["kind"] in INFEASIBLE:
            mark_infeasible(trial)
            return record_of(self.study.tell(trial, state=TrialState.PRUNED))
        return record_of(self.study.tell(trial, state=TrialState.FAIL))


def seed_of(study_seed: int, position: int, purpose: str) -> int:
    """A seed of 31 bits that differs for each study seed, place in the search and purpose."""
    digest = hashlib.sha256(f"{study_seed}/{position}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
