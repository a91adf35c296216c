"""Trials trained again after the search, with other seeds or on other folds: what their scores are worth.

They are kept in an Optuna study of their own beside the one they belong to, so that its sampler never sees them. A
retraining is stored when it has ended; one that is cut off leaves nothing, and is done anew.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from studies.records import TrialRecord

if TYPE_CHECKING:  # readers start without Optuna
    from optuna.storages import RDBStorage

SUFFIX = "-retrained"
ATTRIBUTE = "hpsearch:retraining"


@dataclass(frozen=True)
class Replicate:
    """One trial trained once more."""

    trial: int
    """Its number."""
    seed: int
    """1, 2, ...: which repetition; 0 for a fold."""
    folds: int = 0
    """In how many parts the training images were divided; 0: not at all."""
    fold: int = 0
    """The part that was held out and scored, 0 <= fold < folds."""

    @property
    def folder(self) -> str:
        """Below the folder of the trial."""
        return f"fold-{self.fold}-of-{self.folds}" if self.folds else f"seed-{self.seed}"


@dataclass(frozen=True)
class FinishedReplicate:
    """A retraining with what it came to."""

    what: Replicate
    scores: dict[str, Any]
    """As models.scoring.trial_scores.score gives them."""


def store_replicate(storage: RDBStorage, study_name: str, done: FinishedReplicate, value: float) -> None:
    """Adds one to the retrainings of a study. `value` is its objective."""
    import optuna

    study = optuna.create_study(
        storage=storage, study_name=study_name + SUFFIX, direction="maximize", load_if_exists=True
    )
    attributes = {ATTRIBUTE: json.dumps(asdict(done))}
    study.add_trial(optuna.create_trial(value=value, user_attrs=attributes))


def replicates_of(storage: RDBStorage, study_name: str) -> list[FinishedReplicate]:
    """All that have ended, in the order they did."""
    import optuna

    if study_name + SUFFIX not in optuna.study.get_all_study_names(storage):
        return []
    study = optuna.load_study(study_name=study_name + SUFFIX, storage=storage)
    return [replicate_from_json(trial.user_attrs[ATTRIBUTE]) for trial in study.get_trials(deepcopy=False)]


def replicate_from_json(text: str) -> FinishedReplicate:
    """From the JSON that `store_replicate` left."""
    stored = json.loads(text)
    return FinishedReplicate(Replicate(**stored["what"]), stored["scores"])


@dataclass(frozen=True)
class ReplicateValues:
    """Several values of one trial."""

    trial: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of one value, n - 1 in the denominator; 0 of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


def replicate_values(finished: Iterable[FinishedReplicate], figure: str, folds: bool = False) -> list[ReplicateValues]:
    """The values of one figure by trial, of other seeds or of the folds of one division, the highest mean first.

    The trial's own value is not among them: it was the best of many, and so was lucky.
    """
    values: dict[tuple[int, int], list[float]] = {}
    for one in finished:
        if bool(one.what.folds) == folds and figure in one.scores:
            values.setdefault((one.what.trial, one.what.folds), []).append(one.scores[figure])
    rows = [ReplicateValues(trial, tuple(found)) for (trial, _), found in values.items()]
    return sorted(rows, key=lambda row: -row.mean)


def best_replicated(finished: Iterable[FinishedReplicate], figure: str) -> ReplicateValues | None:
    """The trial with the highest mean over other seeds, of those trained again on the most; None without any. A mean of
    fewer is the luckier one, as when a confirmation was cut off."""
    rows = replicate_values(finished, figure)
    most = max((len(row.values) for row in rows), default=0)
    return next((row for row in rows if len(row.values) == most), None)


def seed_noise(finished: Iterable[FinishedReplicate], figure: str) -> float | None:
    """Standard deviation of a figure between seeds, pooled over the trials; None without two seeds of a trial."""
    rows = [row for row in replicate_values(finished, figure) if len(row.values) > 1]
    freedom = sum(len(row.values) - 1 for row in rows)
    return (sum((len(row.values) - 1) * row.spread**2 for row in rows) / freedom) ** 0.5 if freedom else None


def best_trials(records: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """The complete trials with the highest values, the earlier one of two equals first."""
    complete = [record for record in records if record.state == "complete" and record.value is not None]
    return sorted(complete, key=lambda record: (-(record.value or 0.0), record.number))[:count]
