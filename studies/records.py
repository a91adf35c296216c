"""What is kept of a trial besides Optuna's own columns: one JSON attribute, and the frozen record read from it."""

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
    """As models.training.plan.EpochFigures, in order; of a trial under way, and as studies.sqlite_reader has them,
    `step` and `value` alone."""
    outcome: dict[str, Any]
    """As models.training.plan.TrialOutcome.as_dict, empty without an end."""
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


@dataclass(frozen=True)
class Columns:
    """What Optuna's own columns tell of a trial."""

    number: int
    state: str
    """As of TrialRecord."""
    value: float | None
    started: datetime | None
    ended: datetime | None
    reported: Mapping[int, float]
    """Value by step."""
    chosen: dict[str, Any]
    """Hyperparameters; not needed of a trial whose record is stored."""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """`step` and `value` of each."""
        return [{"step": step, "value": value} for step, value in sorted(self.reported.items())]


def record_of(trial: FrozenTrial) -> TrialRecord:
    columns = Columns(
        number=trial.number,
        state=trial.state.name.lower(),
        value=trial.value,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        reported=trial.intermediate_values,
        chosen=trial.params,
    )
    return make_record(columns, trial.user_attrs.get(ATTRIBUTE))


def make_record(columns: Columns, stored: str | None) -> TrialRecord:
    """`stored`: the JSON that `store_record` left, None where it did not yet; its `epochs` may be left out."""
    content = json.loads(stored or "{}")
    epochs = content.get("epochs", columns.epochs)
    best_so_far = max((epoch["value"] for epoch in epochs), default=None)
    from_start_to_end = (columns.ended - columns.started).total_seconds() if columns.started and columns.ended else 0.0
    return TrialRecord(
        number=columns.number,
        state=columns.state,
        value=columns.value if columns.state == "complete" else best_so_far,
        hyperparameters=content.get("hyperparameters", columns.chosen),
        epochs=epochs,
        outcome=content.get("outcome", {}),
        failure=content.get("failure"),
        started=columns.started,
        seconds=content.get("seconds") or from_start_to_end,
    )


def records_of(study: Study) -> list[TrialRecord]:
    return [record_of(trial) for trial in study.get_trials(deepcopy=False)]


def best_record(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The complete trial with the highest value, the earlier one of two; None without any."""
    complete = [record for record in records if record.state == "complete" and record.value is not None]
    return max(complete, key=lambda record: (record.value, -record.number), default=None)
