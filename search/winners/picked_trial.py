"""Find the trial that the user asked to export, by its number or as the best of a named study."""

from __future__ import annotations

from dataclasses import dataclass

from data_prep.storage.reader import PreparedSet
from search.errors import SearchError
from search.planning.stored_studies import check_is_here
from search.winners.best_trial import Winner, best_of, check_kept, find_winner
from search.workspace import Workspace
from studies.settings import StudySettings
from studies.sqlite_reader import StoredStudy, read_studies


@dataclass(frozen=True)
class Pick:
    """Backbone, study and trial that the user asked for; with all None, the best trial of all."""

    backbone: str | None = None
    study: str | None = None
    trial: int | None = None

    def allows(self, settings: StudySettings) -> bool:
        """Return whether the study fits the backbone and the study that the user asked for."""
        return self.backbone in (None, settings.backbone) and self.study in (None, settings.name)


def picked(workspace: Workspace, prepared: PreparedSet, pick: Pick) -> Winner:
    """Return the trial that the user asked for.

    Raises:
        SearchError: There is no such study or trial, the trial is not complete, or its weights were removed.
    """
    found = _picked(workspace, prepared, pick)
    check_kept(workspace, found)
    return found


def _picked(workspace: Workspace, prepared: PreparedSet, pick: Pick) -> Winner:
    if pick.study is None and pick.trial is None:
        return find_winner(workspace, prepared, pick.backbone)
    name = pick.study or find_winner(workspace, prepared, pick.backbone).settings.name
    study = _study(workspace, prepared, name, pick.backbone)
    best = best_of(study)
    if pick.trial is not None:
        found = _trial(study, pick.trial)
        return best if best and best.record.number == pick.trial else found
    if best is None:
        raise SearchError(f"{name} has no finished trial to export: go on with `hpsearch run --study {name}`")
    return best


def _study(workspace: Workspace, prepared: PreparedSet, name: str, backbone: str | None) -> StoredStudy:
    found = read_studies(workspace.database)
    studies = {study.name: study for study in found}
    if name not in studies:  # it may be the name that the study was given in the dashboard
        name = next((study.name for study in found if study.title == name), name)
    if name not in studies:
        raise SearchError(f"there is no study {name!r}; existing studies: {', '.join(studies) or 'none'}")
    settings = studies[name].settings
    check_is_here(settings, prepared)
    if backbone and settings.backbone != backbone:
        raise SearchError(f"the study {name} is of {settings.backbone}, not of {backbone}: leave one of them out")
    return studies[name]


def _trial(study: StoredStudy, number: int) -> Winner:
    by_number = {record.number: record for record in study.records}
    complete = [str(record.number) for record in study.records if record.state == "complete"]
    there = f"complete are {', '.join(complete)}" if complete else "none is complete"
    if number not in by_number:
        raise SearchError(f"there is no trial {number} in {study.name}; {there}")
    record = by_number[number]
    if record.state != "complete":
        raise SearchError(f"trial {number} of {study.name} is {record.state_text}, not complete; {there}")
    return Winner(study.settings, record, picked=True)
