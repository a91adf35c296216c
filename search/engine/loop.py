"""Ask-and-tell loop of one study: ask Optuna, train in a worker, report, prune, tell. It never imports Keras."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import TrialState

from models.feeding.epoch_size import nominal_batch_size
from models.training.recipe import HEAD
from search.engine.claims import Claims
from search.engine.job import LOG_FILE, MakeJob, TrainingJob
from search.engine.retention import Retention
from search.engine.stop_request import StopRequest, StopRequestedError
from search.engine.worker import Worker, WorkerDiedError
from search.errors import SearchError, disk_full
from studies.definition import Definition
from studies.per_trial_sampler import PerTrialSampler
from studies.proposals import kind_clash, why_refused
from studies.records import TrialEnd, TrialRecord, record_of, store_record
from studies.samplers import SAMPLERS
from studies.settings import ATTRIBUTE, StudySettings
from studies.trials import (
    BATCH_DIVISOR,
    count_finished,
    died_again,
    ended_elsewhere,
    is_gone,
    mark_infeasible,
    put_back,
    put_back_orphans,
)

FAILURES_IN_A_ROW = 3
"""Trials in a row that end in a bug before the run gives up."""
SMALLEST_BATCH = 2
WAIT_S = 0.5
"""Seconds between two looks for a trial while other processes run the last ones."""
# Failures that the hyperparameters may cause. They are stored as pruned and infeasible, so that the sampler learns from
# them but never prefers them to a healthy trial that was pruned early. Any other failure is a bug and is not counted.
INFEASIBLE = ("diverged", "out-of-memory", "timeout", "killed")


class StudyGoneError(SearchError):
    """The study was deleted or renamed while it was searched."""


class Observer(Protocol):
    """Receiver of a search's progress; search/terminal/search_progress.py has the implementations.

    `done` is the number of complete and pruned trials.
    """

    def trial_started(self, number: int, hyperparameters: dict[str, Any], done: int) -> None: ...

    def epoch(self, number: int, figures: dict[str, Any]) -> None: ...

    def trial_finished(self, record: TrialRecord, done: int) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class Search:
    """One study and everything that it needs to run."""

    study: optuna.Study
    settings: StudySettings
    definition: Definition
    worker: Worker
    make_job: MakeJob
    observer: Observer
    claims: Claims
    retention: Retention
    stop_request: StopRequest
    trial_timeout_s: float = inf

    def run(self, trials: int) -> None:
        """Train until `trials` trials are complete or pruned, including trials of earlier runs and other processes.

        It returns earlier if the run should stop. The current trial is then put back, so that a later run continues it.

        Raises:
            SearchError: FAILURES_IN_A_ROW trials in a row end in a bug, or the disk is full.
            StudyGoneError: Another program deleted or renamed the study.
            KeyboardInterrupt: Passed on after the trial is put back.
        """
        try:
            self._run(trials)
        except Exception as error:
            if is_gone(self.study):
                raise StudyGoneError(
                    f"the study {self.settings.name} was deleted while it was searched: run the same command again to "
                    f"start it anew"
                ) from error
            raise

    def _run(self, trials: int) -> None:
        self.study.sampler = PerTrialSampler(SAMPLERS[self.settings.sampler], self._seed_of)
        settings_text = self.study.user_attrs[ATTRIBUTE]
        bugs: list[TrialRecord] = []
        while (trial := self._next(trials)) is not None:
            try:
                record = self._one_trial(trial)
            except BaseException as error:
                self.worker.stop()
                if isinstance(error, Exception) and self._ended_elsewhere(trial):
                    continue
                # The storage fails, for example, on a full disk; the next run will then put the trial back.
                with suppress(StorageInternalError, KeyError, UpdateFinishedTrialError):
                    put_back(self.study, trial._trial_id)
                if isinstance(error, StopRequestedError):
                    return
                raise
            finally:
                self.claims.release(trial.number)
            if record is None:
                continue
            bugs = [*bugs, record] if record.state == "fail" else []
            if self.study.user_attrs.get(ATTRIBUTE) != settings_text:
                self.study.set_user_attr(ATTRIBUTE, settings_text)
                self.observer.say(f"another program changed the study's attribute `{ATTRIBUTE}`: it is stored again")
            self.observer.trial_finished(record, count_finished(self.study))
            self.retention.sweep(self.study)
            if len(bugs) == FAILURES_IN_A_ROW and bugs[0].failure:
                raise SearchError(
                    f"{len(bugs)} trials in a row failed. First error: {bugs[0].failure['message']} "
                    f"(at {bugs[0].failure['place']}). Log: {bugs[0].failure['log']}"
                )

    def _next(self, trials: int) -> optuna.Trial | None:
        """Return an interrupted or a new trial; None when all are finished or the run should stop.

        It waits while the other processes' running trials would complete the total.
        """
        announced = False
        while not self.stop_request.wanted:
            with self.claims.deciding():
                in_hand = put_back_orphans(self.study, self.claims.is_free)
                done = count_finished(self.study)
                if done >= trials:
                    return None
                if done + in_hand < trials:
                    if (trial := self._taken()) is not None:
                        return trial
                    continue
            if not announced:
                running = "1 trial" if in_hand == 1 else f"{in_hand} trials"
                self.observer.say(f"waiting for {running} that other processes are running")
                announced = True
            time.sleep(WAIT_S)
        return None

    def _taken(self) -> optuna.Trial | None:
        """Return a claimed trial; None if it was queued outside the search space, or another program ended it."""
        trial = self.study.ask()
        try:
            if self._refused(trial):
                return None
            self.claims.take(trial.number)
            self.definition.suggest(trial)  # under the lock, so that the next process sees these values
        except Exception as error:
            self.claims.release(trial.number)
            if self._ended_elsewhere(trial):
                return None
            if clash := kind_clash(self.study, self.definition):
                put_back(self.study, trial._trial_id)
                raise SearchError(f"{self.settings.name} cannot go on: {clash}") from error
            raise
        return trial

    def _ended_elsewhere(self, trial: optuna.Trial) -> bool:
        """Return whether another program ended or deleted the trial, and say so; False if the whole study is gone."""
        how = ended_elsewhere(self.study, trial._trial_id)
        if not how or is_gone(self.study):
            return False
        self.observer.say(f"trial {trial.number} {how} by another program: going on with the next trial")
        return True

    def _refused(self, trial: optuna.Trial) -> bool:
        """Return whether another program queued the trial with values outside the search space; it has failed then."""
        why = why_refused(self.definition, self.study._storage.get_trial(trial._trial_id))
        if why is None:
            return False
        failure = {"kind": "refused", "message": why, "place": "", "log": ""}
        store_record(trial, TrialEnd({}, [], {}, failure))
        self.study.tell(trial, state=TrialState.FAIL)
        self.observer.say(f"trial {trial.number} was queued outside the search space and is not trained: {why}")
        return True

    def _one_trial(self, trial: optuna.Trial) -> TrialRecord | None:
        """Train a trial and return its record; None if it was put back to be tried again."""
        hyperparameters = self.definition.suggest(trial)
        self.observer.trial_started(trial.number, hyperparameters, count_finished(self.study))
        job = self.make_job(trial.number, hyperparameters, self._seed_of(trial.number, "training"))
        job = replace(job, batch_divisor=trial.user_attrs.get(BATCH_DIVISOR, 1))
        attempt = Attempt(self, trial, job)
        try:
            end = self.worker.train(job, attempt.on_epochs, self.trial_timeout_s)
        except WorkerDiedError as error:
            end = {"event": "failed", "kind": error.kind, "message": str(error), "place": ""}
        if end.get("kind") == "out-of-memory":
            self.worker.stop()  # a GPU's memory is often not given back after that: the next attempt gets a new process
        return attempt.ended(end)

    def _seed_of(self, number: int, purpose: str) -> int:
        return seed_of(self.settings.seed, number, purpose)


class Attempt:
    """One attempt of a worker at a trial, from its first event to the stored result."""

    def __init__(self, search: Search, trial: optuna.Trial, job: TrainingJob) -> None:
        self.search, self.trial, self.job = search, trial, job
        self.epochs: list[dict[str, Any]] = []
        self.started, self.earlier_s = time.monotonic(), 0.0
        self.reported = set(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def on_epochs(self, figures: list[dict[str, Any]]) -> bool:
        """Report new epochs to Optuna, and return whether to prune the trial.

        Several rows at once are the epochs of an earlier, interrupted attempt.

        Raises:
            StopRequestedError: The run should stop.
        """
        is_first, self.epochs = not self.epochs, self.epochs + figures
        if is_first and self.reported:
            self.earlier_s = sum(row["seconds"] for row in figures if self._step(row) in self.reported)
        reported = self.trial.storage.get_trial(self.trial._trial_id).intermediate_values  # by another program too
        for row in figures:
            if self._step(row) not in reported:
                self.trial.report(row["value"], self._step(row))
        self.search.observer.epoch(self.trial.number, figures[-1])
        if self.trial.should_prune():
            return True
        if self.search.stop_request.wanted:
            raise StopRequestedError
        return False

    def _step(self, row: dict[str, Any]) -> int:
        """Return the step at which an epoch is reported.

        Fine-tuning starts at the same step in every trial, even if the head phase ended early, because pruners compare
        trials by step.
        """
        head = [one["phase"] for one in self.epochs].count(HEAD)
        step: int = row["step"]
        if head == 0 or row["phase"] == HEAD:
            return step
        nominal: int = self.search.settings.recipe["head_epochs"]
        return step - head + nominal

    def ended(self, end: dict[str, Any]) -> TrialRecord | None:
        """Store the end of the attempt and return the record; None if the trial is put back to be tried again.

        Raises:
            SearchError: The disk is full.
        """
        if end["event"] == "done":
            self._store(end["outcome"] | {"memory_mb": end["memory_mb"]}, None)
            if end["outcome"]["stopped"]:
                return self._told(TrialState.PRUNED)
            return self._told(TrialState.COMPLETE, end["outcome"]["best"]["value"])
        failure = {key: end[key] for key in ("kind", "message", "place")} | {"log": f"{self.job.folder}/{LOG_FILE}"}
        kind = failure["kind"]
        if kind == "disk-full":
            raise disk_full(failure["message"])
        if (kind == "killed" and not died_again(self.trial)) or (kind == "out-of-memory" and self._halved()):
            put_back(self.search.study, self.trial._trial_id)
            self.search.observer.say(f"trial {self.trial.number}: {failure['message']}; trying it again")
            return None
        self._store({}, failure)
        if kind in INFEASIBLE:
            mark_infeasible(self.trial)
            return self._told(TrialState.PRUNED)
        return self._told(TrialState.FAIL)

    def _halved(self) -> bool:
        """Return whether to try once more with each batch cut in two and the gradients of the halves added up."""
        recipe = self.job.settings.recipe
        batch = nominal_batch_size(
            self.job.hyperparameters.get("batch_size", 0), recipe.get("batch_size", SMALLEST_BATCH)
        )
        if self.job.batch_divisor > 1 or batch < SMALLEST_BATCH:
            return False
        self.trial.set_user_attr(BATCH_DIVISOR, 2)
        return True

    def _store(self, outcome: dict[str, Any], failure: dict[str, Any] | None) -> None:
        seconds = self.earlier_s + time.monotonic() - self.started
        store_record(self.trial, TrialEnd(self.job.hyperparameters, self.epochs, outcome, failure, seconds))

    def _told(self, state: TrialState, value: float | None = None) -> TrialRecord:
        return record_of(self.search.study.tell(self.trial, value, state=state))


def seed_of(study_seed: int, number: int, purpose: str) -> int:
    """Return a 31-bit seed that differs for each study seed, trial number and purpose."""
    digest = hashlib.sha256(f"{study_seed}/{number}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
