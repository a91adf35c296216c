"""What is kept of a trial besides Optuna's own columns: one JSON attribute, and the frozen record read from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

ATTRIBUTE = "hpsearch"
RETRY_OF = "hpsearch:retry_of"
DEATHS_ALLOWED = 3
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the tables and the export see it."""

    number: int
    state: str
    """complete, pruned, fail, running or waiting"""
    value: float | None
    """The objective of the kept epoch; of a pruned trial, its best so far."""
    hyperparameters: dict[str, Any]
    epochs: list[dict[str, Any]]
    """As models.training.EpochFigures, in order."""
    outcome: dict[str, Any]
    """As models.training.TrialOutcome.as_dict, empty without an end."""
    failure: dict[str, Any] | None
    """`kind` and `message` of a trial that broke off."""
    started: datetime | None
    seconds: float


def store_record(
    trial: Trial,
    hyperparameters: dict[str, Any],
    epochs: list[dict[str, Any]],
    outcome: dict[str, Any],
    failure: dict[str, Any] | None = None,
) -> None:
    """One write for all figures, so that reading a thousand trials stays quick."""
    content = {"hyperparameters": hyperparameters, "epochs": epochs, "outcome": outcome, "failure": failure}
    trial.set_user_attr(ATTRIBUTE, json.dumps(content))


def record_of(trial: FrozenTrial) -> TrialRecord:
    content = json.loads(trial.user_attrs.get(ATTRIBUTE, "{}"))
    epochs = content.get("epochs", [])
    best_so_far = max((epoch["value"] for epoch in epochs), default=None)
    return TrialRecord(
        number=trial.number,
        state=trial.state.name.lower(),
        value=trial.value if trial.state == TrialState.COMPLETE else best_so_far,
        hyperparameters=content.get("hyperparameters", trial.params),
        epochs=epochs,
        outcome=content.get("outcome", {}),
        failure=content.get("failure"),
        started=trial.datetime_start,
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
    )


def records_of(study: Study) -> list[TrialRecord]:
    return [record_of(trial) for trial in study.get_trials(deepcopy=False)]


def best_record(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the highest value, the earlier one of two; None without any."""
    complete = [record for record in records if record.state == "complete" and record.value is not None]
    return max(complete, key=lambda record: (record.value, -record.number), default=None)


def counted(study: Study) -> int:
    """Trials that count towards `--trials`: complete and pruned ones."""
    return len(study.get_trials(deepcopy=False, states=COUNTED))


def next_position(study: Study) -> int:
    """The place in the search of the trial asked for next: what the seeds of its sampler and its training come from.

    Its number would not do: a trial that is given back after a kill gets a new number, and the one after it as well.
    """
    trials = study.get_trials(deepcopy=False)
    skipped = (TrialState.WAITING, TrialState.FAIL)
    bugs = sum(trial.state == TrialState.FAIL and ATTRIBUTE in trial.user_attrs for trial in trials)
    return bugs + sum(trial.state not in skipped for trial in trials)


def give_back_orphans(study: Study) -> list[int]:
    """Ends the trials that a vanished process left running; the numbers of those to be tried again.

    One whose figures are stored is told its end. The hyperparameters of any other are queued again, unless they were
    cut off DEATHS_ALLOWED times already: then it is them that kill the process, and the trial is stored as infeasible.
    To be called only while no other process runs trials of this study.
    """
    again = []
    for orphan in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if ATTRIBUTE in orphan.user_attrs:
            _finish(study, orphan)
        elif _deaths(study, orphan) >= DEATHS_ALLOWED:
            trial = Trial(study, orphan._trial_id)
            failure = {"kind": "killed", "message": f"its process died {DEATHS_ALLOWED} times", "place": ""}
            store_record(trial, orphan.params, [], {}, failure)
            mark_infeasible(trial)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            if orphan.number not in _retried(study):  # queued first: a kill in between must not lose it
                study.enqueue_trial(orphan.params, user_attrs={RETRY_OF: orphan.number})
            study.tell(orphan.number, state=TrialState.FAIL)
            again.append(orphan.number)
    return again


def mark_infeasible(trial: Trial) -> None:
    """A constraint that ranks a trial behind all healthy ones, pruned ones included (Optuna 5's TPE reads it)."""
    trial.set_constraint("failed", 1.0)


def _finish(study: Study, orphan: FrozenTrial) -> None:
    record = record_of(orphan)
    if record.failure is None and not record.outcome["stopped"]:
        study.tell(orphan.number, record.outcome["best"]["value"])
    else:
        bug = record.failure is not None and "failed" not in orphan.constraints
        study.tell(orphan.number, state=TrialState.FAIL if bug else TrialState.PRUNED)


def _retried(study: Study) -> dict[int, int]:
    """Number of a trial that was cut off -> number of the one that tries it again."""
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs[RETRY_OF]: trial.number for trial in trials if RETRY_OF in trial.user_attrs}


def _deaths(study: Study, orphan: FrozenTrial) -> int:
    """How often these hyperparameters were cut off, this time included."""
    earlier = {later: first for first, later in _retried(study).items()}
    number, deaths = orphan.number, 1
    while number in earlier:
        number, deaths = earlier[number], deaths + 1
    return deaths
