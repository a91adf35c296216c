"""Start a study from hints: the hyperparameters of another study's best trials are tried first.

Their scores are not taken over, since they would differ on another backbone or on other images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna

from search.errors import SearchError
from search.workspace import Workspace
from studies.definition import Definition
from studies.proposals import Proposal, enqueue, fitted, tried
from studies.records import TrialRecord
from studies.replicates import best_trials
from studies.sqlite_reader import read_studies

HINT_OF = "hpsearch:hint_of"
"""User attribute with the study and number of the trial that the hyperparameters come from."""


@dataclass(frozen=True)
class Hints:
    """The best complete trials of one study, best first."""

    study: str
    records: tuple[TrialRecord, ...]


def read_hints(workspace: Workspace, source: str, count: int) -> Hints:
    """Read the best trials of a study as hints, `count` at most.

    Args:
        source: `STUDY` for a study of this workspace, or `WORKSPACE:STUDY`.

    Raises:
        SearchError: There is no such study, or it has no complete trial.
        StudyError: The other workspace has no studies at all.
    """
    folder, _, name = source.rpartition(":")
    studies = {one.name: one for one in read_studies(_database(workspace, folder))}
    if name not in studies:
        raise SearchError(
            f"--warm-start: there is no study {name!r}{f' in {folder}' if folder else ''}; existing studies: "
            f"{', '.join(studies) or 'none'} (name one of another workspace as WORKSPACE:STUDY)"
        )
    best = best_trials(studies[name].records, count)
    if not best:
        raise SearchError(f"--warm-start: {name} has no complete trial to start from: run it first, or leave this out")
    return Hints(name, tuple(best))


def _database(workspace: Workspace, folder: str) -> Path:
    return Workspace(Path(folder).expanduser()).database if folder else workspace.database


def take_hints(study: optuna.Study, definition: Definition, hints: Hints, say: Callable[[str], None]) -> int:
    """Enqueue the hints that the study has not tried yet; a second call enqueues none.

    Args:
        say: Called with a line on the enqueued hints and on each value that was changed to fit the space.

    Returns:
        The number of enqueued hints.
    """
    before, notes = len(study.get_trials(deepcopy=False)), {}
    taken = 0
    for record in hints.records:
        proposal = fitted(definition, record.hyperparameters)
        if not proposal.values or tried(study, proposal.values) is not None:
            continue
        enqueue(study, proposal, {HINT_OF: f"{hints.study} {record.number}"})
        notes[record.number] = proposal
        taken += 1
    found = f"the {len(hints.records)} best trials of {hints.study}"
    if not before:
        say(f"trying {found} first" + (f" ({taken} distinct)" if taken < len(hints.records) else ""))
    elif taken:
        are = "is" if taken == 1 else "are"
        say(f"{taken} of {found} {are} new to {study.study_name} and {are} tried next")
    else:
        say(f"{found} are already among the {before} trials of {study.study_name}")
    for line in _lines(notes):
        say(line)
    return taken


def _lines(taken: dict[int, Proposal]) -> list[str]:
    """Return a line for each change, with the numbers of the trials it applies to."""
    numbers: dict[str, list[str]] = {}
    for number, proposal in taken.items():
        for note in proposal.notes:
            numbers.setdefault(note, []).append(str(number))
    return [f"  of trial{'s' if len(which) > 1 else ''} {', '.join(which)}, {note}" for note, which in numbers.items()]
