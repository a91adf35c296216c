"""Studies read by SQL are those that Optuna reads."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from studies.errors import StudyError
from studies.records import TrialEnd, records_of, store_record
from studies.replicates import FinishedReplicate, Replicate, replicates_of, store_replicate
from studies.settings import StudySettings
from studies.sqlite_reader import read_studies
from studies.storage import create_study, open_storage

SETTINGS = StudySettings("vgg19", "1a2b3c4d" + 56 * "0", "none", {"epochs": 3}, "macro_f1", "random", "none", 0, {})


def step_and_value(epoch: dict[str, float]) -> dict[str, float]:
    return {key: epoch[key] for key in ("step", "value")}


def asked(study: optuna.Study, reported: tuple[float, ...] = ()) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    trial.suggest_categorical("optimizer", ["adamw", "sgd"])
    trial.suggest_categorical("flips", [False, True])
    for step, value in enumerate(reported):
        trial.report(value, step)
    return trial


def finish(study: optuna.Study, state: TrialState, value: float, ended: TrialEnd | None) -> None:
    trial = asked(study, (0.1, value))
    if ended:
        loss = inf if state == TrialState.PRUNED else 2.0  # which is no JSON to SQLite
        epochs = [{"step": step, "value": one, "training_loss": loss} for step, one in enumerate((0.1, value))]
        store_record(trial, replace(ended, epochs=epochs))
    study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)


def filled(study: optuna.Study) -> None:
    """A trial in each state, with its record stored and without."""
    outcome = {"best": {"value": 0.7, "validation": {"macro_f1": 0.7}}, "stopped": False}
    stored = TrialEnd({"learning_rate": 0.1, "dropout": 0.3}, [], outcome, seconds=12.5)
    failed = TrialEnd({"learning_rate": 0.1}, [], {}, {"kind": "bug", "message": "x", "place": "y", "log": "z"})
    finish(study, TrialState.COMPLETE, 0.7, stored)
    finish(study, TrialState.COMPLETE, 0.6, None)
    finish(study, TrialState.PRUNED, 0.5, stored)
    finish(study, TrialState.FAIL, 0.4, failed)
    finish(study, TrialState.FAIL, inf, None)
    asked(study, (0.2, 0.3))
    asked(study)
    waiting = asked(study, (0.25,))
    waiting.storage.set_trial_state_values(waiting._trial_id, TrialState.WAITING)
    study.enqueue_trial({"learning_rate": 0.01})


def test_every_trial_reads_as_by_optuna(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "studies.db")
    studies = [create_study(storage, replace(SETTINGS, backbone=name)) for name in ("vgg19", "small_cnn")]
    for study in studies:
        filled(study)
    optuna.create_study(storage=storage, study_name="another program's").enqueue_trial({"x": 1})
    for number, again in ((0, 1), (0, 2), (1, 1)):
        done = FinishedReplicate(Replicate(number, again), {"macro_f1": 0.5 + again / 10})
        store_replicate(storage, studies[0].study_name, done, 0.5)
    found = read_studies(tmp_path / "studies.db")
    assert [study.name for study in found] == ["small_cnn-1a2b3c4d", "vgg19-1a2b3c4d"]
    for stored, study in zip(found, reversed(studies), strict=True):
        assert stored.settings.name == study.study_name
        shown = [
            replace(record, epochs=[step_and_value(epoch) for epoch in record.epochs]) for record in records_of(study)
        ]
        assert list(stored.records) == shown
        assert list(stored.retrained) == replicates_of(storage, study.study_name)
    assert {record.state for record in found[0].records} == {
        *("complete", "foreign", "pruned", "fail", "running", "waiting")
    }
    assert len(found[1].retrained) == 3


def test_what_is_no_study_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    with pytest.raises(StudyError, match="there are no studies in"):
        read_studies(path)
    path.touch()
    assert read_studies(path) == []  # a process is about to make its tables
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StudyError, match=r"studies\.db cannot be opened as a study database"):
        read_studies(path)
