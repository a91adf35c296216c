"""A workspace made by an earlier version (commit 2de81ed) opens, and goes on as it would have there.

fixtures/workspace_of_2de81ed.zip holds a prepared set of 72 pictures, a study of a tiny `.keras` backbone with four
complete trials, a pruned one and one that was cut off after its first epoch, a confirmation on two
seeds, an export, and in `finished.json` what that version made of the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.check import check
from data_prep.storage.reader import PreparedSet
from search.winners.best_trial import find_winner
from search.workspace import Workspace
from studies.records import records_of
from studies.sqlite_reader import read_studies
from studies.storage import existing_storage, load_study

FIXTURE = Path(__file__).parents[1] / "fixtures" / "workspace_of_2de81ed.zip"
STUDY = "tiny-92c52d1f"


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds workspace/, tiny.keras and finished.json; read only."""
    folder = tmp_path_factory.mktemp("older")
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def gone_on(older: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which `run` finished the trial that was cut off and one more."""
    folder = tmp_path_factory.mktemp("gone-on") / "older"
    shutil.copytree(older, folder)
    done = hpsearch(folder, "run", "--backbone", "tiny.keras", "--trials", "7", "--keep", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def hpsearch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "search", "-w", "workspace", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def expected(older: Path) -> dict[int, dict[str, Any]]:
    trials = json.loads((older / "finished.json").read_text())["trials"]
    return {trial["number"]: trial for trial in trials}


def test_the_prepared_set_opens_and_is_sound(older: Path) -> None:
    prepared = PreparedSet.open(older / "workspace" / "prepared")
    assert prepared.external_names == ("other",) and prepared.levels == ("low",)
    assert check(prepared.folder) == []


def test_the_study_reads_as_it_was_stored(older: Path) -> None:
    (study,) = read_studies(older / "workspace" / "studies.db")
    assert study.name == STUDY and study.settings.recipe["epochs"] == 6
    states = [record.state for record in study.records]
    assert states == ["complete"] * 4 + ["pruned", "waiting"]
    known = expected(older)
    assert [record.value for record in study.records[:4]] == [known[number]["value"] for number in range(4)]
    assert [one.what.seed for one in study.retrained] == [1, 2]


def test_the_winner_is_the_confirmed_trial(older: Path) -> None:
    workspace = Workspace(older / "workspace")
    winner = find_winner(workspace, PreparedSet.open(workspace.prepared), None)
    assert winner.record.number == 2 and winner.confirmed == pytest.approx(0.586, abs=0.001)


def test_trials_under_way_go_on_from_their_last_epoch_to_the_same_end(gone_on: Path) -> None:
    records = records_of(load_study(existing_storage(gone_on / "workspace" / "studies.db"), STUDY))
    known = expected(gone_on)
    assert [record.state for record in records] == [known[number]["state"] for number in range(7)]
    for number in (5, 6):
        assert records[number].hyperparameters == known[number]["hyperparameters"]
        # Other processors round otherwise: an image or two may fall on the other side.
        assert records[number].value == pytest.approx(known[number]["value"], abs=0.05)
        losses = [epoch["training_loss"] for epoch in records[number].epochs]
        assert losses == pytest.approx(known[number]["losses"], abs=0.02)


def test_what_was_trained_before_the_cut_is_not_trained_again(older: Path, gone_on: Path) -> None:
    with np.load(older / "workspace" / "trials" / STUDY / "00005" / "state.npz") as state:
        before = json.loads(state["facts"].tobytes())["epochs"]
    records = records_of(load_study(existing_storage(gone_on / "workspace" / "studies.db"), STUDY))
    assert len(before) == 1 and records[5].epochs[:1] == before  # to the very seconds that it took


def test_a_finished_trial_comes_out_again(gone_on: Path) -> None:
    done = hpsearch(gone_on, "rerun", STUDY, "2", "--tolerance", "0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trial 2 of tiny-92c52d1f, complete after 7 epochs" in done.stdout


def test_the_export_still_scores_and_exporting_again_shows_the_stored_figures(gone_on: Path) -> None:
    scored = hpsearch(gone_on, "evaluate", f"workspace/exports/{STUDY}-trial-2", "--test", "--json")
    assert scored.returncode == 0, scored.stderr
    figures, stored = json.loads(scored.stdout), gone_on / "workspace" / "exports" / f"{STUDY}-trial-2" / "metrics.json"
    assert figures["macro_f1"] == pytest.approx(json.loads(stored.read_text())["test"]["macro_f1"], abs=1e-6)
    again = hpsearch(gone_on, "export-best", "--study", STUDY, "--trial", "2")
    assert again.returncode == 0, again.stderr
    assert "the stored figures of its first export" in again.stdout
