"""Which trial is handed over: the best on the prepared set, by its mean over other seeds where there is one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.storage.reader import PreparedSet
from models.scoring.objectives import CLEAN_OBJECTIVE, DEFAULT_OBJECTIVE
from search.engine.job import WEIGHTS_FILE, trial_folder
from search.errors import SearchError
from search.workspace import Workspace
from studies.records import TrialRecord, best_record
from studies.replicates import best_replicated, best_trials
from studies.settings import StudySettings
from studies.sqlite_reader import StoredStudy, read_studies


@dataclass(frozen=True)
class Winner:
    """The best trial of the studies on the prepared set, of one backbone or of all."""

    settings: StudySettings
    record: TrialRecord
    confirmed: float | None = None
    """Its mean objective over other seeds, where it was trained again on some."""
    picked: bool = False
    """Somebody named it by its number; it is not the best of its study."""
    refit: Path | None = None
    """The folder of its weights trained anew on training and validation images, where those are handed over."""

    @property
    def value(self) -> float:
        """What it is compared by with the best of other studies."""
        return self.confirmed if self.confirmed is not None else self.record.value or 0.0


def find_winner(workspace: Workspace, prepared: PreparedSet, backbone: str | None) -> Winner:
    """SearchError when no trial on this prepared set is complete, naming what there is instead."""
    winners, others = [], []
    for study in read_studies(workspace.database):
        if backbone and study.settings.backbone != backbone:
            continue
        if study.settings.fingerprint != prepared.fingerprint:
            others.append(study.name)
        elif best := best_of(study):
            winners.append(best)
    if not winners:
        hint = f" (on an earlier preparation: {', '.join(others)})" if others else ""
        wanted = backbone or "NAME"
        raise SearchError(f"no finished trial to export{hint}: run `hpsearch run --backbone {wanted}` first")
    return best_winner(winners)


def best_winner(winners: Sequence[Winner]) -> Winner:
    """The best of the studies' best; where their objectives differ, by a figure that all of them have. Means over other
    seeds count where all have one: beside the lucky value of a search they would lose."""
    figure = common_figure({winner.settings.objective for winner in winners})
    if figure is None:
        fair = all(winner.confirmed is not None for winner in winners)
        return max(winners, key=lambda winner: winner.value if fair else winner.record.value or 0.0)
    return max(winners, key=lambda winner: figure_of(winner.record, figure))


def common_figure(objectives: Collection[str]) -> str | None:
    """What trials of studies with these objectives are compared by; None where they have one objective."""
    return DEFAULT_OBJECTIVE if len(objectives) > 1 else None


def figure_of(record: TrialRecord, figure: str) -> float:
    """Of the validation images; without corrupted ones the clean macro-F1 stands for the mean with them."""
    validation = record.outcome["best"]["validation"]
    return float(validation.get(figure, validation[CLEAN_OBJECTIVE]))


def best_of(study: StoredStudy) -> Winner | None:
    """The trial with the best mean over other seeds, where any was trained again; else the best one of the search.

    The best of many is also the luckiest, so that its value in the search is no fair one.
    """
    by_number = {record.number: record for record in study.records if record.state == "complete"}
    retrained = [one for one in study.retrained if one.what.trial in by_number]
    if (again := best_replicated(retrained, study.settings.objective)) is not None:
        return Winner(study.settings, by_number[again.trial], again.mean)
    best = best_record(study.records)
    return Winner(study.settings, best) if best else None


def best_members(
    workspace: Workspace, wanted: Callable[[StudySettings], bool], winner: Winner, count: int
) -> tuple[Winner, ...]:
    """The winner and the next best complete trials of `wanted` studies with its prepared set and objective, of those
    whose weights were kept; `count` at most, and one that several versions of its study have once."""
    found, own = [], winner.settings
    for study in read_studies(workspace.database):
        settings = study.settings
        alike = (settings.fingerprint, settings.objective) == (own.fingerprint, own.objective)
        if alike and wanted(settings):
            complete = best_trials(study.records, len(study.records))
            found += [
                Winner(settings, record) for record in complete if _has_weights(workspace, study.name, record.number)
            ]
    others: dict[str, Winner] = {}
    for one in sorted(found, key=lambda one: -one.value):
        others.setdefault(_weights_of(one), one)
    others.pop(_weights_of(winner), None)
    return (winner, *list(others.values())[: count - 1])


def _weights_of(one: Winner) -> str:
    """What two trials with the same weights share."""
    return one.record.outcome.get("weights_sha256") or f"{one.settings.name} {one.record.number}"


def check_kept(workspace: Workspace, winner: Winner) -> None:
    """SearchError when the trial's weights were removed."""
    name, number = winner.settings.name, winner.record.number
    if not _has_weights(workspace, name, number):
        raise SearchError(
            f"the weights of trial {number} of {name} were removed, since it was not among the best of its study: "
            f"`hpsearch rerun {name} {number} --restore` trains them again; `hpsearch run --keep N` keeps more"
        )


def _has_weights(workspace: Workspace, study: str, number: int) -> bool:
    return (trial_folder(workspace.trials, study, number) / WEIGHTS_FILE).is_file()
