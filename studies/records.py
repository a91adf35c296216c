"""Trial records: one JSON attribute stored beside Optuna's own columns, and the frozen record read from both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # readers start without Optuna
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

ATTRIBUTE = "hpsearch"
SHOWN_SCORES = {
    "macro_f1": "clean macro-F1",
    "corrupted_macro_f1": "corrupted macro-F1",
    "worst_family_macro_f1": "worst family macro-F1",
    "accuracy": "clean accuracy",
}
"""Score of the kept epoch -> name of the attribute under which optuna-dashboard shows it."""


FOREIGN = "foreign"
"""State of a trial that another program completed: it has a value, but hpsearch did not train it."""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as tables and exports read it."""

    number: int
    state: str
    """complete, pruned, fail, running, waiting, or FOREIGN"""
    value: float | None
    """Objective of the kept epoch; for a trial that is not complete, its best value so far, if any."""
    hyperparameters: dict[str, Any]
    epochs: list[dict[str, Any]]
    """Finished epochs in order, with the fields of models.training.plan.EpochFigures. Only `step` and `value` for a
    trial that has not ended, and for every trial that studies.sqlite_reader reads."""
    outcome: dict[str, Any]
    """Result of models.training.plan.TrialOutcome.as_dict; empty for a trial that failed or has not ended."""
    failure: dict[str, Any] | None
    """`kind`, `message`, `place` and `log` of a failed trial; else None."""
    started: datetime | None
    seconds: float
    """Working time in seconds, without pauses between an interruption and the next start."""

    @property
    def state_text(self) -> str:
        """State in words."""
        return "completed by another program, without a model" if self.state == FOREIGN else self.state


@dataclass(frozen=True)
class TrialEnd:
    """Content of the record that is stored when a trial ends."""

    hyperparameters: dict[str, Any]
    epochs: list[dict[str, Any]]
    outcome: dict[str, Any]
    failure: dict[str, Any] | None = None
    seconds: float | None = None


def store_record(trial: Trial, ended: TrialEnd) -> None:
    """Store a trial's record as a single attribute, so that reading a thousand trials stays fast.

    Before it, a few figures are stored in attributes of their own, for optuna-dashboard; hpsearch does not read them.
    """
    for name, value in shown_attributes(ended).items():
        trial.set_user_attr(name, value)
    trial.set_user_attr(ATTRIBUTE, json.dumps(asdict(ended)))


def shown_attributes(ended: TrialEnd) -> dict[str, Any]:
    """Return what optuna-dashboard shows of a trial, by title: scores, minutes, and why a trial failed."""
    scores = (ended.outcome.get("best") or {}).get("validation", {})
    shown = {title: round(scores[name], 4) for name, title in SHOWN_SCORES.items() if scores.get(name) is not None}
    if scores.get("worst_family"):
        shown["worst family"] = scores["worst_family"]
    if ended.seconds is not None:
        shown["minutes"] = round(ended.seconds / 60, 2)
    if ended.failure:
        shown["failure"] = f"{ended.failure.get('kind')}: {ended.failure.get('message')}"
    return shown


@dataclass(frozen=True)
class OptunaColumns:
    """Values of a trial in Optuna's own columns."""

    number: int
    state: str
    """As in TrialRecord."""
    value: float | None
    started: datetime | None
    ended: datetime | None
    reported: Mapping[int, float]
    """Step -> reported value."""
    chosen: dict[str, Any]
    """Hyperparameters; may be empty if the trial's record is stored, because that has them too."""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """`step` and `value` of each reported epoch, in order."""
        return [{"step": step, "value": value} for step, value in sorted(self.reported.items())]


def record_of(trial: FrozenTrial) -> TrialRecord:
    """Return the record of an Optuna trial."""
    columns = OptunaColumns(
        number=trial.number,
        state=trial.state.name.lower(),
        value=trial.value,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        reported=trial.intermediate_values,
        chosen=trial.params,
    )
    return make_record(columns, trial.user_attrs.get(ATTRIBUTE))


def make_record(columns: OptunaColumns, stored: str | None) -> TrialRecord:
    """Build a record from Optuna's columns and the stored attribute.

    Args:
        columns: Values of the trial in Optuna's columns.
        stored: JSON that `store_record` wrote, with or without its `epochs`; None if there is none yet.
    """
    content = _content(stored)
    outcome = content.get("outcome", {})
    measured = outcome.get("best", {}).get("value", columns.value)
    whole = columns.state == "complete" and outcome and not outcome.get("stopped")
    epochs = content.get("epochs", columns.epochs)
    best_so_far = max((epoch["value"] for epoch in epochs), default=None)
    from_start_to_end = (columns.ended - columns.started).total_seconds() if columns.started and columns.ended else 0.0
    return TrialRecord(
        number=columns.number,
        state=FOREIGN if columns.state == "complete" and not whole else columns.state,
        # The value of a whole trial is the one that hpsearch measured: another program may have told it another one.
        value=measured if whole else columns.value if columns.state == "complete" else best_so_far,
        hyperparameters=content.get("hyperparameters", columns.chosen),
        epochs=epochs,
        outcome=outcome,
        failure=content.get("failure"),
        started=columns.started,
        seconds=content.get("seconds") or from_start_to_end,
    )


def _content(stored: object) -> dict[str, Any]:
    """Return what `store_record` wrote; empty if there is nothing, or another program put something else there."""
    try:
        content: dict[str, Any] = json.loads(stored) if isinstance(stored, str) else {}
        if content.get("failure"):
            return content if "kind" in content["failure"] else {}
        return content if isinstance(content["outcome"].get("best", {}), dict) else {}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def records_of(study: Study) -> list[TrialRecord]:
    """Return the records of all trials of a study."""
    return [record_of(trial) for trial in study.get_trials(deepcopy=False)]


def best_record(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """Return the complete trial with the highest value, the earlier of equals; None if no trial is complete."""
    complete = [record for record in records if record.state == "complete" and record.value is not None]
    return max(complete, key=lambda record: (record.value, -record.number), default=None)
