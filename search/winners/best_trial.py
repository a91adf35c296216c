"""Choose the trial to export: the best on the prepared set, by its mean over other seeds if it was trained again."""

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
    """A trial chosen for export, with the settings of its study."""

    settings: StudySettings
    record: TrialRecord
    confirmed: float | None = None
    """Mean objective over other seeds; None if the trial was not trained again."""
    picked: bool = False
    """Whether the user chose it by its number and it is not the best of its study."""
    refit: Path | None = None
    """Folder of the weights trained anew on training and validation images; None to export the trial's own weights."""

    @property
    def value(self) -> float:
        """Value for comparison with the best trials of other studies."""
        return self.confirmed if self.confirmed is not None else self.record.value or 0.0


def find_winner(workspace: Workspace, prepared: PreparedSet, backbone: str | None) -> Winner:
    """Return the best trial on the prepared set, of one backbone or of all.

    Raises:
        SearchError: No trial on this prepared set is complete; the error names studies on earlier preparations.
    """
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
    """Return the best of the studies' best trials.

    If their objectives differ, a figure that all of them have decides. Means over other seeds are used only if all
    trials have one: a mean would lose against the lucky value of a search.
    """
    figure = common_figure({winner.settings.objective for winner in winners})
    if figure is None:
        fair = all(winner.confirmed is not None for winner in winners)
        return max(winners, key=lambda winner: winner.value if fair else winner.record.value or 0.0)
    return max(winners, key=lambda winner: figure_of(winner.record, figure))


def common_figure(objectives: Collection[str]) -> str | None:
    """Return the figure for comparing trials with different objectives; None if they share one objective."""
    return DEFAULT_OBJECTIVE if len(objectives) > 1 else None


def figure_of(record: TrialRecord, figure: str) -> float:
    """Return a figure on the validation images, or the clean macro-F1 if there were no corrupted images for it."""
    validation = record.outcome["best"]["validation"]
    return float(validation.get(figure, validation[CLEAN_OBJECTIVE]))


def best_of(study: StoredStudy) -> Winner | None:
    """Return the trial with the best mean over other seeds, or the best of the search if none was trained again.

    The best of many trials is also the luckiest, so its value in the search is biased upwards.
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
    """Return the winner, followed by the next best complete trials whose weights were kept.

    A trial that several versions of its study share counts once.

    Args:
        wanted: Whether trials of this study may take part. It also needs the winner's prepared set and objective.
        count: Maximum number of trials, including the winner.
    """
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
    """Return a key that is the same for trials with the same weights."""
    return one.record.outcome.get("weights_sha256") or f"{one.settings.name} {one.record.number}"


def check_kept(workspace: Workspace, winner: Winner) -> None:
    """Check that the trial's weights were kept.

    Raises:
        SearchError: They were removed.
    """
    name, number = winner.settings.name, winner.record.number
    if not _has_weights(workspace, name, number):
        raise SearchError(
            f"the weights of trial {number} of {name} were removed, since it was not among the best of its study: "
            f"`hpsearch rerun {name} {number} --restore` trains them again; `hpsearch run --keep N` keeps more"
        )


def _has_weights(workspace: Workspace, study: str, number: int) -> bool:
    return (trial_folder(workspace.trials, study, number) / WEIGHTS_FILE).is_file()
