"""The best trials trained again, by real processes that train nothing (fake_worker.py)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_search import SETTINGS, Listener, searching

from data_prep.storage.reader import PreparedSet
from search.cli import main
from search.engine.loop import Search
from search.engine.worker import WorkerDiedError
from search.errors import SearchError
from search.winners.confirmation import Confirmation, Confirmer, summary
from studies.records import records_of
from studies.replicates import FinishedReplicate, Replicate, best_replicated, replicate_values, replicates_of
from studies.storage import open_storage


def retrainer(folder: Path, search: Search, listener: Listener) -> Confirmer:
    storage = open_storage(folder / "studies.db")
    return Confirmer(storage, search.study, SETTINGS, search.worker, search.make_job, listener.say, search.stop_request)


def test_the_best_are_trained_on_other_seeds_and_the_best_of_them_on_folds(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, listener):
        search.run(5)
        again = retrainer(tmp_path, search, listener)
        again.run(Confirmation(2, 2, 3))
        best = sorted(records_of(search.study), key=lambda record: -(record.value or 0))[:2]
        done = [one.what for one in replicates_of(again.storage, SETTINGS.name)]
        assert [(one.trial, one.seed) for one in done[:4]] == [(row.number, seed) for row in best for seed in (1, 2)]
        assert [(one.trial, one.folds, one.fold) for one in done[4:]] == [
            (best[0].number, 3, fold) for fold in range(3)
        ]
        assert f"trial {best[0].number} again, seed 1 (1/4): {best[0].value:.4f}" in listener.lines
        seeds, folds = summary(again.storage, SETTINGS, records_of(search.study))
        assert [(row["trial"], row["seeds"]) for row in seeds] == [(record.number, 2) for record in best]
        assert [(row["trial"], row["folds"]) for row in folds] == [(best[0].number, 3)]
        lines = len(listener.lines)
        again.run(Confirmation(2, 2, 3))  # nothing is left to do
        assert len(listener.lines) == lines


def test_a_kill_costs_the_retraining_under_way_and_the_same_call_goes_on(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, listener):
        search.run(3)
    with searching(tmp_path, "killed") as (search, listener):
        again = retrainer(tmp_path, search, listener)
        with pytest.raises(WorkerDiedError):
            again.run(Confirmation(1, 2))
        assert replicates_of(again.storage, SETTINGS.name) == []
        again.run(Confirmation(1, 2))
        assert len(replicates_of(again.storage, SETTINGS.name)) == 2


def test_a_trial_that_fitted_at_half_a_batch_is_trained_again_at_half_a_batch(tmp_path: Path) -> None:
    with searching(tmp_path, "large") as (search, listener):
        search.run(2)
        again = retrainer(tmp_path, search, listener)
        again.run(Confirmation(2, 1))
        assert len(replicates_of(again.storage, SETTINGS.name)) == 2


def test_a_full_disk_stops_the_confirmation_and_a_slow_repetition_does_not(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, listener):
        search.run(2)
    full = pytest.raises(SearchError, match="the disk is full")
    with searching(tmp_path, "disk-full") as (search, listener), full:
        retrainer(tmp_path, search, listener).run(Confirmation(2, 1))
    with searching(tmp_path, "endless") as (search, listener):
        replace(retrainer(tmp_path, search, listener), trial_timeout_s=1.0).run(Confirmation(1, 2))
        assert [line for line in listener.lines if "timeout: the trial took longer" in line] == listener.lines
        assert len(listener.lines) == 2


def test_a_confirmation_that_was_cut_off_prefers_nobody() -> None:
    values = {0: (0.8, 0.8, 0.8), 1: (0.9,)}
    done = [
        FinishedReplicate(Replicate(trial, seed), {"macro_f1": value})
        for trial, found in values.items()
        for seed, value in enumerate(found, 1)
    ]
    assert [row.trial for row in replicate_values(done, "macro_f1")] == [1, 0]
    best = best_replicated(done, "macro_f1")
    assert best is not None and best.trial == 0
    assert best_replicated([], "macro_f1") is None


@pytest.mark.parametrize("value", ["3", "3x", "x3", "0x3", "3x-1", "axb"])
def test_a_confirmation_that_is_no_pair_of_numbers_is_refused(value: str) -> None:
    result = CliRunner().invoke(main, ["run", "-b", "small_cnn", "--confirm", value])
    assert result.exit_code == 2
    assert f"{value!r} must be trials x seeds, such as 3x3" in result.output


def test_confirming_and_cross_validating_a_real_study(tmp_path: Path, tiny_npz: Path) -> None:
    def hpsearch(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "search", "-w", str(tmp_path / "ws"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    hpsearch("prepare", str(tiny_npz), "--levels", "low")
    out = hpsearch("run", "-b", "small_cnn", "-n", "2", "--epochs", "1", "--confirm", "1x2", "--folds", "2")
    assert "again, seed 2 (2/2)" in out
    assert "again, fold 2 of 2 (2/2)" in out
    assert "spread" in out


def test_more_folds_than_can_be_made_are_refused_before_the_search(
    tiny_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_workspace, tmp_path / "ws")
    monkeypatch.chdir(tmp_path)
    groups = PreparedSet.open(tmp_path / "ws" / "prepared").groups("train")
    monkeypatch.setattr(PreparedSet, "groups", lambda self, split: groups // 20)
    result = CliRunner().invoke(main, ["-w", "ws", "run", "-b", "small_cnn", "-n", "1", "--folds", "20"])
    assert (result.exit_code, "folds must be 2 to" in result.output) == (1, True)
    assert not (tmp_path / "ws" / "studies.db").exists()
