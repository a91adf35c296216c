"""Choose the best trial within a budget for the cost of running the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf

from data_prep.storage.reader import PreparedSet
from search.engine.job import WEIGHTS_FILE, trial_folder
from search.errors import SearchError
from search.winners.best_trial import Winner, best_of, best_winner, check_kept, find_winner
from search.winners.budget_options import LIMITS
from search.workspace import Workspace
from studies.records import TrialRecord
from studies.sqlite_reader import StoredStudy, read_studies
from studies.trial_tables import costs


@dataclass(frozen=True)
class Choice:
    """The best trial within the budget."""

    winner: Winner
    left_out: Winner | None = None
    """Best trial regardless of the budget, if it costs more than allowed."""


@dataclass(frozen=True)
class Budget:
    """Limits by their names in LIMITS. Without limits, every trial is within the budget."""

    limits: Mapping[str, float]

    @staticmethod
    def of(options: Mapping[str, float | None]) -> Budget:
        """Build a budget from a command's parameters; those not given are None."""
        return Budget({name: value for name, value in options.items() if value is not None})

    def best(self, workspace: Workspace, prepared: PreparedSet, backbone: str | None) -> Choice:
        """Return the best trial within the budget.

        Raises:
            SearchError: No trial is within the budget (the error names the nearest), no trial on this prepared set is
                complete, or its weights were removed.
        """
        best = find_winner(workspace, prepared, backbone)
        if self.excess(best.record) <= 1:
            check_kept(workspace, best)
            return Choice(best)
        studies = [
            _only(study, lambda record: True)
            for study in read_studies(workspace.database)
            if study.settings.fingerprint == prepared.fingerprint and backbone in (None, study.settings.backbone)
        ]
        within = [_only(study, lambda record: self.excess(record) <= 1) for study in studies]
        winners = [found for study in within if (found := best_of(_exportable(workspace, study)))]
        if winners:
            return Choice(best_winner(winners), best)
        if fitting := [found for study in within if (found := best_of(study))]:
            gone = best_winner(fitting)
            raise SearchError(
                f"the weights of the trials within the budget ({self}), such as trial {gone.record.number} of "
                f"{gone.settings.name}, were not kept: allow more, or search again with a larger --keep"
            )
        raise SearchError(f"no trial is within the budget ({self}): {self._nearest(studies)}")

    def excess(self, record: TrialRecord) -> float:
        """Return the trial's cost as a multiple of its limit, for the limit where that is largest; 0 without limits.

        The result is infinite if a limited cost was not measured, as in trials of earlier versions.
        """
        found = costs(record)
        shares = []
        for name, most in self.limits.items():
            amount = found[LIMITS[name].figure]
            shares.append(inf if amount is None else amount / most)
        return max(shares, default=0.0)

    def costs(self, record: TrialRecord) -> str:
        """Return the trial's limited costs as text."""
        found = costs(record)
        return ", ".join(f"{_text(found[LIMITS[name].figure])} {LIMITS[name].unit}" for name in self.limits)

    def __str__(self) -> str:
        return ", ".join(f"at most {_text(value)} {LIMITS[name].unit}" for name, value in self.limits.items())

    def _nearest(self, studies: list[StoredStudy]) -> str:
        trials = [(study.name, record) for study in studies for record in study.records]
        name, record = min(trials, key=lambda one: (self.excess(one[1]), -(one[1].value or 0.0)))
        return (
            f"nearest is trial {record.number} of {name} with {self.costs(record)}, {record.value:.4f}; allow more, or "
            f"search a smaller backbone"
        )


def _only(study: StoredStudy, wanted: Callable[[TrialRecord], bool]) -> StoredStudy:
    """Return the study with only the complete trials that are wanted."""
    records = tuple(record for record in study.records if record.state == "complete" and wanted(record))
    numbers = {record.number for record in records}
    return replace(study, records=records, retrained=tuple(one for one in study.retrained if one.what.trial in numbers))


def _exportable(workspace: Workspace, study: StoredStudy) -> StoredStudy:
    folders = workspace.trials
    return _only(study, lambda record: (trial_folder(folders, study.name, record.number) / WEIGHTS_FILE).is_file())


def _text(amount: float | None) -> str:
    if amount is None:
        return "unknown"
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.4g}"
