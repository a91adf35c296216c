"""What is kept of a trial besides Optuna's own columns: one JSON attribute, and the frozen record read from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

ATTRIBUTE = "hpsearch"
DEATHS = "hpsearch:deaths"
"""Epochs that were reported when the process last died, and how often it has died since."""
BATCH_DIVISOR = "hpsearch:batch_divisor"
"""Parts into which a trial's batches are cut, once a whole one did not fit in memory."""
DEATHS_ALLOWED = 5
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
    """As models.trial.EpochFigures, in order; of a trial under way, `step` and `value` alone."""
    outcome: dict[str, Any]
    """As models.trial.TrialOutcome.as_dict, empty without an end."""
    failure: dict[str, Any] | None
    """`kind`, `message`, `place` and `log` of a trial that broke off."""
    started: datetime | None
    seconds: float
    """Of work: from its start to its end, without the time between a cut and the next start."""


@dataclass(frozen=True)
class Ended:
    """What is stored of a trial when it ends, besides Optuna's own columns."""

    hyperparameters: dict[str, Any]
    epochs: list[dict[str, Any]]
    outcome: dict[str, Any]
    failure: dict[str, Any] | None = None
    seconds: float | None = None


def store_record(trial: Trial, ended: Ended) -> None:
    """One write for all figures, so that reading a thousand trials stays quick."""
    trial.set_user_attr(ATTRIBUTE, json.dumps(asdict(ended)))


def record_of(trial: FrozenTrial) -> TrialRecord:
    content = json.loads(trial.user_attrs.get(ATTRIBUTE, "{}"))
    known = [{"step": step, "value": value} for step, value in sorted(trial.intermediate_values.items())]
    epochs = content.get("epochs", known)
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
        seconds=content.get("seconds") or (trial.duration.total_seconds() if trial.duration else 0.0),
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


def put_back(study: Study, trial_id: int) -> None:
    """Lets go of a trial. One whose end is stored is told it. Any other waits to be gone on with: it keeps its number,
    hyperparameters and reported values, the sampler does not see it, and `study.ask` gives it out before new ones."""
    trial = study._storage.get_trial(trial_id)
    if trial.state != TrialState.RUNNING:
        return
    if ATTRIBUTE in trial.user_attrs:
        _finish(study, trial)
    else:
        study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def put_back_orphans(study: Study, is_free: Callable[[int], bool]) -> int:
    """Puts back the running trials that nobody has; how many are left, which somebody has.

    Args:
        is_free: trial number -> nobody alive is at work on it. To be called while nobody takes trials.
    """
    running = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_free(trial.number):
            put_back(study, trial._trial_id)
        else:
            running += 1
    return running


def died_again(trial: Trial) -> bool:
    """Notes that a trial's process died. True when it did so DEATHS_ALLOWED times without finishing an epoch: then it
    is the hyperparameters that kill it."""
    epochs = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
    before, count = trial.user_attrs.get(DEATHS, (0, 0))
    count = count + 1 if before == epochs else 1
    trial.set_user_attr(DEATHS, (epochs, count))
    return bool(count >= DEATHS_ALLOWED)


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
