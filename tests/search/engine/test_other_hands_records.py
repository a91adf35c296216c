"""What other programs may leave in a study: trials ended at an awkward moment, foreign values, changed attributes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from fake_search import EPOCHS, SETTINGS, Listener, opened_study, searching
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from search.engine import loop
from search.engine.claims import Claims
from search.errors import SearchError, outside_cause
from studies.records import TrialEnd, records_of, store_record
from studies.sqlite_reader import read_studies
from studies.storage import RDBStorage, database_url
from studies.trial_tables import status_row, trial_rows

Meddle = Callable[[optuna.Study], object]


def told(state: TrialState, value: float | None = None) -> Meddle:
    return lambda study: study.tell(1, value, state)


def delete(study: optuna.Study) -> None:
    file = study._storage._backend.engine.url.database  # type: ignore[attr-defined]
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM trials WHERE number = 1")


@pytest.mark.parametrize(
    "meddle",
    [told(TrialState.FAIL), told(TrialState.PRUNED), told(TrialState.COMPLETE, 0.9), delete],
    ids=("fail", "pruned", "complete", "deleted"),
)
def test_a_trial_that_others_end_while_it_is_claimed_is_left(meddle: Meddle, tmp_path: Path) -> None:
    class Meddling(Claims):
        def take(self, number: int) -> None:
            super().take(number)
            if number == 1 and not done:
                done.append(number)
                meddle(study)

    done: list[int] = []
    study = opened_study(tmp_path)
    with searching(tmp_path) as (search, listener):
        replace(search, claims=Meddling(search.claims.folder)).run(3)
    assert len(listener.lines) == 1 and "trial 1 was" in listener.lines[0]
    assert sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials) == 3
    assert TrialState.RUNNING not in [trial.state for trial in study.trials]


def test_a_value_told_by_others_does_not_replace_the_measured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stored(trial: optuna.Trial, ended: TrialEnd) -> None:
        store_record(trial, ended)
        if trial.number == 1:
            study.tell(1, 0.999)

    study = opened_study(tmp_path)
    monkeypatch.setattr(loop, "store_record", stored)
    with searching(tmp_path) as (search, _):
        search.run(3)
    (found,) = read_studies(tmp_path / "studies.db")
    record = found.records[1]
    assert record.state == "complete"
    assert record.value == record.outcome["best"]["value"] != 0.999


@pytest.mark.parametrize("text", ["x", "3", "[1]", "null", '{"outcome": 3}', '{"epochs": [1]}', '{"failure": "x"}', 7])
def test_a_record_that_others_wrote_is_passed_over(text: str | int, tmp_path: Path) -> None:
    study = opened_study(tmp_path)
    study.add_trial(create_trial(value=0.999, user_attrs={"hpsearch": text}))
    with searching(tmp_path) as (search, _):
        search.run(3)
    (found,) = read_studies(tmp_path / "studies.db")
    for records in (found.records, records_of(study)):
        assert [record.state for record in records] == ["foreign", "complete", "complete"]
    assert status_row(found)["best_trial"] in (1, 2)
    assert len(trial_rows(found)) == 2
    assert "by another program, without a model" in found.records[0].state_text


def test_settings_that_others_overwrite_are_stored_again(tmp_path: Path) -> None:
    class Overwriting(Listener):
        def epoch(self, number: int, figures: dict[str, object]) -> None:
            if (number, figures["step"]) == (1, EPOCHS - 1):
                study.set_user_attr("hpsearch", "x")
                study.set_user_attr("mine", "y")

    study = opened_study(tmp_path)
    with searching(tmp_path, listener=Overwriting()) as (search, listener):
        search.run(3)
    assert listener.lines == ["another program changed the study's attribute `hpsearch`: it is stored again"]
    (found,) = read_studies(tmp_path / "studies.db")
    assert found.settings == SETTINGS
    assert study.user_attrs["mine"] == "y"


@pytest.mark.parametrize(
    ("value", "distribution"),
    [
        ("a", CategoricalDistribution(["a", "b"])),
        (1, IntDistribution(0, 3)),
        (0.5, FloatDistribution(0.1, 1.0, log=True)),
    ],
)
def test_a_foreign_trial_that_optuna_cannot_mix_is_named(
    value: str | float, distribution: BaseDistribution, tmp_path: Path
) -> None:
    study = opened_study(tmp_path)
    study.add_trial(
        create_trial(value=0.9, params={"learning_rate": value}, distributions={"learning_rate": distribution})
    )
    with (
        searching(tmp_path) as (search, _),
        pytest.raises(SearchError, match=r"trial 0, which another program added, has `learning_rate` as .*: restore"),
    ):
        search.run(3)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.WAITING]


def test_hyperparameters_of_an_added_trial_that_waits_are_checked_too(tmp_path: Path) -> None:
    study = opened_study(tmp_path)
    outside = {"learning_rate": FloatDistribution(10.0, 100.0)}
    study.add_trial(create_trial(state=TrialState.WAITING, params={"learning_rate": 50.0}, distributions=outside))
    with searching(tmp_path) as (search, listener):
        search.run(1)
    assert "`learning_rate` must be a number from 0 to 1, but is 50.0" in listener.lines[0]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_database_that_another_program_locks_is_told_from_a_bug(tmp_path: Path) -> None:
    opened_study(tmp_path)
    url = database_url(tmp_path / "studies.db")
    study = optuna.load_study(
        study_name=SETTINGS.name, storage=RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 0.1}})
    )
    holder = sqlite3.connect(tmp_path / "studies.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(optuna.exceptions.StorageInternalError) as caught:
        study.ask()
    holder.close()
    assert "locked the study database" in (outside_cause(caught.value) or "")
