"""The ask-and-tell loop with real processes that train nothing (fake_worker.py) and a real SQLite file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.errors import SearchError
from search.job import TrainingJob
from search.loop import Search, seed_of
from search.workers import Worker
from studies.definition import definition_of
from studies.records import TrialRecord, records_of
from studies.samplers import PRUNERS
from studies.settings import StudySettings
from studies.storage import create_study, open_storage

SPACE = {"learning_rate": {"low": 0.0, "high": 1.0}}
SETTINGS = StudySettings("small_cnn", 64 * "a", "none", {"epochs": 5}, "macro_f1", "tpe", "median", 0, SPACE)


class Listener:
    """Notes what it hears; raises KeyboardInterrupt, as Ctrl-C does, at one epoch when told to."""

    def __init__(self, interrupt_at: tuple[int, int] | None = None) -> None:
        self.lines: list[str] = []
        self.records: list[TrialRecord] = []
        self.interrupt_at = interrupt_at

    def trial_started(self, number: int, hyperparameters: dict[str, Any], done: int) -> None: ...

    def epoch(self, number: int, figures: dict[str, Any]) -> None:
        if (number, figures["step"]) == self.interrupt_at:
            raise KeyboardInterrupt

    def trial_finished(self, record: TrialRecord, done: int) -> None:
        self.records.append(record)

    def say(self, line: str) -> None:
        self.lines.append(line)


@contextmanager
def searching(
    folder: Path, mode: str = "", listener: Listener | None = None, pruner: str = "none"
) -> Iterator[tuple[Search, Listener]]:
    storage = open_storage(folder / "studies.db")
    known = optuna.study.get_all_study_names(storage)
    study = optuna.load_study(study_name=SETTINGS.name, storage=storage) if known else create_study(storage, SETTINGS)
    study.pruner = PRUNERS[pruner](1, 5)
    worker = Worker(folder / "worker.log", (sys.executable, str(Path(__file__).with_name("fake_worker.py")), mode))

    def make_job(number: int, hyperparameters: dict[str, Any], seed: int) -> TrainingJob:
        place = str(folder / "trials" / str(number))
        return TrainingJob("", place, "small_cnn", "none", {"epochs": 5}, "macro_f1", hyperparameters, seed)

    listener = listener or Listener()
    try:
        yield Search(study, SETTINGS, definition_of(SPACE), worker, make_job, listener), listener
    finally:
        worker.stop()


def essence(study: optuna.Study) -> list[tuple[Any, ...]]:
    """What must not depend on interruptions: of each counted trial its hyperparameters, values and training seed."""
    return [
        (record.state, record.value, record.hyperparameters, [epoch["seed"] for epoch in record.epochs])
        for record in records_of(study)
        if record.state in ("complete", "pruned")
    ]


def test_trials_is_a_total_over_runs(tmp_path: Path) -> None:
    for total, expected in ((3, 3), (3, 3), (5, 5)):
        with searching(tmp_path) as (search, _):
            search.run(total)
            assert len(search.study.trials) == expected


def test_poor_trials_are_pruned_and_counted(tmp_path: Path) -> None:
    with searching(tmp_path, pruner="median") as (search, listener):
        search.run(10)
    states = [record.state for record in listener.records]
    assert len(states) == 10
    assert states.count("pruned") >= 2
    pruned = next(record for record in listener.records if record.state == "pruned")
    assert 2 <= len(pruned.epochs) < 5  # the first epoch is never pruned
    assert pruned.value == max(epoch["value"] for epoch in pruned.epochs)


def test_an_interrupted_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    with searching(tmp_path / "whole", pruner="median") as (search, _):
        search.run(9)
        whole = essence(search.study)
    with (
        searching(tmp_path / "cut", listener=Listener(interrupt_at=(4, 1)), pruner="median") as (search, _),
        pytest.raises(KeyboardInterrupt),
    ):
        search.run(9)
    assert [trial.state for trial in search.study.trials].count(TrialState.RUNNING) == 0
    with searching(tmp_path / "cut", pruner="median") as (search, _):
        search.run(9)
        assert essence(search.study) == whole
        assert len(search.study.trials) == 10


def test_a_killed_worker_costs_its_trial_a_new_number_and_nothing_else(tmp_path: Path) -> None:
    with searching(tmp_path, mode="killed") as (search, listener):
        search.run(3)
    failed, again = listener.records[:2]
    assert failed.failure is not None
    assert failed.failure["kind"] == "killed"
    assert "was killed by signal 9" in failed.failure["message"]
    assert again.hyperparameters == failed.hyperparameters
    assert [record.state for record in listener.records] == ["fail", "complete", "complete", "complete"]


def test_hyperparameters_that_kill_every_process_are_given_up_as_infeasible(tmp_path: Path) -> None:
    """As on a machine whose memory they exceed: the search must not try them for ever."""
    with searching(tmp_path, mode="deadly") as (search, _):
        search.run(4)
    given_up = [record for record in records_of(search.study) if record.failure]
    assert given_up
    assert {(record.state, record.failure["kind"]) for record in given_up if record.failure} == {("pruned", "killed")}
    tried = [record.hyperparameters for record in records_of(search.study) if record.state == "fail"]
    assert len(tried) == 2 * len(given_up)


def test_a_diverged_trial_is_pruned_infeasible_and_never_the_best(tmp_path: Path) -> None:
    with searching(tmp_path, mode="diverge") as (search, listener):
        search.run(8)
        diverged = [trial for trial in search.study.trials if trial.state == TrialState.PRUNED]
    assert diverged
    assert all(trial.constraints == {"failed": 1.0} for trial in diverged)
    assert {record.failure["kind"] for record in listener.records if record.failure} == {"diverged"}


def test_bugs_in_a_row_stop_the_search_with_their_place(tmp_path: Path) -> None:
    with searching(tmp_path, mode="bug") as (search, _), pytest.raises(SearchError) as caught:
        search.run(8)
    assert "3 trials in a row failed, the last with: 'a bug'" in str(caught.value)
    assert "fake_worker.py:" in str(caught.value)
    assert len(search.study.trials) == 3
    assert "Traceback" in (tmp_path / "worker.log").read_text()


def test_a_network_that_cannot_be_built_is_refused_with_the_workers_words(tmp_path: Path) -> None:
    with searching(tmp_path, mode="no-weights") as (search, _), pytest.raises(SearchError, match=r"put x\.h5 into"):
        search.worker.describe({})


def test_a_worker_that_has_grown_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.workers.MEMORY_GROWTH_MB", -1)
    with searching(tmp_path) as (search, _):
        search.run(2)
        assert search.worker.process is None


def test_the_samplers_seed_differs_by_place_and_purpose() -> None:
    seeds = {seed_of(0, place, purpose) for place in range(50) for purpose in ("sampler", "training")}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_another_seed_searches_elsewhere(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        with searching(tmp_path / str(seed)) as (search, _):
            replace(search, settings=replace(SETTINGS, seed=seed)).run(2)
            found.append(essence(search.study))
    assert found[0] != found[1]
