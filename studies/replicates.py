"""Replicates: trials trained again after the search, with other seeds or on folds, to check their scores.

They are stored in a separate Optuna study, so that the sampler of the original study never sees them. A replicate is
stored when it has ended; an interrupted one is not stored and is trained again.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from studies.records import TrialRecord

if TYPE_CHECKING:  # readers start without Optuna
    from optuna.storages import RDBStorage

SUFFIX = "-retrained"
ATTRIBUTE = "hpsearch:retraining"
ORIGINAL = "hpsearch:replicates_of"
"""User attribute of a study of replicates: the study that they belong to, which a renaming leaves alone."""


@dataclass(frozen=True)
class Replicate:
    """One retraining of a trial."""

    trial: int
    """Number of the trial."""
    seed: int
    """Repetition 1, 2, ...; 0 for a fold."""
    folds: int = 0
    """Parts into which the training images were divided; 0: not divided."""
    fold: int = 0
    """Part that was held out and scored, 0 <= fold < folds."""

    @property
    def folder(self) -> str:
        """Name of its folder inside the trial's folder."""
        return f"fold-{self.fold}-of-{self.folds}" if self.folds else f"seed-{self.seed}"


@dataclass(frozen=True)
class FinishedReplicate:
    """A replicate with its scores."""

    what: Replicate
    scores: dict[str, Any]
    """Scores, as models.scoring.trial_scores.score returns them."""


def store_replicate(storage: RDBStorage, study_name: str, done: FinishedReplicate, value: float) -> None:
    """Add a replicate to the replicates of a study.

    Args:
        storage: Database of the study.
        study_name: Study that the trial belongs to.
        done: The finished replicate.
        value: Its objective.
    """
    import optuna

    there = replicate_study(storage, study_name) or study_name + SUFFIX
    study = optuna.create_study(storage=storage, study_name=there, direction="maximize", load_if_exists=True)
    if ORIGINAL not in study.user_attrs:
        study.set_user_attr(ORIGINAL, study_name)
    attributes = {ATTRIBUTE: json.dumps(asdict(done))}
    study.add_trial(optuna.create_trial(value=value, user_attrs=attributes))


def replicates_of(storage: RDBStorage, study_name: str) -> list[FinishedReplicate]:
    """Return all finished replicates of a study, in the order in which they ended."""
    import optuna

    there = replicate_study(storage, study_name)
    if there is None:
        return []
    study = optuna.load_study(study_name=there, storage=storage)
    return replicates_from_json(trial.user_attrs.get(ATTRIBUTE) for trial in study.get_trials(deepcopy=False))


def replicate_study(storage: RDBStorage, study_name: str) -> str | None:
    """Return the name in the database of the study that holds a study's replicates; None if it has none."""
    marks = {one.study_name: one.user_attrs.get(ORIGINAL) for one in storage.get_all_studies()}
    return find_replicates(marks, study_name)


def find_replicates(marks: Mapping[str, Any], study_name: str) -> str | None:
    """Return the study that holds a study's replicates, by its name or, if it was renamed, by its mark.

    Args:
        marks: Name in the database -> attribute ORIGINAL, or None.
        study_name: Name by which hpsearch knows the original study.
    """
    if study_name + SUFFIX in marks:
        return study_name + SUFFIX
    return next((name for name, mark in marks.items() if mark == study_name), None)


def replicates_from_json(texts: Iterable[str | None]) -> list[FinishedReplicate]:
    """Rebuild replicates from the JSON that `store_replicate` wrote; skip what another program put there."""
    found = []
    for text in texts:
        with suppress(ValueError, TypeError, KeyError):
            stored = json.loads(text or "")
            found.append(FinishedReplicate(Replicate(**stored["what"]), dict(stored["scores"])))
    return found


@dataclass(frozen=True)
class ReplicateValues:
    """Values of one figure of a trial, one per replicate."""

    trial: int
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float:
        """Sample standard deviation of the values (n - 1 in the denominator); 0 for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else 0.0


def replicate_values(finished: Iterable[FinishedReplicate], figure: str, folds: bool = False) -> list[ReplicateValues]:
    """Return the values of one figure for each trial, the highest mean first.

    The value from the search itself is left out: the search selected it as the best of many, so it is partly luck.

    Args:
        finished: Replicates of one study.
        figure: Name of a score.
        folds: Use the replicates on folds, with a row per trial and number of folds, not those with other seeds.
    """
    values: dict[tuple[int, int], list[float]] = {}
    for one in finished:
        if bool(one.what.folds) == folds and figure in one.scores:
            values.setdefault((one.what.trial, one.what.folds), []).append(one.scores[figure])
    rows = [ReplicateValues(trial, tuple(found)) for (trial, _), found in values.items()]
    return sorted(rows, key=lambda row: -row.mean)


def best_replicated(finished: Iterable[FinishedReplicate], figure: str) -> ReplicateValues | None:
    """Return the trial with the highest mean over other seeds; None if no trial was trained again.

    Only the trials with the most seeds are compared. After an interrupted confirmation some have fewer, and a mean of
    fewer seeds is more likely to be high by luck.
    """
    rows = replicate_values(finished, figure)
    most = max((len(row.values) for row in rows), default=0)
    return next((row for row in rows if len(row.values) == most), None)


def seed_noise(finished: Iterable[FinishedReplicate], figure: str) -> float | None:
    """Return the standard deviation of a figure between seeds, pooled over trials; None if no trial has two seeds."""
    rows = [row for row in replicate_values(finished, figure) if len(row.values) > 1]
    freedom = sum(len(row.values) - 1 for row in rows)
    return (sum((len(row.values) - 1) * row.spread**2 for row in rows) / freedom) ** 0.5 if freedom else None


def best_trials(records: Iterable[TrialRecord], count: int) -> list[TrialRecord]:
    """Return the `count` complete trials with the highest values, the earlier of equals first."""
    complete = [record for record in records if record.state == "complete" and record.value is not None]
    return sorted(complete, key=lambda record: (-(record.value or 0.0), record.number))[:count]
