"""Whose weights are handed over: members of an average, weights that were removed, means of confirmed trials."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner

from data_prep.storage.reader import PreparedSet
from search.cli import main
from search.engine.job import WEIGHTS_FILE, trial_folder
from search.errors import SearchError
from search.winners.best_trial import best_members, check_kept, find_winner
from search.winners.picked_trial import Pick
from search.workspace import Workspace
from studies.records import TrialEnd, store_record
from studies.replicates import FinishedReplicate, Replicate, store_replicate
from studies.settings import StudySettings
from studies.storage import create_study, open_storage

SETTINGS = StudySettings("vgg19", "", "none", {}, "macro_f1", "tpe", "median", 0, {})
SCORES = dict.fromkeys(("accuracy", "macro_precision", "macro_recall", "macro_f1"), 0.5)


@pytest.fixture
def workspace(tiny_workspace: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(tiny_workspace / "prepared", tmp_path / "prepared")
    return Workspace(tmp_path)


def store(workspace: Workspace, settings: StudySettings, values: dict[str, float]) -> StudySettings:
    """A study with a trial of each of these weights, which are kept."""
    prepared = PreparedSet.open(workspace.prepared)
    settings = replace(settings, fingerprint=prepared.fingerprint)
    study = create_study(open_storage(workspace.database), settings)
    for weights, value in values.items():
        trial = study.ask()
        outcome = {"best": {"validation": SCORES}, "weights_sha256": weights}
        store_record(trial, TrialEnd({"dropout": 0.1}, [], outcome))
        study.tell(trial, value)
        folder = trial_folder(workspace.trials, study.study_name, trial.number)
        folder.mkdir(parents=True)
        (folder / WEIGHTS_FILE).touch()
    return settings


def test_a_trial_that_two_versions_of_a_study_have_is_averaged_once(workspace: Workspace) -> None:
    store(workspace, SETTINGS, {"a": 0.9, "b": 0.8, "c": 0.7})
    store(workspace, replace(SETTINGS, version=2), {"a": 0.9, "c": 0.7, "d": 0.6})
    prepared = PreparedSet.open(workspace.prepared)
    winner = find_winner(workspace, prepared, None)
    members = best_members(workspace, Pick().allows, winner, 4)
    assert [one.record.outcome["weights_sha256"] for one in members] == ["a", "b", "c", "d"]
    assert len(best_members(workspace, Pick().allows, winner, 2)) == 2


def test_an_average_is_of_what_was_asked_for(workspace: Workspace) -> None:
    first = store(workspace, SETTINGS, {"a": 0.9, "b": 0.6})
    store(workspace, replace(SETTINGS, backbone="small_cnn"), {"c": 0.8})
    later = store(workspace, replace(SETTINGS, version=2), {"d": 0.7})
    winner = find_winner(workspace, PreparedSet.open(workspace.prepared), None)

    def joined(pick: Pick) -> list[str]:
        members = best_members(workspace, pick.allows, winner, 4)
        return [one.record.outcome["weights_sha256"] for one in members]

    assert joined(Pick()) == ["a", "c", "d", "b"]
    assert joined(Pick(backbone="vgg19")) == ["a", "d", "b"]
    assert joined(Pick(study=first.name)) == ["a", "b"] and later.name != first.name


def test_weights_that_were_removed_are_named_with_the_way_to_have_them_again(workspace: Workspace) -> None:
    settings = store(workspace, SETTINGS, {"a": 0.9, "b": 0.8})
    winner = find_winner(workspace, PreparedSet.open(workspace.prepared), None)
    check_kept(workspace, winner)
    (trial_folder(workspace.trials, settings.name, 0) / WEIGHTS_FILE).unlink()
    with pytest.raises(SearchError, match=f"`hpsearch rerun {settings.name} 0 --restore` trains them again"):
        check_kept(workspace, winner)


def test_a_confirmed_study_does_not_lose_to_the_lucky_value_of_another(workspace: Workspace) -> None:
    confirmed = store(workspace, SETTINGS, {"a": 0.9})
    other = store(workspace, replace(SETTINGS, backbone="small_cnn"), {"b": 0.85})
    prepared = PreparedSet.open(workspace.prepared)

    def again(settings: StudySettings, value: float) -> None:
        done = FinishedReplicate(Replicate(0, 1), {"macro_f1": value})
        store_replicate(open_storage(workspace.database), settings.name, done, value)

    again(confirmed, 0.82)
    assert find_winner(workspace, prepared, None).settings.name == confirmed.name
    again(other, 0.84)  # now both have a fair one
    result = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare", "--json"])
    rows = json.loads(result.stdout)["trials"]
    assert [(row["study"], row["confirmed"]) for row in rows] == [
        (other.name, {"mean": 0.84, "seeds": 1}),
        (confirmed.name, {"mean": 0.82, "seeds": 1}),
    ]
    shown = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare"], env={"COLUMNS": "300"}).stdout
    assert "other seeds" in shown and "0.8400 (1)" in shown
    assert find_winner(workspace, prepared, None).settings.name == other.name


def test_what_is_left_of_a_study_that_the_dashboard_deleted_decides_nothing(workspace: Workspace) -> None:
    settings = store(workspace, SETTINGS, {"a": 0.9, "b": 0.8, "c": 0.7})
    storage = open_storage(workspace.database)
    store_replicate(storage, settings.name, FinishedReplicate(Replicate(2, 1), {"macro_f1": 0.95}), 0.95)
    optuna.delete_study(study_name=settings.name, storage=storage)
    shutil.rmtree(workspace.trials)
    store(workspace, SETTINGS, {"d": 0.9})
    assert find_winner(workspace, PreparedSet.open(workspace.prepared), None).record.number == 0
    # Of a trial that is not complete, or not there, nothing counts either.
    store_replicate(storage, settings.name, FinishedReplicate(Replicate(7, 1), {"macro_f1": 0.95}), 0.95)
    assert find_winner(workspace, PreparedSet.open(workspace.prepared), None).record.number == 0
