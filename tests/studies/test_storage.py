"""Studies in a real SQLite file: opened at once by many, recognised when they are none."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from studies.errors import StudyError
from studies.records import TrialEnd, best_record, record_of, records_of, store_record
from studies.settings import StudySettings, differences, stored_settings
from studies.sqlite_reader import read_studies
from studies.storage import create_study, existing_storage, load_study, open_storage, study_names
from studies.trial_tables import status_row, trial_rows
from studies.trials import DEATHS_ALLOWED, count_finished, died_again, put_back_orphans

SETTINGS = StudySettings("vgg19", "1a2b3c4d" + 56 * "0", "none", {"epochs": 3}, "macro_f1", "tpe", "median", 0, {})
OUTCOME = {
    "best": {"validation": dict.fromkeys(("accuracy", "macro_precision", "macro_recall", "macro_f1"), 0.5)},
    "parameters": 7,
    "ms_per_image": 0.5,
}


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return create_study(open_storage(tmp_path / "studies.db"), SETTINGS)


def finish(study: optuna.Study, value: float, state: TrialState = TrialState.COMPLETE) -> optuna.trial.FrozenTrial:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(value, 0)
    store_record(trial, TrialEnd(trial.params, [{"value": value}], OUTCOME))
    return study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)


def test_a_study_carries_its_settings_and_is_named_by_backbone_and_fingerprint(study: optuna.Study) -> None:
    assert study.study_name == "vgg19-1a2b3c4d"
    assert stored_settings(study) == SETTINGS


def test_differences_name_the_setting_and_both_values() -> None:
    other = replace(SETTINGS, recipe={"epochs": 5}, seed=1)
    assert differences(asdict(SETTINGS), asdict(other)) == [
        "recipe.epochs: 3 (stored), 5 (requested)",
        "seed: 0 (stored), 1 (requested)",
    ]
    assert differences(asdict(SETTINGS), asdict(SETTINGS)) == []


def test_a_table_of_other_keys_is_one_difference() -> None:
    old = {"space": {"rate": {"low": 0.1, "high": 1.0}, "mixing": {"value": 0.0}}, "own": {}}
    new = {"space": {"rate": {"value": 0.5}, "mixing": {"value": 0.0, "when": {"mode": ["a"]}}}, "more": {}}
    assert differences(old, new) == [
        "space.mixing.when: absent (stored), mode ['a'] (requested)",
        "space.rate: low 0.1, high 1.0 (stored), value 0.5 (requested)",
    ]


def test_a_missing_study_is_answered_with_those_there_are(study: optuna.Study, tmp_path: Path) -> None:
    storage = existing_storage(tmp_path / "studies.db")
    assert study_names(storage) == ["vgg19-1a2b3c4d"]
    with pytest.raises(StudyError, match="there is no study 'vgg16'; existing studies: vgg19-1a2b3c4d"):
        load_study(storage, "vgg16")


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"there are no studies in .* yet: start one"):
        existing_storage(tmp_path / "studies.db")
    (tmp_path / "bad.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(StudyError, match=r"bad\.db cannot be opened as a study database"):
        open_storage(tmp_path / "bad.db")
    foreign = optuna.create_study(storage=open_storage(tmp_path / "foreign.db"), study_name="other")
    with pytest.raises(StudyError, match="was not created by hpsearch"):
        stored_settings(foreign)


def test_the_file_is_in_wal_mode(study: optuna.Study, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "studies.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_processes_that_start_together_on_a_fresh_file_all_open_it(tmp_path: Path) -> None:
    code = "import sys, pathlib; from studies.storage import open_storage; open_storage(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "studies.db")]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in started] == [""] * 4
    assert [process.returncode for process in started] == [0] * 4


def test_what_counts_and_what_is_best(study: optuna.Study) -> None:
    finish(study, 0.4)
    finish(study, 0.9, TrialState.PRUNED)
    finish(study, 0.6)
    finish(study, 0.6)
    study.tell(study.ask(), state=TrialState.FAIL)
    assert count_finished(study) == 4
    best = best_record(records_of(study))
    assert best is not None
    assert (best.number, best.value) == (2, 0.6)


def test_an_orphan_waits_and_is_given_out_again_with_all_it_had(study: optuna.Study) -> None:
    finish(study, 0.4)
    orphan = study.ask()
    value = orphan.suggest_float("x", 0, 1)
    orphan.report(0.2, 0)
    assert put_back_orphans(study, lambda number: False) == 1  # somebody has it
    assert put_back_orphans(study, lambda number: True) == 0
    assert study.trials[1].state == TrialState.WAITING
    again = study.ask()
    assert again.number == 1
    assert again.suggest_float("x", 0, 1) == value
    assert study.trials[1].intermediate_values == {0: 0.2}


def test_a_process_that_dies_without_an_epoch_in_between_is_counted(study: optuna.Study) -> None:
    trial = study.ask()
    assert [died_again(trial) for _ in range(DEATHS_ALLOWED)] == [False] * (DEATHS_ALLOWED - 1) + [True]
    trial.report(0.5, 0)
    assert not died_again(trial)


def test_an_orphan_whose_figures_are_stored_is_told_its_end(study: optuna.Study) -> None:
    ends: list[tuple[dict[str, object], dict[str, str] | None]] = [
        ({"stopped": False, "best": {"value": 0.7}}, None),
        ({"stopped": True, "best": {"value": 0.2}}, None),
        ({}, {"kind": "bug", "message": "", "place": ""}),
    ]
    for outcome, failure in ends:
        trial = study.ask()
        trial.report(0.2, 0)
        store_record(trial, TrialEnd({}, [{"value": 0.2}], outcome, failure))
    assert put_back_orphans(study, lambda number: True) == 0
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    assert study.trials[0].value == 0.7


def test_studies_of_other_programs_are_passed_over(study: optuna.Study, tmp_path: Path) -> None:
    storage = existing_storage(tmp_path / "studies.db")
    optuna.create_study(storage=storage, study_name="foreign")
    assert study_names(storage) == [study.study_name]


def test_tables(study: optuna.Study, tmp_path: Path) -> None:
    (stored,) = read_studies(tmp_path / "studies.db")
    assert trial_rows(stored) == []
    finish(study, 0.4)
    finish(study, 0.3, TrialState.PRUNED)
    (stored,) = read_studies(tmp_path / "studies.db")
    row = status_row(stored)
    assert row["prefix_cache"] == {"trials": 0, "served": 0, "views": 0.0}
    assert (row["complete"], row["pruned"], row["epochs"], row["best_value"], row["best_trial"]) == (1, 1, 2, 0.4, 0)
    (compared,) = trial_rows(stored)
    assert (compared["backbone"], compared["trial"], compared["accuracy"]) == ("vgg19", 0, 0.5)
    assert compared["corrupted_macro_f1"] is None  # measured by no study of before
    assert json.loads(json.dumps([row, compared])) == [row, compared]


def test_the_dashboard_has_readable_attributes_beside_the_record(study: optuna.Study) -> None:
    assert {name: study.user_attrs[name] for name in ("backbone", "recipe", "seed")} == {
        "backbone": "vgg19",
        "recipe": {"epochs": 3},
        "seed": 0,
    }
    scores = {"macro_f1": 0.51239, "corrupted_macro_f1": 0.4, "worst_family": "noise"}
    trial = study.ask()
    store_record(trial, TrialEnd({}, [], {"best": {"validation": scores}}, seconds=90.0))
    shown = {name: value for name, value in trial.user_attrs.items() if name != "hpsearch"}
    assert shown == {"clean macro-F1": 0.5124, "corrupted macro-F1": 0.4, "worst family": "noise", "minutes": 1.5}
    failed = study.ask()
    store_record(failed, TrialEnd({}, [], {}, failure={"kind": "memory", "message": "too large"}))
    assert failed.user_attrs["failure"] == "memory: too large"


def test_a_pruned_trial_is_recorded_with_its_best_so_far(study: optuna.Study) -> None:
    assert record_of(finish(study, 0.3, TrialState.PRUNED)).value == 0.3


def test_a_folder_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"\\udcff.* is not UTF-8: rename its folder"):
        open_storage(tmp_path / os.fsdecode(b"\xff") / "studies.db")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v2.6.0.a", "an older Optuna: copy it, then run `optuna storage upgrade --storage sqlite:///"),
        ("v99.a", "newer"),
    ],
)
def test_tables_of_another_optuna_are_named_with_the_way_out(tmp_path: Path, version: str, words: str) -> None:
    file = tmp_path / "studies.db"
    create_study(open_storage(file), SETTINGS)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(StudyError, match=f"has the tables of .*{words}"):
        open_storage(file)
