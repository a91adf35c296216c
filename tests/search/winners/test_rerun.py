"""A finished trial repeated, by real processes that train nothing (fake_worker.py): what must come out again."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from fake_search import FAKE_WORKER, SETTINGS, SPACE, searching

from search.engine.job import PROBABILITIES_FILE, WEIGHTS_FILE
from search.engine.worker import Worker
from search.errors import SearchError, outside_cause
from search.planning.study_versions import take_over
from search.winners.finished_trial import FinishedTrial, _weights, finished_trial
from search.winners.rerun import Comparison, rerun_trial, restore
from search.workspace import Workspace
from studies.definition import definition_of
from studies.records import records_of
from studies.storage import create_study, load_study, open_storage
from studies.trials import BATCH_DIVISOR


def trial(folder: Path, number: int, study: str = SETTINGS.name) -> FinishedTrial:
    storage = open_storage(folder / "studies.db")
    return finished_trial(Workspace(folder), storage, load_study(storage, study), number)


def repeated(one: FinishedTrial, folder: Path) -> tuple[Comparison, list[str]]:
    lines: list[str] = []
    worker = Worker(folder / "rerun.log", FAKE_WORKER)
    try:
        return rerun_trial(one, worker, folder / "scratch", lines.append), lines
    finally:
        worker.stop()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_complete_trial_comes_out_again_and_its_folder_stays_as_it_was(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        search.run(2)
    before = contents(tmp_path / "trials")
    found, lines = repeated(one := trial(tmp_path, 1), tmp_path)
    assert [(row.figure, row.values, row.largest_difference) for row in found.rows] == [
        ("value", 1, 0.0),
        ("value of each epoch", 5, 0.0),
    ]
    assert (found.same_bits, found.largest, len(lines)) == (True, 0.0, 5)
    assert contents(tmp_path / "trials") == before
    changed = replace(one, record=replace(one.record, value=(one.record.value or 0) + 0.25))
    found, _ = repeated(changed, tmp_path / "again")
    assert found.largest == pytest.approx(0.25)
    short = replace(one, record=replace(one.record, epochs=one.record.epochs[:3]))
    assert repeated(short, tmp_path / "short")[0].largest == inf


def test_a_pruned_trial_is_repeated_up_to_the_same_epoch(tmp_path: Path) -> None:
    with searching(tmp_path, pruner="median") as (search, _):
        search.run(10)
        pruned = next(one for one in records_of(search.study) if one.state == "pruned")
    found, lines = repeated(trial(tmp_path, pruned.number), tmp_path)
    assert len(lines) == len(pruned.epochs) < 5
    assert found.largest == 0.0


def test_a_trial_is_repeated_with_the_parts_of_a_batch_that_it_had(tmp_path: Path) -> None:
    with searching(tmp_path, mode="large") as (search, _):
        search.run(1)
        assert search.study.trials[0].user_attrs[BATCH_DIVISOR] == 2
    assert trial(tmp_path, 0).job.batch_divisor == 2


def test_a_trial_that_was_taken_over_is_repeated_as_the_one_it_was(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        search.run(3)
        newer = create_study(open_storage(tmp_path / "studies.db"), replace(SETTINGS, version=2, seed=7))
        narrow = definition_of({"learning_rate": SPACE["learning_rate"] | {"low": 0.3}})
        assert len(take_over(search.study, newer, narrow, tmp_path / "trials")) < 3
        first = next(one for one in records_of(search.study) if one.hyperparameters["learning_rate"] >= 0.3)
    one = trial(tmp_path, 0, newer.study_name)
    assert (one.settings.name, one.record.number, one.job.seed) == (
        SETTINGS.name,
        first.number,
        first.epochs[0]["seed"],
    )


def test_what_cannot_come_out_again_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with searching(tmp_path, mode="diverge") as (search, _):
        search.run(8)
        records = records_of(search.study)
    diverged = next(one.number for one in records if one.failure)
    healthy = next(one.number for one in records if not one.failure)
    with pytest.raises(SearchError, match=r"cannot be repeated \(ended with diverged, see .*log\.txt\)"):
        trial(tmp_path, diverged)
    with pytest.raises(SearchError, match=r"there is no trial 99 in .*: it has trials 0 to 7"):
        trial(tmp_path, 99)
    storage = open_storage(tmp_path / "studies.db")
    with pytest.raises(SearchError, match="was made with weights none: leave --weights out"):
        finished_trial(Workspace(tmp_path), storage, search.study, healthy, "some.h5")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(SearchError, match="made with KERAS_BACKEND=tensorflow, and jax gives other figures"):
        trial(tmp_path, healthy)


def test_weights_from_a_file_must_be_that_files(tmp_path: Path) -> None:
    (tmp_path / "other.h5").write_bytes(b"others")
    with searching(tmp_path, settings=replace(SETTINGS, weights="sha256:abc")) as (search, _):
        search.run(1)
    storage = open_storage(tmp_path / "studies.db")
    for file, part in ((None, "name that file by --weights"), (str(tmp_path / "other.h5"), "made with other weights")):
        with pytest.raises(SearchError, match=part):
            finished_trial(Workspace(tmp_path), storage, search.study, 0, file)


def test_probabilities_are_compared_and_weights_that_are_gone_come_back(tmp_path: Path) -> None:
    with searching(tmp_path) as (search, _):
        search.run(1)
    one = trial(tmp_path, 0)
    folder, scratch = Path(one.job.folder), tmp_path / "scratch"
    scratch.mkdir()
    for place, value in ((folder, 0.5), (scratch, 0.625)):
        np.save(place / PROBABILITIES_FILE, np.full((4, 3), value, np.float32))
    found, _ = repeated(one, tmp_path)
    assert [(row.figure, row.values, row.largest_difference) for row in found.rows][-1] == ("probabilities", 12, 0.125)
    (folder / WEIGHTS_FILE).unlink()
    restore(scratch, folder)
    assert json.loads((folder / WEIGHTS_FILE).read_text()) == one.job.seed
    assert np.load(folder / PROBABILITIES_FILE)[0, 0] == 0.625


def test_a_file_of_weights_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"there is no file .*gone\.h5: name the weights that the study"):
        _weights(replace(SETTINGS, weights="sha256:0"), str(tmp_path / "gone.h5"))


def test_what_one_may_not_read_is_no_bug_and_is_named_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    path.touch()
    cause = outside_cause(PermissionError(errno.EACCES, "Permission denied", str(path)))
    assert cause is not None
    assert cause.startswith(f"{path} cannot be read or written (Permission denied; {path} belongs to ")
    assert cause.endswith("): change its permissions, or use another path")
