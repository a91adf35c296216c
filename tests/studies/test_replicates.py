"""What is kept of trials that are trained again, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from studies.replicates import (
    FinishedReplicate,
    Replicate,
    replicate_values,
    replicates_of,
    seed_noise,
    store_replicate,
)
from studies.settings import StudySettings
from studies.sqlite_reader import read_studies
from studies.storage import create_study, finish_study, open_storage, study_names


def finished(trial: int, seed: int, value: float, folds: int = 0) -> FinishedReplicate:
    return FinishedReplicate(Replicate(trial, seed, folds), {"macro_f1": value, "families": {"blur": {"views": 3}}})


def test_retrainings_come_back_as_they_were_stored_and_are_no_study(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    assert replicates_of(storage, "small_cnn-aaaa") == []
    done = [finished(3, 1, 0.9), finished(3, 2, 0.8), finished(4, 0, 0.7, folds=5)]
    for one in done:
        store_replicate(storage, "small_cnn-aaaa", one, one.scores["macro_f1"])
    assert replicates_of(storage, "small_cnn-aaaa") == done
    assert replicates_of(storage, "small_cnn-bbbb") == []
    assert study_names(storage) == []


def test_means_and_spread_are_by_trial_and_folds_stand_apart() -> None:
    done = [finished(3, 1, 0.90), finished(5, 1, 0.95), finished(3, 2, 0.80), finished(3, 0, 0.1, folds=2)]
    first, second = replicate_values(done, "macro_f1")
    assert (first.trial, first.mean, first.spread) == (5, 0.95, 0.0)
    assert (second.trial, second.mean, second.spread) == (3, pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4))
    assert [row.values for row in replicate_values(done, "macro_f1", folds=True)] == [(0.1,)]
    assert replicate_values(done, "accuracy") == []
    divided = [finished(3, 0, value, folds) for folds, value in ((2, 0.1), (2, 0.3), (3, 0.6))]
    assert [row.values for row in replicate_values(divided, "macro_f1", folds=True)] == [(0.6,), (0.1, 0.3)]


def test_seed_noise_is_pooled_over_trials_and_unknown_from_single_seeds() -> None:
    pairs = [finished(1, 1, 0.90), finished(1, 2, 0.92), finished(2, 1, 0.70), finished(2, 2, 0.74)]
    assert seed_noise(pairs, "macro_f1") == pytest.approx(((0.02**2 / 2 + 0.04**2 / 2) / 2) ** 0.5)
    assert seed_noise(pairs[::2], "macro_f1") is None


def test_replicates_are_found_after_a_renaming_and_foreign_ones_passed_over(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    settings = StudySettings("vgg19", 64 * "a", "none", {"epochs": 3}, "macro_f1", "tpe", "median", 0, {})
    finish_study(create_study(storage, settings))
    store_replicate(storage, settings.name, finished(0, 1, 0.5), 0.5)
    optuna.copy_study(
        from_study_name=f"{settings.name}-retrained", from_storage=storage, to_storage=storage, to_study_name="mine"
    )
    optuna.delete_study(study_name=f"{settings.name}-retrained", storage=storage)
    store_replicate(storage, settings.name, finished(0, 2, 0.6), 0.6)
    mine = optuna.load_study(study_name="mine", storage=storage)
    for attributes in ({}, {"hpsearch:retraining": "x"}, {"hpsearch:retraining": "{}"}, {"hpsearch:retraining": 3}):
        mine.add_trial(optuna.create_trial(value=0.9, user_attrs=attributes))
    (read,) = read_studies(tmp_path / "studies.db")
    for there in (replicates_of(storage, settings.name), list(read.retrained)):
        assert there == [finished(0, 1, 0.5), finished(0, 2, 0.6)]
