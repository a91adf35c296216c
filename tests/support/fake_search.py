"""A search whose trials train nothing, on a real SQLite file: for tests in this process, and run by path as one.

python fake_search.py FOLDER TRIALS [MODE]      # a mode of fake_worker.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import optuna

from search.engine.claims import Claims
from search.engine.job import NetworkSource, TrainingJob, trial_folder
from search.engine.loop import Search
from search.engine.retention import Retention
from search.engine.stop_request import StopRequest, listening_for_signals
from search.engine.worker import Worker
from search.terminal.streams import make_output_last
from search.workspace import Workspace
from studies.definition import definition_of
from studies.pruners import PRUNERS
from studies.records import TrialRecord, records_of
from studies.settings import StudySettings
from studies.storage import create_study, finish_study, open_storage

FAKE_SEARCH = Path(__file__)
FAKE_WORKER = (sys.executable, str(FAKE_SEARCH.with_name("fake_worker.py")))
SPACE = {"learning_rate": {"low": 0.0, "high": 1.0}}
EPOCHS = 5
SETTINGS = StudySettings("small_cnn", 64 * "a", "none", {"epochs": EPOCHS}, "macro_f1", "tpe", "median", 0, SPACE)


class Listener:
    """Notes what it hears; raises KeyboardInterrupt, as a second Ctrl-C does, at one epoch when told to."""

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
        print(f"trial {record.number}", flush=True)

    def say(self, line: str) -> None:
        self.lines.append(line)


def opened_study(folder: Path, settings: StudySettings = SETTINGS) -> optuna.Study:
    """The study, made where there is none."""
    storage = open_storage(folder / "studies.db")
    with Workspace(folder).making_studies():
        if settings.name in optuna.study.get_all_study_names(storage):
            return optuna.load_study(study_name=settings.name, storage=storage)
        study = create_study(storage, settings)
        finish_study(study)
        return study


@contextmanager
def searching(
    folder: Path,
    mode: str = "",
    listener: Listener | None = None,
    pruner: str = "none",
    stop_request: StopRequest | None = None,
    **changes: Any,
) -> Iterator[tuple[Search, Listener]]:
    """A Search and what hears of it. `changes`: other fields of Search, `memory_limit_mb` of its worker, `settings`."""
    settings = changes.pop("settings", SETTINGS)
    study = opened_study(folder, settings)
    study.pruner = PRUNERS[pruner](0, EPOCHS)
    worker = Worker(folder / "worker.log", (*FAKE_WORKER, mode), changes.pop("memory_limit_mb", None))
    trials = folder / "trials" / settings.name

    def make_job(number: int, hyperparameters: Mapping[str, Any], seed: int) -> TrainingJob:
        place = str(trial_folder(folder / "trials", settings.name, number))
        return TrainingJob(settings, NetworkSource("", "small_cnn", "none"), place, dict(hyperparameters), seed)

    listener = listener or Listener()
    fields: dict[str, Any] = {
        "claims": Claims(trials),
        "retention": Retention(open_storage(folder / "studies.db"), trials, keep=5),
        "stop_request": stop_request or StopRequest(inf),
    }
    search = Search(study, settings, definition_of(SPACE), worker, make_job, listener, **(fields | changes))
    try:
        yield search, listener
    finally:
        worker.stop()


def essence(study: optuna.Study) -> list[tuple[Any, ...]]:
    """What must not depend on interruptions: of each counted trial its hyperparameters, values and training seed."""
    return [
        (record.state, record.value, record.hyperparameters, [epoch["seed"] for epoch in record.epochs])
        for record in records_of(study)
        if record.state in ("complete", "pruned")
    ]


def steps_done(folder: Path, number: int) -> list[int]:
    """Every epoch that was trained, twice where it was."""
    log = trial_folder(folder / "trials", SETTINGS.name, number) / "epochs.log"
    return [int(line) for line in log.read_text().split()]


def main() -> None:
    folder, trials, *mode = sys.argv[1:]
    make_output_last()
    stop_request = StopRequest()
    with (
        searching(Path(folder), *mode, stop_request=stop_request, pruner="median") as (search, _),
        listening_for_signals(stop_request, print),
    ):
        search.run(int(trials))


if __name__ == "__main__":
    main()
