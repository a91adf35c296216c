"""compare: ties by the best source of noise there is, rank correlations, studies of before."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from click.testing import CliRunner

from data_prep.storage.reader import PreparedSet
from models.scoring.intervals import Resampling
from search.cli import main
from search.engine.job import CORRUPTED_FILE, PROBABILITIES_FILE, trial_folder
from search.winners.best_trial import find_winner
from search.winners.ties import BY_IMAGES, BY_RULE, BY_SEEDS
from search.workspace import Workspace
from studies.records import TrialEnd, store_record
from studies.replicates import FinishedReplicate, Replicate, store_replicate
from studies.settings import StudySettings
from studies.storage import create_study, open_storage
from studies.trial_tables import COSTS

SETTINGS = StudySettings("vgg19", "", "none", {}, "mean_macro_f1", "tpe", "median", 0, {})
COST = {"cost": {"flops_per_image": 2_500_000, "weights_mb": 0.25}}
SCORES = ("macro_f1", "corrupted_macro_f1", "worst_family_macro_f1")


@pytest.fixture
def workspace(tiny_workspace: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(tiny_workspace / "prepared", tmp_path / "prepared")
    return Workspace(tmp_path)


def study_in(workspace: Workspace, backbone: str = "vgg19") -> optuna.Study:
    fingerprint = PreparedSet.open(workspace.prepared).fingerprint
    settings = replace(SETTINGS, backbone=backbone, fingerprint=fingerprint)
    return create_study(open_storage(workspace.database), settings)


def finish(study: optuna.Study, clean: float, corrupted: float | None = None, worst: float | None = None) -> int:
    """Stores a complete trial with these figures; its number."""
    trial = study.ask()
    scores: dict[str, Any] = dict.fromkeys(("accuracy", "macro_precision", "macro_recall"), clean) | {"macro_f1": clean}
    if corrupted is not None:
        scores["external"] = {"other": {"accuracy": clean, "macro_f1": clean / 2, "images": 4}}
        scores |= {
            "mean_macro_f1": (clean + corrupted) / 2,
            "corrupted_macro_f1": corrupted,
            "worst_family_macro_f1": worst,
            "worst_family": "noise",
        }
    outcome = {"best": {"validation": scores}, "parameters": 7, "ms_per_image": 0.5} | COST
    store_record(trial, TrialEnd({"learning_rate": 0.1}, [{"value": clean}], outcome))
    study.tell(trial, clean)
    return trial.number


def store_guesses(workspace: Workspace, study: optuna.Study, number: int, right: float) -> None:
    """Probabilities of a trial that is right on about this share of images and views, on the same ones as any other."""
    prepared = PreparedSet.open(workspace.prepared)
    labels, views = prepared.labels("validation"), prepared.corrupted("validation").images.shape[1]
    folder = trial_folder(workspace.trials, study.study_name, number)
    folder.mkdir(parents=True)
    for name, shape in ((PROBABILITIES_FILE, ()), (CORRUPTED_FILE, (views,))):
        luck = np.random.default_rng(0).random((len(labels), *shape))
        truth = labels.reshape(-1, *(1 for _ in shape))
        np.save(folder / name, np.eye(3, dtype="float32")[np.where(luck < right, truth, (truth + 1) % 3)])


def compared(workspace: Workspace, *options: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare", "--json", *options])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def standings(found: dict[str, Any]) -> list[list[str | None]]:
    return [[row["standing"].get(name) for name in SCORES] for row in found["trials"]]


def test_without_anything_better_a_seed_noise_is_assumed(workspace: Workspace) -> None:
    study = study_in(workspace)
    for scores in ((0.950, 0.70, 0.5), (0.945, 0.60, 0.495), (0.900, 0.695, 0.4)):
        finish(study, *scores)
    found = compared(workspace, "--trials")
    assert standings(found) == [["best", "best", "best"], ["tie", None, "tie"], [None, "tie", None]]
    assert found["noise"] == [BY_RULE]


def test_stored_probabilities_tell_the_noise_of_the_images(workspace: Workspace) -> None:
    study = study_in(workspace)
    for value, right in ((0.95, 0.95), (0.90, 0.85), (0.30, 0.10)):
        store_guesses(workspace, study, finish(study, value, value, value), right)
    found = compared(workspace, "--trials")
    assert found["noise"] == [BY_IMAGES]
    assert standings(found) == [["best"] * 3, ["tie"] * 3, [None] * 3]  # 14 validation images tell no 5 points


def test_few_resamples_decide_as_all_would(workspace: Workspace) -> None:
    study, prepared = study_in(workspace), PreparedSet.open(workspace.prepared)
    values = np.random.default_rng(0).uniform(0.2, 0.95, (40, 3)).tolist()
    for right, scores in zip(np.linspace(0.2, 0.95, 40), values, strict=True):
        store_guesses(workspace, study, finish(study, *scores), right)
    groups, views = prepared.groups("validation"), prepared.corrupted("validation")
    resampling = Resampling(prepared.labels("validation"), 3, groups=groups)
    files = (PROBABILITIES_FILE, CORRUPTED_FILE, CORRUPTED_FILE)
    rows = compared(workspace, "--trials")["trials"]
    for figure, name in zip(SCORES, files, strict=True):
        found = []
        for row in rows:
            guesses = np.load(trial_folder(workspace.trials, study.study_name, row["trial"]) / name).argmax(axis=-1)
            sets = [taken for taken in views.families.values() if taken.any()] if "worst" in figure else [None]
            found.append(np.min([resampling.figures(guesses, taken, present=True).macro_f1 for taken in sets], axis=0))
        best = int(np.argmax([row[figure] for row in rows]))
        for row, one in zip(rows, found, strict=True):
            limit = 1.96 * np.std(found[best] - one)
            expected = "tie" if rows[best][figure] - row[figure] <= limit else None
            assert row["standing"][figure] == ("best" if row is rows[best] else expected)
        assert {row["standing"][figure] for row in rows} == {"best", "tie", None}


def test_retrainings_tell_the_noise_of_the_seeds_and_who_is_exported(workspace: Workspace) -> None:
    study = study_in(workspace)
    lucky, steady = finish(study, 0.95, 0.7, 0.5), finish(study, 0.94, 0.7, 0.5)
    for trial, values in ((lucky, (0.90, 0.91)), (steady, (0.94, 0.95))):
        for seed, value in enumerate(values, 1):
            done = FinishedReplicate(Replicate(trial, seed), {"macro_f1": value, "mean_macro_f1": value})
            store_replicate(open_storage(workspace.database), study.study_name, done, value)
    found = compared(workspace, "--trials")
    assert found["noise"] == sorted([BY_SEEDS, BY_RULE])  # of the corrupted figures nothing is known
    assert [row[0] for row in standings(found)] == ["best", "tie"]
    assert [row["trial"] for row in compared(workspace)["trials"]] == [steady]
    winner = find_winner(workspace, PreparedSet.open(workspace.prepared), None)
    assert (winner.record.number, winner.confirmed) == (steady, pytest.approx(0.945))


def test_studies_of_different_objectives_are_compared_by_one_figure(workspace: Workspace) -> None:
    mean = study_in(workspace)
    better = finish(mean, 0.5, 0.7, 0.5)
    fingerprint = PreparedSet.open(workspace.prepared).fingerprint
    settings = replace(SETTINGS, backbone="vgg16", fingerprint=fingerprint, objective="accuracy")
    finish(create_study(open_storage(workspace.database), settings), 0.8, 0.1, 0.1)
    assert compared(workspace)["trials"][0]["study"] == mean.study_name
    output = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare"]).output
    assert "different objectives" in output and mean.study_name in output
    winner = find_winner(workspace, PreparedSet.open(workspace.prepared), None)
    assert (winner.settings.backbone, winner.record.number) == ("vgg19", better)


def test_rank_correlations_over_the_complete_trials(workspace: Workspace) -> None:
    study = study_in(workspace)
    for number in range(4):
        finish(study, 0.9 + number / 100, 0.6 - number / 100, 0.5 + number / 100)
    assert compared(workspace)["rank_correlations"] == []
    finish(study_in(workspace, "vgg16"), 0.99, 0.1, 0.6)
    rows = {row["columns"]: row for row in compared(workspace)["rank_correlations"]}
    assert rows["clean F1, corrupted F1"]["kendall_tau"] == pytest.approx(-1)
    assert rows["clean F1, worst family F1"]["spearman_rho"] == pytest.approx(1)
    assert all(row["trials"] == 5 for row in rows.values())


def test_studies_of_before_show_dashes(workspace: Workspace) -> None:
    study = study_in(workspace)
    finish(study, 0.95)
    finish(study, 0.949)
    (row,) = compared(workspace)["trials"]
    assert row["corrupted_macro_f1"] is None and row["external"] == {}
    assert row["standing"] == {"macro_f1": "best"}
    output = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare", "--trials"]).output
    assert "0.9490 =" in output and " - " in output and "external" not in output.lower()
    finish(study, 0.8, 0.7, 0.6)
    output = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare", "--trials"]).output
    assert "0.4000" in output and "macro-F1 over the classes of the external set" in output
    assert BY_RULE in output


def test_what_the_networks_cost_is_shown_and_dashes_of_before_it_was_counted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(study_in(workspace), 0.95)
    monkeypatch.setattr(sys.modules[__name__], "COST", {})
    finish(study_in(workspace, "small_cnn"), 0.90)
    shown = [[row[name] for name in COSTS] for row in compared(workspace)["trials"]]
    assert shown == [[7, 2_500_000, 0.5, 0.25], [7, None, 0.5, None]]
    output = CliRunner().invoke(main, ["-w", str(workspace.folder), "compare", "--details"]).output
    lines = [line.split()[-4:] for line in output.splitlines() if "0.5000" in line]
    assert lines == [["7", "0.0025", "0.5000", "0.2500"], ["7", "-", "0.5000", "-"]]


def test_no_trial_yet(workspace: Workspace) -> None:
    study_in(workspace)
    assert "No trial is complete yet" in CliRunner().invoke(main, ["-w", str(workspace.folder), "compare"]).output
    assert compared(workspace)["trials"] == []
