"""run --dry-run: what is foretold follows from the rates, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_search import FAKE_WORKER

from data_prep.storage.reader import PreparedSet
from models.training.trial_rates import PhaseRates, TrialRates, Views
from search.cli import main
from search.engine.worker import Worker
from search.planning.dry_run import scratch_folder
from search.planning.estimate import DiskNeeds, Images, PlannedSearch, SpeedClass, quickest_and_slowest
from search.workspace import Workspace
from studies.definition import definition_of

IMAGES = Images(train=100, copies=1, validation=20, corrupted=2, classes=4)
HEAD_RATES = PhaseRates("head", trained_view_s=0.001, scored_view_s=0.001, rest_s=0.0, kept_view_s=0.0)
TUNING_RATES = PhaseRates("fine-tuning", trained_view_s=0.01, scored_view_s=0.005, rest_s=0.2, kept_view_s=0.0)
RATES = TrialRates(
    0.5,
    setup_s=1.0,
    end_view_s=0.01,
    trace_s=4.0,
    state_bytes=1000,
    weights_bytes=500,
    phases=(HEAD_RATES, TUNING_RATES),
)
EPOCHS = {"head": 2, "fine-tuning": 10}


def kind(**changes: Any) -> SpeedClass:
    return SpeedClass("every", TrialRates(**(vars(RATES) | changes)), Views(100, 60), EPOCHS)


def test_a_trial_is_the_sum_of_its_epochs() -> None:
    head, tuning = 0.1 + 0.06, 1.0 + 0.3 + 0.2
    assert kind().trial_s == pytest.approx(1.0 + 2 * head + 10 * tuning + 0.6)
    assert kind().row()["fine-tuning_epoch_s"] == pytest.approx(tuning)


def test_a_search_is_its_trials_and_what_is_done_once() -> None:
    search = PlannedSearch(3, IMAGES, [kind(), kind(setup_s=2.0)], parts=2, start_s=10.0)
    trial_s = kind().trial_s
    assert search.once_s() == pytest.approx(10 + 4 + 4)
    assert search.total_s() == pytest.approx((18 + 3 * (trial_s + 0.5), 18 + 3 * trial_s, 18 + 3 * (trial_s + 1)))
    assert PlannedSearch(0, IMAGES, [kind()], 1, 10.0).total_s() == (0, 0, 0)
    fresh = PlannedSearch(3, IMAGES, [kind()], parts=2, start_s=10.0, fresh=True)
    assert fresh.once_s() == pytest.approx(3 * (10 + 4))


def test_frozen_layers_output_is_computed_once_for_each_view() -> None:
    phases = (HEAD_RATES, PhaseRates("fine-tuning", 0.01, 0.005, 0.2, kept_view_s=0.1))
    kept_s = kind(phases=phases).kept_s(IMAGES, 5, "fine-tuning")
    assert kept_s == pytest.approx(0.1 * (100 * 2 + 60), rel=1e-3)  # 50 epochs see both views of each image
    searches = [PlannedSearch(20, IMAGES, [kind(phases=phases)], 4, 10.0, kept_cuts=cuts) for cuts in (0.0, 2.0)]
    assert searches[1].once_s() - searches[0].once_s() == pytest.approx(2 * kept_s, rel=1e-3)
    assert kind(phases=phases).kept_s(IMAGES, 5, "head") == 0


def test_room_on_the_disk() -> None:
    room = DiskNeeds(20, 5, 2_000, 1_000, [10, 10**6], "float16", most_feature_bytes=10**6)
    assert room.rows(IMAGES) == {
        "weights": 10_000,
        "state": 2_000,
        "probabilities": 20 * 60 * 4 * 4,
        "features": 10 * 2 * (200 + 60),  # the other cut's are too large to be kept
    }


def test_the_extremes_of_a_space() -> None:
    space: dict[str, dict[str, Any]] = {
        "frozen_fraction": {"low": 0.0, "high": 0.75, "step": 0.25},
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"low": 16, "high": 48, "step": 16},
        "optimizer": {"choices": ["sgd", "adam"]},
        "momentum": {"low": 0.8, "high": 0.9, "when": {"optimizer": ["sgd"]}},
        "input_mode": {"choices": ["bank", "bank+in-model"]},
    }
    middle = {
        "learning_rate": pytest.approx(1e-3),
        "batch_size": 32,
        "optimizer": "sgd",
        "momentum": pytest.approx(0.85),
    }
    found = quickest_and_slowest(definition_of(space))
    assert found["quickest"] == {"frozen_fraction": 0.75, "input_mode": "bank", **middle}
    assert found["slowest"] == {"frozen_fraction": 0.0, "input_mode": "bank+in-model", **middle}
    assert list(quickest_and_slowest(definition_of({"dropout": {"low": 0.0, "high": 0.5}}))) == ["every"]


@pytest.fixture
def workspace(tiny_workspace: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(tiny_workspace / "prepared", tmp_path / "prepared")
    return Workspace(tmp_path)


def dry_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, mode: str = "") -> Result:
    monkeypatch.setattr(Worker.__init__, "__defaults__", ((*FAKE_WORKER, mode), None, False, 1))
    options = ("-b", "small_cnn", "-n", "4", "--epochs", "3", "--dry-run")
    return CliRunner().invoke(main, ["-w", str(workspace.folder), "run", *options])


def test_the_command_tells_and_leaves_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    result = dry_run(workspace, monkeypatch)
    assert result.exit_code == 0, result.output
    images = Images.of(PreparedSet.open(workspace.prepared))
    quick = 1 + 3 * (0.01 * images.train + 0.001 * images.scored + 0.1) + 0.001 * images.scored
    slow = quick + 3 * 0.01 * images.train
    for word, seconds in (("quickest", quick), ("slowest", slow)):
        (line,) = (line for line in result.output.splitlines() if word in line)
        assert f"{seconds:.2g} s" in line
    assert "4 trials to come: about " in result.output
    assert "weights 8.0 MB, state 2.0 MB" in result.output
    assert {path.name for path in workspace.folder.iterdir()} <= {"prepared", ".lock"}


def test_a_sigterm_leaves_nothing_either(tmp_path: Path) -> None:
    def be_ended() -> None:
        with scratch_folder(Workspace(tmp_path)) as folder:
            (folder / "state.npz").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        be_ended()
    assert list(tmp_path.iterdir()) == []


def test_the_log_of_a_training_process_that_died_is_kept(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    result = dry_run(workspace, monkeypatch, "huge")
    assert result.exit_code == 1
    (log,) = workspace.folder.glob(".dry-run-*/worker.log")
    assert f"was killed by signal 9; its output is in {log}" in result.output
    assert not workspace.database.exists() and not workspace.trials.exists()
