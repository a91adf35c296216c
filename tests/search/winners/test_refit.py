"""Which trial is handed over, and what a refit asks of a training process; by processes that train nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_search import FAKE_WORKER, SETTINGS, searching
from tiny_images import CLASSES

from data_prep.augmentation.validation_views import read_validation_views, write_validation_views
from data_prep.progress import Silent
from data_prep.storage.reader import PreparedSet
from models.hyperparameters import Hyperparameters
from search.engine.job import WEIGHTS_FILE
from search.engine.trial_data import training_data, with_validation_images
from search.errors import SearchError
from search.winners.picked_trial import Pick, picked
from search.winners.refit import Refitter
from search.workspace import Workspace
from studies.records import TrialRecord, records_of


@pytest.fixture
def prepared(tmp_path: Path, tiny_workspace: Path) -> PreparedSet:
    shutil.copytree(tiny_workspace, tmp_path, dirs_exist_ok=True)
    return PreparedSet.open(tmp_path / "prepared")


@pytest.fixture
def records(tmp_path: Path, prepared: PreparedSet) -> Iterator[list[TrialRecord]]:
    """Of a study with five trials, the weights of the best three of which are kept."""
    settings = replace(SETTINGS, fingerprint=prepared.fingerprint)
    with searching(tmp_path, mode="diverge", settings=settings) as (search, _):
        replace(search, retention=replace(search.retention, keep=3)).run(6)
        yield records_of(search.study)


def test_any_complete_trial_with_weights_can_be_picked(
    tmp_path: Path, prepared: PreparedSet, records: list[TrialRecord]
) -> None:
    workspace, name = Workspace(tmp_path), replace(SETTINGS, fingerprint=prepared.fingerprint).name
    complete = sorted((one for one in records if one.state == "complete"), key=lambda one: -(one.value or 0))
    assert len(complete) >= 4
    best = picked(workspace, prepared, Pick())
    assert (best.record.number, best.picked) == (complete[0].number, False)
    assert picked(workspace, prepared, Pick(study=name)) == best
    assert picked(workspace, prepared, Pick(trial=complete[0].number)) == best
    second = picked(workspace, prepared, Pick("small_cnn", name, complete[1].number))
    assert (second.record.number, second.picked) == (complete[1].number, True)
    gone, diverged = complete[-1].number, next(one.number for one in records if one.failure)
    wrong: list[tuple[Pick, str]] = [
        (
            Pick(trial=gone),
            rf"weights of trial {gone} .* `hpsearch rerun {name} {gone} --restore` .*run --keep",
        ),
        (Pick(trial=diverged), "is pruned, not complete; complete are "),
        (Pick(trial=99), f"there is no trial 99 in {name}; complete are "),
        (Pick(study="nosuch"), f"there is no study 'nosuch'; existing studies: {name}"),
        (Pick("vgg19", name), "is of small_cnn, not of vgg19"),
    ]
    for pick, message in wrong:
        with pytest.raises(SearchError, match=message):
            picked(workspace, prepared, pick)


def test_a_refit_replays_the_epochs_up_to_the_best_one_and_is_trained_once(
    tmp_path: Path, prepared: PreparedSet, records: list[TrialRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr("search.winners.refit.write_validation_views", lambda *given: made.append(given))
    lines: list[str] = []
    monkeypatch.setattr(Refitter, "_tell", lambda self, figures: False)
    refitter = Refitter(Workspace(tmp_path), prepared, None, lines.append, FAKE_WORKER)
    winner = picked(Workspace(tmp_path), prepared, Pick())
    record = records[winner.record.number]
    done = refitter.refitted(winner)
    assert done.refit is not None and done.refit.is_relative_to(tmp_path / "cache")
    assert (done.refit / WEIGHTS_FILE).is_file()
    best = record.outcome["best"]["step"]
    images = len(prepared.labels("train")) + len(prepared.labels("validation"))
    name = f"trial {record.number} of {winner.settings.name}"
    assert lines == [f"refitting {name} on {images} training and validation images, {best + 1} epochs"]
    assert len(made) == 1
    assert refitter.refitted(winner) == done
    assert len(lines) == 1  # it is kept
    (done.refit / WEIGHTS_FILE).unlink()
    refitter.refitted(winner)
    assert len(lines) == 2


def test_a_refit_sees_training_and_validation_images_with_their_own_views(
    tmp_path: Path, prepared: PreparedSet
) -> None:
    folder = tmp_path / "views"
    write_validation_views(prepared, ("low",), folder, Silent())
    (bank,) = read_validation_views(("low",), folder)
    images = prepared.images("validation")
    assert bank.shape == (len(images), prepared.bank("low").shape[1], *prepared.image_shape)
    assert (np.asarray(bank[:, 0]) != images).any(axis=(1, 2, 3)).mean() > 0.9
    written = (folder / "low.npy").stat().st_mtime_ns
    write_validation_views(prepared, ("low",), folder, Silent())
    assert (folder / "low.npy").stat().st_mtime_ns == written
    before = training_data(prepared, Hyperparameters(augmentation="low"))
    data = with_validation_images(before, folder)
    train, everything = len(before.views), len(before.views) + len(images)
    assert len(data.views) == everything
    rows = np.arange(train - 1, everything)
    ones, zeros = np.ones(len(rows), int), np.zeros(len(rows), int)
    np.testing.assert_array_equal(data.views.gather(rows, zeros, zeros)[1:], images)
    np.testing.assert_array_equal(data.views.gather(rows, ones, zeros)[1:], bank[:, 0])
    np.testing.assert_array_equal(data.views.gather(rows, ones, zeros)[0], prepared.bank("low")[train - 1, 0])
    np.testing.assert_array_equal(data.views.labels[train:], prepared.labels("validation"))
    counts = np.bincount(data.views.labels)
    assert data.class_weights == pytest.approx(everything / (CLASSES * counts))
