"""export-best within a budget: who is chosen over all studies, who is left out, what is said where none fits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from data_prep.storage.reader import PreparedSet
from search.cli import main
from search.engine.job import WEIGHTS_FILE, trial_folder
from search.errors import SearchError
from search.winners.budget_options import LIMITS, Amount
from search.winners.model_budget import Budget, Choice
from search.workspace import Workspace
from studies.records import TrialEnd, store_record
from studies.settings import StudySettings
from studies.storage import create_study, open_storage
from studies.trial_tables import COSTS

SETTINGS = StudySettings("vgg19", "", "none", {}, "macro_f1", "tpe", "median", 0, {})
LARGE = {"parameters": 20_000_000, "ms_per_image": 20.0, "cost": {"flops_per_image": 7 * 10**9, "weights_mb": 80.0}}
SMALL = {"parameters": 400_000, "ms_per_image": 2.0, "cost": {"flops_per_image": 2 * 10**7, "weights_mb": 1.6}}
OLD = {"parameters": 300_000, "ms_per_image": 1.0}
SCORES = dict.fromkeys(("accuracy", "macro_precision", "macro_recall", "macro_f1"), 0.5)


@pytest.fixture(scope="module")
def workspace(tiny_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three studies: the best trial is large, the next one small, the poorest of before FLOPs were counted."""
    workspace = Workspace(tmp_path_factory.mktemp("budget"))
    shutil.copytree(tiny_workspace / "prepared", workspace.prepared)
    trials = {"vgg19": [(0.9, LARGE), (0.8, LARGE)], "mobilenetv2_035": [(0.7, SMALL)], "small_cnn": [(0.6, OLD)]}
    for backbone, rows in trials.items():
        fingerprint = PreparedSet.open(workspace.prepared).fingerprint
        settings = replace(SETTINGS, backbone=backbone, fingerprint=fingerprint)
        study = create_study(open_storage(workspace.database), settings)
        for value, outcome in rows:
            trial = study.ask()
            store_record(trial, TrialEnd({"dropout": 0.1}, [], outcome | {"best": {"validation": SCORES}}))
            study.tell(trial, value)
            folder = trial_folder(workspace.trials, study.study_name, trial.number)
            folder.mkdir(parents=True)
            (folder / WEIGHTS_FILE).touch()
    return workspace


def chosen(workspace: Workspace, **limits: float) -> Choice:
    return Budget.of(limits).best(workspace, PreparedSet.open(workspace.prepared), None)


@pytest.mark.parametrize(
    ("limits", "backbone"),
    [
        ({}, "vgg19"),
        ({"max_params": 20e6}, "vgg19"),
        ({"max_params": 5e6}, "mobilenetv2_035"),
        ({"max_flops": 1e9}, "mobilenetv2_035"),
        ({"max_mb": 10}, "mobilenetv2_035"),
        ({"max_ms": 1.5}, "small_cnn"),
        ({"max_params": 1e6, "max_ms": 1.5}, "small_cnn"),
    ],
)
def test_the_best_trial_within_the_budget(workspace: Workspace, limits: dict[str, float], backbone: str) -> None:
    choice = chosen(workspace, **limits)
    assert choice.winner.settings.backbone == backbone
    assert (choice.left_out is None) == (backbone == "vgg19")
    if choice.left_out:
        assert (choice.left_out.settings.backbone, choice.left_out.record.value) == ("vgg19", 0.9)


@pytest.mark.parametrize(("limits", "nearest"), [({"max_ms": 0.5}, "small_cnn"), ({"max_flops": 1e6}, "mobilenetv2")])
def test_where_none_fits_the_nearest_is_named(workspace: Workspace, limits: dict[str, Any], nearest: str) -> None:
    with pytest.raises(SearchError, match=f"no trial is within the budget .* nearest is trial 0 of {nearest}"):
        chosen(workspace, **limits)


def test_trials_whose_weights_are_gone_are_no_choice(workspace: Workspace, tmp_path: Path) -> None:
    workspace = Workspace(shutil.copytree(workspace.folder, tmp_path / "copy"))
    for path in workspace.trials.glob(f"mobilenetv2_035-*/*/{WEIGHTS_FILE}"):
        path.unlink()
    assert chosen(workspace, max_params=5e6).winner.settings.backbone == "small_cnn"
    with pytest.raises(SearchError, match=r"weights of the trials within .* trial 0 of mobilenetv2_035-.* not kept"):
        chosen(workspace, max_flops=1e9)


@pytest.mark.parametrize(
    ("text", "amount"),
    [("500k", 5e5), ("5M", 5e6), ("0.6g", 6e8), ("5,000,000", 5e6), ("5,000k", 5e6), ("1e6", 1e6), (".5", 0.5)],
)
def test_amounts_as_people_write_them(text: str, amount: float) -> None:
    assert Amount().convert(text, None, None) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["0", "-5", "five", "1,5M", "0,6G", "5 x", "nan", "inf", "1e999", ""])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be a number above 0, such as 500k"):
        Amount().convert(text, None, None)


def test_every_limit_is_of_a_figure_that_compare_shows() -> None:
    assert {limit.figure for limit in LIMITS.values()} == set(COSTS)


def test_the_command_refuses_in_one_line(workspace: Workspace) -> None:
    def call(*options: str) -> str:
        result = CliRunner().invoke(main, ["-w", str(workspace.folder), "export-best", *options])
        assert result.exit_code != 0
        return result.stderr.strip().splitlines()[-1]

    assert "at most 1,000 parameters): nearest is trial 0 of small_cnn-" in call("--max-params", "1k")
    assert "--average and --tta multiply what a model costs" in call("--max-ms", "2", "--tta")
