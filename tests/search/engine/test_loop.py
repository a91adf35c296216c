"""The ask-and-tell loop with real processes that train nothing (fake_worker.py) and a real SQLite file."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_search import EPOCHS, SETTINGS, Listener, essence, searching, steps_done
from optuna.trial import TrialState

from search.engine.claims import Claims
from search.engine.job import NetworkSource, TrainingJob
from search.engine.loop import seed_of
from search.engine.stop_request import StopRequest
from search.engine.worker import Worker
from search.engine.worker_process import kind_of
from search.errors import SearchError
from studies.records import records_of
from studies.replicates import FinishedReplicate, Replicate, store_replicate
from studies.trials import BATCH_DIVISOR, DEATHS_ALLOWED

SOURCE = NetworkSource("", "small_cnn", "none")


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
    for cut in ((4, 1), (4, 1), (6, 0)):  # the second when it is taken up again
        with (
            searching(tmp_path / "cut", listener=Listener(interrupt_at=cut), pruner="median") as (search, _),
            pytest.raises(KeyboardInterrupt),
        ):
            search.run(9)
        assert [trial.state for trial in search.study.trials].count(TrialState.RUNNING) == 0
    with searching(tmp_path / "cut", pruner="median") as (search, _):
        search.run(9)
        assert essence(search.study) == whole
        assert len(search.study.trials) == 9  # the trial that was cut off kept its number


def test_a_trial_whose_worker_is_killed_goes_on_under_its_number(tmp_path: Path) -> None:
    with searching(tmp_path / "whole") as (search, _):
        search.run(3)
        whole = essence(search.study)
    with searching(tmp_path / "cut", mode="killed") as (search, listener):
        search.run(3)
        assert essence(search.study) == whole
    assert [record.number for record in listener.records] == [0, 1, 2]
    assert "trial 0: the training process was killed by signal 9" in listener.lines[0]
    assert steps_done(tmp_path / "cut", 0) == [0, 1, 2, 3, 4]  # the third was kept before it was reported


def test_ctrl_c_once_finishes_the_epoch_and_leaves(tmp_path: Path) -> None:
    stop_request = StopRequest()

    class Impatient(Listener):
        def epoch(self, number: int, figures: dict[str, Any]) -> None:
            stop_request.interrupted = (number, figures["step"]) == (1, 2)

    with searching(tmp_path, listener=Impatient(), stop_request=stop_request) as (search, _):
        search.run(3)
        assert [trial.state.name for trial in search.study.trials] == ["COMPLETE", "WAITING"]
        assert sorted(search.study.trials[1].intermediate_values) == [0, 1, 2]
    with searching(tmp_path) as (search, _):
        search.run(3)
        assert steps_done(tmp_path, 1) == [0, 1, 2, 3, 4]


def test_the_run_leaves_when_its_time_is_over_and_goes_on_later(tmp_path: Path) -> None:
    now_s = [0.0]

    class Watch(Listener):
        """Each epoch takes a second, by the clock of the time budget."""

        def epoch(self, number: int, figures: dict[str, Any]) -> None:
            now_s[0] += 1

    budget = StopRequest(EPOCHS + 2, clock=lambda: now_s[0])
    with searching(tmp_path, listener=Watch(), stop_request=budget) as (search, _):
        search.run(50)
        assert [trial.state for trial in search.study.trials] == [TrialState.COMPLETE, TrialState.WAITING]
        assert sorted(search.study.trials[1].intermediate_values) == [0, 1]
    with searching(tmp_path) as (search, _):
        search.run(2)
        assert steps_done(tmp_path, 1) == list(range(EPOCHS))


def test_a_trial_that_takes_too_long_is_ended_and_infeasible(tmp_path: Path) -> None:
    with searching(tmp_path, mode="endless", trial_timeout_s=1.0) as (search, listener):
        search.run(1)
    (record,) = listener.records
    assert record.failure is not None
    assert (record.state, record.failure["kind"]) == ("pruned", "timeout")
    assert search.study.trials[0].constraints == {"failed": 1.0}


def test_hyperparameters_that_kill_every_process_are_given_up_as_infeasible(tmp_path: Path) -> None:
    """As on a machine whose memory they exceed: the search must not try them for ever."""
    with searching(tmp_path, mode="deadly") as (search, listener):
        search.run(4)
    given_up = [record for record in records_of(search.study) if record.failure]
    assert given_up
    assert {(record.state, record.failure["kind"]) for record in given_up if record.failure} == {("pruned", "killed")}
    assert len(listener.lines) == (DEATHS_ALLOWED - 1) * len(given_up)


def test_out_of_memory_is_tried_once_more_at_half_the_batch(tmp_path: Path) -> None:
    with searching(tmp_path / "large", mode="large") as (search, listener):
        search.run(2)
    assert [record.state for record in listener.records] == ["complete", "complete"]
    assert [trial.user_attrs[BATCH_DIVISOR] for trial in search.study.trials] == [2, 2]
    with searching(tmp_path / "huge", mode="huge") as (search, listener):
        search.run(1)
    (record,) = listener.records
    assert record.failure is not None
    assert (record.state, record.failure["kind"]) == ("pruned", "out-of-memory")
    assert "MemoryError: no room for a batch" in Path(record.failure["log"]).read_text(encoding="utf-8")


def test_a_worker_that_outgrows_its_limit_is_told_from_one_that_somebody_killed(tmp_path: Path) -> None:
    with searching(tmp_path, mode="growing", memory_limit_mb=600) as (search, _):
        search.run(5)
    kinds = {record.failure["kind"] for record in records_of(search.study) if record.failure}
    assert kinds == {"out-of-memory"}


def test_a_full_disk_stops_the_search_and_keeps_its_trial(tmp_path: Path) -> None:
    with searching(tmp_path, mode="disk-full") as (search, _), pytest.raises(SearchError, match="the disk is full"):
        search.run(2)
    assert [trial.state.name for trial in search.study.trials] == ["WAITING"]
    with searching(tmp_path) as (search, _):
        search.run(2)
        assert len(search.study.trials) == 2


def test_weights_of_the_best_few_are_kept_and_no_state_of_finished_trials(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        replace(search, retention=replace(search.retention, keep=2)).run(6)
        best = sorted(records_of(search.study), key=lambda record: -(record.value or 0))[:2]
    folder = tmp_path / "trials" / SETTINGS.name
    kept = {int(path.parent.name) for path in folder.glob("*/best.weights.h5")}
    assert kept == {record.number for record in best}
    assert list(folder.glob("*/state.npz")) == []


def test_a_disk_budget_takes_weights_beyond_the_best_but_not_confirmed_ones(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        search.run(4)
        ranked = sorted(records_of(search.study), key=lambda record: -(record.value or 0))
        again = FinishedReplicate(Replicate(ranked[2].number, 1), {"macro_f1": 0.5})
        store_replicate(search.retention.storage, SETTINGS.name, again, 0.5)
        with pytest.raises(SearchError, match="--disk-budget"):
            replace(search.retention, budget_gb=1e-9).sweep(search.study)
    kept = {int(path.parent.name) for path in (tmp_path / "trials" / SETTINGS.name).glob("*/best.weights.h5")}
    assert kept == {ranked[0].number, ranked[2].number}


def test_weights_that_versions_of_a_study_share_take_their_room_once(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        search.run(1)
        folder = search.retention.folder
        (folder / "00000" / "best.weights.h5").write_bytes(bytes(10**6))
        other = folder.parent / "a-version" / "00000"
        other.mkdir(parents=True)
        os.link(folder / "00000" / "best.weights.h5", other / "best.weights.h5")
        replace(search.retention, budget_gb=1.5e-3).sweep(search.study)  # 1.5 MB
        with pytest.raises(SearchError, match="--disk-budget"):
            replace(search.retention, budget_gb=0.9e-3).sweep(search.study)


def test_out_of_memory_is_known_by_either_backends_words() -> None:
    assert (
        kind_of(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3 bytes")) == "out-of-memory"
    )
    assert kind_of(RuntimeError("INTERNAL: RESOURCE_EXHAUSTED is a word here")) == "bug"
    assert kind_of(RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY")) == "out-of-memory"


def test_a_trial_that_is_put_back_but_not_yet_let_go_of_is_waited_for(tmp_path: Path) -> None:
    holder, other = Claims(tmp_path), Claims(tmp_path)
    holder.take(3)
    assert not other.is_free(3)
    threading.Timer(0.2, holder.release, [3]).start()
    other.take(3)
    assert not holder.is_free(3)
    other.release(3)
    assert holder.is_free(3)


def test_a_disk_budget_that_nothing_more_can_go_for_stops_the_search(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _), pytest.raises(SearchError, match="more than --disk-budget 1e-09"):
        replace(search, retention=replace(search.retention, budget_gb=1e-9)).run(3)
    assert [trial.state.name for trial in search.study.trials] == ["COMPLETE"]


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
    assert "3 trials in a row failed. First error: 'a bug'" in str(caught.value)
    assert "fake_worker.py:" in str(caught.value)
    assert len(search.study.trials) == 3
    assert "Traceback" in (tmp_path / "trials" / SETTINGS.name / "00000" / "log.txt").read_text()


def test_a_network_that_cannot_be_built_is_refused_with_the_workers_words(tmp_path: Path) -> None:
    with searching(tmp_path, mode="no-weights") as (search, _), pytest.raises(SearchError, match=r"put x\.h5 into"):
        search.worker.describe(SOURCE, 0)


def test_a_worker_that_has_grown_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.engine.worker.MEMORY_GROWTH", -1)
    with searching(tmp_path) as (search, _):
        search.run(2)
        assert search.worker.process is None


MEMORY = [
    ("one that has settled", [(1, 500), (1, 600), (1, 610), (1, 615), (1, 612)], [False] * 5),
    ("one that traces", [(1, 500), (2, 900), (3, 1500), (3, 1520), (3, 1510)], [False] * 5),
    ("one that leaks", [(1, 500), (1, 600), (1, 610), (1, 640), (1, 400)], [False, False, False, True, False]),
]


@pytest.mark.parametrize(("reports", "replaced"), [row[1:] for row in MEMORY], ids=[row[0] for row in MEMORY])
def test_a_worker_is_replaced_when_it_grows_after_it_has_settled(
    tmp_path: Path, reports: list[tuple[int, int]], replaced: list[bool]
) -> None:
    """`reports`: networks traced and megabytes after each trial."""
    lines = [
        json.dumps({"event": "done", "memory_mb": memory_mb, "outcome": {"networks_traced": traced}})
        for traced, memory_mb in reports
    ]
    (tmp_path / "lines").write_text("\n".join(lines))
    code = """
