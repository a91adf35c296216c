"""Real processes killed, interrupted and run side by side: nothing is lost, repeated, altered or left running."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fake_search import EPOCHS, FAKE_SEARCH, essence, opened_study, searching, steps_done
from optuna.trial import TrialState

from studies.records import records_of

TIMEOUT_S = 180


def start(folder: Path, trials: int, mode: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(FAKE_SEARCH), str(folder), str(trials), mode])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.02)


def epochs_done(folder: Path) -> int:
    return sum(len(path.read_text().split()) for path in folder.glob("trials/*/*/epochs.log"))


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


def kill(process: subprocess.Popen[bytes], victim: str) -> None:
    workers = workers_of(process)
    if victim != "asking process":
        for worker in workers:
            worker.kill()
    if victim != "worker":
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """What an uninterrupted search of twelve trials comes to."""
    with searching(tmp_path_factory.mktemp("whole"), pruner="median") as (search, _):
        search.run(12)
        return essence(search.study)


def test_a_search_killed_again_and_again_ends_as_if_nothing_had_been(
    whole: list[tuple[object, ...]], tmp_path: Path
) -> None:
    rng = random.Random(0)
    kills = 0
    for victim in ("asking process", "worker", "both", "asking process", "worker", "both", "asking process"):
        process = start(tmp_path, 12, "slow")
        before = epochs_done(tmp_path)
        wait_for(lambda before=before: epochs_done(tmp_path) >= before + 2)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.2))  # in any part of an epoch
        assert process.poll() is None
        kill(process, victim)
        kills += 1
        if victim == "worker":
            wait_for(lambda before=before: epochs_done(tmp_path) >= before + 4)  # type: ignore[misc]
            kill(process, "both")
            kills += 1
    assert start(tmp_path, 12).wait(TIMEOUT_S) == 0
    study = opened_study(tmp_path)
    assert essence(study) == whole
    assert [trial.number for trial in study.trials] == list(range(12))
    repeated = 0
    for record in records_of(study):
        steps = steps_done(tmp_path, record.number)
        assert sorted(set(steps)) == list(range(len(record.epochs)))
        repeated += len(steps) - len(set(steps))
    assert repeated <= kills


def test_several_runs_at_once_make_up_the_total_and_no_more(tmp_path: Path) -> None:
    processes = [start(tmp_path, 14) for _ in range(3)]
    assert [process.wait(TIMEOUT_S) for process in processes] == [0, 0, 0]
    study = opened_study(tmp_path)
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(study.trials) == 14
    assert all(steps_done(tmp_path, n) == list(range(len(r.epochs))) for n, r in enumerate(records_of(study)))


def test_a_run_takes_over_from_another_that_is_killed_beside_it(tmp_path: Path) -> None:
    first = start(tmp_path, 2, "slow")
    wait_for(lambda: epochs_done(tmp_path) >= 2)
    second = start(tmp_path, 2, "slow")
    wait_for(lambda: len(opened_study(tmp_path).trials) == 2)
    kill(first, "both")
    assert second.wait(TIMEOUT_S) == 0
    study = opened_study(tmp_path)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
    assert set(steps_done(tmp_path, 0)) == set(range(EPOCHS))


@pytest.mark.parametrize(("times", "signal_number"), [(1, signal.SIGINT), (2, signal.SIGINT), (1, signal.SIGTERM)])
def test_signals_end_a_run_and_leave_nothing_running(times: int, signal_number: int, tmp_path: Path) -> None:
    process = start(tmp_path, 8, "slow")
    wait_for(lambda: epochs_done(tmp_path) >= 2)
    workers = workers_of(process)
    for _ in range(times):
        process.send_signal(signal_number)
        time.sleep(0.05)
    process.wait(TIMEOUT_S)
    wait_for(lambda: not any(worker.is_running() for worker in workers))
    study = opened_study(tmp_path)
    states = {trial.state for trial in study.trials}
    assert TrialState.RUNNING not in states
    assert TrialState.WAITING in states
    (cut_off,) = [trial for trial in study.trials if trial.state == TrialState.WAITING]
    if times == 1 and signal_number == signal.SIGINT:  # the epoch under way was finished, and reported
        assert sorted(cut_off.intermediate_values) == steps_done(tmp_path, cut_off.number)


def test_a_worker_ends_with_the_process_that_asked(tmp_path: Path) -> None:
    process = start(tmp_path, 8, "endless")
    wait_for(lambda: bool(workers_of(process)))
    (worker,) = workers_of(process)
    kill(process, "asking process")
    wait_for(lambda: not worker.is_running())
