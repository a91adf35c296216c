"""The comparison with plain tools: new bests, the target, the time to it, features' shares, states kept in passing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.versus_parts.following import space_with
from benchmarks.versus_parts.rows import (
    Course,
    Epoch,
    Snapshot,
    new_bests,
    row_of,
    shares,
    start_ups,
    summaries,
    target_of,
    time_to,
)
from benchmarks.versus_parts.watching import Files, best_value, facts_of, observe
from models.training.checkpoint import CheckpointFacts, CheckpointFile
from studies.definition import read_definition


def row(system: str, seed: int, points: list[tuple[float, float]], total_s: float) -> dict[str, Any]:
    course = Course({0: 0.0}, [Epoch(0, 10.0, 100, 5.0)], [], 1, [1.0])
    curve = [{"time_s": time_s, "value": 0.0, "macro_f1": score, "accuracy": 0.0} for time_s, score in points]
    return {"system": system, "seed": seed, "curve": curve} | row_of(course, total_s, 100.0)


def test_new_bests_rise_in_the_order_of_time() -> None:
    points = [(3.0, 0.5), (1.0, 0.4), (2.0, 0.4), (5.0, 0.9), (4.0, 0.45)]
    found = new_bests(Snapshot(time_s, value, Path(str(time_s))) for time_s, value in points)
    assert [(one.time_s, one.value) for one in found] == [(1.0, 0.4), (3.0, 0.5), (5.0, 0.9)]


def test_the_start_up_is_what_the_first_epoch_takes_longer_than_the_quickest_other() -> None:
    epochs = [Epoch(0, end, 10, 1.0) for end in (30.0, 34.0, 37.0)]  # 20 s after its start, then 4 s and 3 s
    alone, unseen = [Epoch(1, 50.0, 10, 1.0)], [Epoch(2, None, 10, 1.0), Epoch(2, 70.0, 10, 1.0)]
    course = Course({0: 10.0, 1: 40.0, 2: 60.0}, [*epochs, *alone, *unseen], [], 3, [])
    assert start_ups(course) == [17.0]
    figures = row_of(course, total_s=120.0, peak_memory_mb=1.0)
    assert figures["trials_per_hour"] == 90
    assert figures["images_per_s"] == 10 and figures["images_per_s_of_all"] == 0.5
    assert figures["start_up_s"] == 17.0 and figures["first_step_s"] is None


def test_the_target_is_the_better_peer_s_median_of_final_scores() -> None:
    rows = [row("a", seed, [(1, 0.99), (2, final)], 9) for seed, final in enumerate((0.5, 0.7, 0.9))]
    rows += [row("b", seed, [(1, final)], 9) for seed, final in enumerate((0.8, 0.1, 0.75))]
    rows += [row("d", 0, [(1, 1.0)], 9)]
    assert target_of(rows) == 0.75
    assert target_of(rows[-1:]) is None


def test_the_time_is_that_of_the_first_model_there_and_the_whole_run_without_one() -> None:
    one = row("d", 0, [(5, 0.6), (8, 0.8), (9, 0.7)], 20)
    assert time_to(one, 0.8) == (8.0, True)
    assert time_to(one, 0.7) == (8.0, True)
    assert time_to(one, 0.81) == (20.0, False)
    assert time_to(row("d", 1, [], 20), 0.1) == (20.0, False)


def test_medians_are_compared_with_the_plain_loop_and_features_by_leaving_them_out() -> None:
    rows = [row("a", seed, [(when, 0.8)], 100) for seed, when in enumerate((40, 60, 80))]
    rows += [row("d", seed, [(when, 0.9)], 50) for seed, when in enumerate((20, 30, 25))]
    rows += [row("d-cold", seed, [(50, 0.79)], 75) for seed in range(3)]
    found = {one["system"]: one for one in summaries(rows)}
    assert (found["a"]["time_s"], found["a"]["speed"]) == (60, 1)
    assert (found["d"]["time_s"], found["d"]["speed"], found["d"]["reached"]) == (25, 2.4, 3)
    assert (found["d-cold"]["time_s"], found["d-cold"]["reached"]) == (75, 0)
    (share,) = shares(rows)
    assert share == {"without": "warm workers", "seeds": 3, "to_target": 3.0, "whole": 1.5}


def test_without_peers_there_are_figures_and_no_times() -> None:
    (found,) = summaries([row("d", 0, [(1, 0.9)], 50)])
    assert found["time_s"] is None and found["speed"] is None and found["total_s"] == 50


def test_each_state_is_kept_as_it_was_when_the_trial_replaces_and_removes_it(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    files = Files(tmp_path / "trials", kept, started=time.time())
    path = tmp_path / "trials" / "study" / "00007" / "state.npz"
    files.poll()
    values = [0.9, 0.2, 0.3, 0.25]  # the first is of the head phase, and its weights are no longer the best ones
    for epoch in range(1, 4):
        progress = CheckpointFacts(1, epoch, 0, 1.0, [{"value": value} for value in values[: epoch + 1]])
        best = [np.full((2,), epoch, "float32")]
        CheckpointFile(path, "trial").save(progress, {"network": [], "optimizer_state": [], "best": best})
        files.poll()
        files.poll()
    path.unlink()
    files.poll()
    assert [one.trial for one in files.kept] == [7, 7, 7]
    assert [best_value(facts_of(one.path)) for one in files.kept] == [0.2, 0.3, 0.3]
    with np.load(files.kept[0].path) as content:
        assert content["best/0"].tolist() == [1, 1]


def test_a_run_that_fails_is_no_measurement(tmp_path: Path) -> None:
    assert observe(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5)"])) > 1  # looked at twice
    with pytest.raises(subprocess.CalledProcessError, match="3"):
        observe(subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]))


def test_a_system_that_follows_another_is_given_its_trials(tmp_path: Path) -> None:
    proposed = [{"frozen": 0.31, "dropout": 0.1, "learning_rate": 2e-4, "optimizer": "sgd"}]
    names = ["frozen_fraction", "dropout", "learning_rate", "optimizer", "weight_decay", "momentum"]
    space = space_with(proposed, tmp_path)
    definition = read_definition(str(space), "b", [*names, "schedule", "augmentation", "input_mode"], ["b"])
    same = {name: value for name, value in proposed[0].items() if name != "frozen"}
    assert [dict(first) for first in definition.first] == [{"frozen_fraction": 0.31} | same]
