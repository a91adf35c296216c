"""A search whose study other programs change while it runs, as optuna-dashboard and scripts with Optuna do."""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from fake_search import EPOCHS, SETTINGS, Listener, opened_study, searching
from optuna.trial import TrialState

from search.engine.loop import StudyGoneError
from studies.records import records_of
from studies.replicates import FinishedReplicate, Replicate, store_replicate
from studies.sqlite_reader import read_studies
from studies.storage import database_url, load_study, open_storage, study_names
from studies.trial_tables import foreign_note, status_row


class Meddler(Listener):
    """Calls a function with the study's file once, at a step of a trial."""

    def __init__(self, at: tuple[int, int], meddle: Callable[[Path], None], file: Path) -> None:
        super().__init__()
        self.at, self.meddle, self.file = at, meddle, file

    def epoch(self, number: int, figures: dict[str, Any]) -> None:
        if (number, figures["step"]) == self.at:
            self.at = (-1, 0)  # once: the number of a deleted trial is given again
            self.meddle(self.file)


def study_in(file: Path) -> optuna.Study:
    """The study through a storage of its own, as another program opens it."""
    storage = optuna.storages.RDBStorage(database_url(file))
    (name,) = optuna.study.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def told(state: TrialState, value: float | None = None) -> Callable[[Path], None]:
    return lambda file: study_in(file).tell(1, value, state) and None


def delete_trial(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM trials WHERE number = 1")


@pytest.mark.parametrize("step", [0, 2, EPOCHS - 1])
@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (told(TrialState.FAIL), "was set to fail"),
        (told(TrialState.PRUNED), "was set to pruned"),
        (told(TrialState.COMPLETE, 0.9), "was set to complete"),
        (delete_trial, "was deleted"),
    ],
    ids=("fail", "pruned", "complete", "deleted"),
)
def test_a_trial_that_others_end_is_left_and_the_search_goes_on(
    meddle: Callable[[Path], None], words: str, step: int, tmp_path: Path
) -> None:
    listener = Meddler((1, step), meddle, tmp_path / "studies.db")
    with searching(tmp_path, listener=listener) as (search, _):
        search.run(4)
        states = [trial.state for trial in search.study.trials]
    assert listener.lines == [f"trial 1 {words} by another program: going on with the next trial"]
    counted = [state for state in states if state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(counted) == 4
    assert TrialState.RUNNING not in states
    (study,) = read_studies(tmp_path / "studies.db")
    row = status_row(study)
    assert row["complete"] == 3 + (words in ("was set to fail", "was deleted"))
    if words == "was set to complete":
        assert row["foreign"] == 1 and row["best_trial"] != 1
        assert "passing over trial 1, completed by another program" in foreign_note(study)


def test_values_that_others_report_are_left_alone(tmp_path: Path) -> None:
    def report(file: Path) -> None:
        study = study_in(file)
        study._storage.set_trial_intermediate_value(study.trials[1]._trial_id, 3, 0.77)

    with searching(tmp_path, listener=Meddler((1, 1), report, tmp_path / "studies.db")) as (search, listener):
        search.run(3)
        assert search.study.trials[1].intermediate_values[3] == 0.77
    assert [record.state for record in listener.records] == ["complete"] * 3


def test_a_study_that_is_deleted_ends_the_search_in_a_line(tmp_path: Path) -> None:
    def delete(file: Path) -> None:
        optuna.delete_study(study_name=SETTINGS.name, storage=study_in(file)._storage)

    with (
        searching(tmp_path, listener=Meddler((1, 1), delete, tmp_path / "studies.db")) as (search, listener),
        pytest.raises(StudyGoneError, match="was deleted while it was searched: run the same command again"),
    ):
        search.run(3)
    assert listener.lines == []  # nothing of the trial alone


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 7.0}, "`learning_rate` must be a number from 0 to 1, but is 7.0"),
        ({"learning_rate": "fast"}, "but is 'fast'"),
        ({"learning_rate": None}, "but is None"),
        ({"learning_rate": float("nan")}, "but is nan"),
        ({"learning_rate": [0.5]}, r"but is [0.5]"),
        ({"learning_rat": 0.5}, "unknown key `learning_rat`; did you mean `learning_rate`?"),
    ],
)
def test_values_queued_outside_the_space_are_refused_and_taken_out(
    values: dict[str, Any], words: str, tmp_path: Path
) -> None:
    study = opened_study(tmp_path)
    study.enqueue_trial(values)
    study.enqueue_trial({"learning_rate": 0.25})
    with searching(tmp_path) as (search, listener):
        search.run(2)
    (line,) = listener.lines
    assert line.startswith("trial 0 was queued outside the search space and is not trained") and words in line
    refused, *others = records_of(study)
    assert refused.state == "fail" and refused.failure and refused.failure["kind"] == "refused"
    assert [record.state for record in others] == ["complete", "complete"]
    assert others[0].hyperparameters == {"learning_rate": 0.25}


def test_a_trial_that_others_add_is_passed_over(tmp_path: Path) -> None:
    study = opened_study(tmp_path)
    study.add_trial(optuna.trial.create_trial(value=0.999, params={}, distributions={}))
    with searching(tmp_path) as (search, _):
        search.run(3)
    (stored,) = read_studies(tmp_path / "studies.db")
    assert [record.state for record in stored.records] == ["foreign", "complete", "complete"]
    assert status_row(stored)["best_trial"] in (1, 2)


@contextmanager
def dashboard(file: Path) -> Iterator[str]:
    """A real optuna-dashboard; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from optuna_dashboard._cli import main; main()",
        database_url(file),
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.kill()
        process.wait()


def post(address: str, content: dict[str, Any]) -> None:
    request = urllib.request.Request(address, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status < 300


def test_the_dashboard_tells_a_running_trial_and_renames_the_study(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    study = opened_study(tmp_path)
    with dashboard(file) as address:

        def tell(_: Path) -> None:
            post(f"{address}/trials/{study.trials[1]._trial_id}/tell", {"state": "Fail"})

        with searching(tmp_path, listener=Meddler((1, 1), tell, file)) as (search, listener):
            search.run(3)
        assert listener.lines == ["trial 1 was set to fail by another program: going on with the next trial"]
        again = FinishedReplicate(Replicate(0, 1), {"macro_f1": 0.5})
        store_replicate(open_storage(file), SETTINGS.name, again, 0.5)
        post(f"{address}/studies/{study._study_id}/rename", {"study_name": "cells of Tuesday"})
    storage = open_storage(file)
    assert study_names(storage) == [SETTINGS.name]
    for name in (SETTINGS.name, "cells of Tuesday"):
        found = load_study(storage, name)
        assert found.study_name == "cells of Tuesday" and len(found.trials) == 4
    (stored,) = read_studies(file)
    assert (stored.name, stored.title, len(stored.retrained)) == (SETTINGS.name, "cells of Tuesday", 1)


def test_a_copy_of_a_study_goes_by_its_own_name(tmp_path: Path) -> None:
    opened_study(tmp_path)
    url = database_url(tmp_path / "studies.db")
    optuna.copy_study(from_study_name=SETTINGS.name, from_storage=url, to_storage=url, to_study_name="copy")
    assert study_names(open_storage(tmp_path / "studies.db")) == ["copy", SETTINGS.name]
    assert [study.name for study in read_studies(tmp_path / "studies.db")] == ["copy", SETTINGS.name]