import sys
for request in sys.stdin:
    first, _, rest = open(sys.argv[1]).read().partition("\\n")
    open(sys.argv[1], "w").write(rest)
    print(first, flush=True)
"""
    worker = Worker(tmp_path / "worker.log", (sys.executable, "-c", code, str(tmp_path / "lines")), 10_000)
    job = TrainingJob(SETTINGS, SOURCE, "", {}, 0)
    found = []
    try:
        for _ in reports:
            worker.train(job, lambda epochs: False)
            found.append(worker.process is None)
    finally:
        worker.stop()
    assert found == replaced


@pytest.mark.parametrize(("own", "used"), [(None, "1"), ("0", "0")])
def test_training_processes_have_onednns_kernels_unless_the_user_wants_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, used: str
) -> None:
    name = "TF_ENABLE_ONEDNN_OPTS"
    monkeypatch.setenv(name, own) if own else monkeypatch.delenv(name)
    code = f"import json, os; input(); print(json.dumps({{'event': 'described', 'found': os.environ['{name}']}}))"
    worker = Worker(tmp_path / "worker.log", (sys.executable, "-c", code), 10_000)
    try:
        assert worker.describe(SOURCE, 0)["found"] == used
    finally:
        worker.stop()


def test_the_samplers_seed_differs_by_place_and_purpose() -> None:
    seeds = {seed_of(0, place, purpose) for place in range(50) for purpose in ("sampler", "training")}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_another_seed_searches_elsewhere(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        with searching(tmp_path / str(seed), settings=replace(SETTINGS, seed=seed)) as (search, _):
            search.run(2)
            found.append(essence(search.study))
    assert found[0] != found[1]


def test_fine_tuning_is_reported_from_the_same_epoch_however_soon_the_head_phase_was_over(tmp_path: Path) -> None:
    settings = replace(SETTINGS, recipe={"epochs": EPOCHS, "head_epochs": 3})
    with searching(tmp_path, "short-head", settings=settings) as (search, _):
        search.run(1)
        (trial,) = search.study.trials
        (record,) = records_of(search.study)
    assert list(trial.intermediate_values) == [0, 1, 3, 4, 5]
    assert [row["step"] for row in record.epochs] == [0, 1, 2, 3, 4]
