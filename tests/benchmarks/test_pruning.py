"""The replay of recorded curves: what a policy is charged, what it finds, and what is read from a study."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.pruners import MedianPruner, SuccessiveHalvingPruner
from optuna.trial import TrialState
from pruning import early_ranks, record, recorded_of, replay_all
from pruning_replay import (
    NONE,
    POLICIES,
    Curve,
    Policy,
    Recorded,
    at_equal_compute,
    of_seed,
    share_and_regret,
    spend,
)

from studies.records import TrialEnd, store_record
from studies.settings import StudySettings
from studies.storage import create_study, open_storage

HEAD, TUNING = 1, 4


def curve(*tuning: float) -> Curve:
    """A head epoch of 2 s, fine-tuning epochs of 10 s but for the first, which takes 15; 3 s besides."""
    seconds = (2.0, 15.0, *[10.0] * (len(tuning) - 1))
    return Curve((0.9, *tuning), seconds, 3.0, max(tuning), HEAD)


def recorded(*curves: Curve) -> Recorded:
    return Recorded(curves, HEAD, TUNING)


GOOD, HOPELESS, LATE = curve(0.5, 0.6, 0.7, 0.8), curve(0.1, 0.1, 0.1, 0.1), curve(0.2, 0.4, 0.6, 0.9)
MEDIAN = Policy("median", lambda head, tuning: MedianPruner(2, 2))


def test_without_pruning_the_share_is_one_and_the_regret_nothing() -> None:
    curves = recorded(GOOD, HOPELESS, LATE)
    found = share_and_regret(NONE, curves, curves.curves, "x")
    assert found == {"epochs": 1, "seconds": 1, "regret": 0, "best_lost": 0}


def test_the_median_rule_ends_a_hopeless_trial_at_its_first_epoch_after_the_start_up_trials() -> None:
    curves = recorded(GOOD, HOPELESS, HOPELESS, GOOD, replace(HOPELESS, values=(0.9, 0.05, 0.05, 0.05, 0.05)))
    ends = list(spend(MEDIAN, curves, curves.curves, "x"))
    assert [end.value for end in ends] == [0.8, 0.1, None, 0.8, None]
    assert [end.epochs for end in ends] == [5, 5, 3, 5, 3]
    assert ends[2].seconds == 3 + 2 + 15 + 10


def test_values_of_the_head_phase_save_a_trial_only_where_they_are_reported() -> None:
    policy = Policy("median", lambda head, tuning: MedianPruner(2, head + 2), reports_head=True)
    curves = recorded(GOOD, GOOD, HOPELESS)
    assert list(spend(policy, curves, curves.curves, "x"))[-1].value == 0.1  # its 0.9 of the head is above all medians
    assert list(spend(MEDIAN, curves, curves.curves, "x"))[-1].value is None


def test_the_regret_is_what_the_best_pruned_trial_was_better_by() -> None:
    halving = Policy("halving", lambda head, tuning: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2))
    curves = recorded(GOOD, LATE)
    found = share_and_regret(halving, curves, curves.curves, "x")
    assert found["regret"] == pytest.approx(0.9 - 0.8)
    assert found["best_lost"] == 1
    assert found["epochs"] == (5 + 2) / 10
    assert share_and_regret(halving, curves, [LATE, GOOD], "x")["regret"] == 0


def test_by_rungs_the_best_go_on_and_are_charged_another_start() -> None:
    policy = Policy("rungs", rungs=((1, 0.5), (2, 0.25)))
    ended = curve(0.05)  # by early stopping, before there was anything to decide
    curves = [GOOD, HOPELESS, LATE, ended]
    ends = list(spend(policy, recorded(*curves), curves, "x"))
    assert [end.epochs for end in ends] == [5, 2, 3, 2]
    assert [end.value for end in ends] == [0.8, None, None, 0.05]
    assert GOOD.restart_s == 3 + 5
    assert ends[0].seconds == 3 + 2 + 15 + 30 + 2 * 8
    assert ends[2].seconds == 3 + 2 + 15 + 10 + 8


def test_at_equal_compute_what_is_saved_goes_into_more_trials() -> None:
    worse = [curve(*[0.1 - 0.001 * n] * TUNING) for n in range(40)]
    stream = [GOOD, *worse[:3], LATE, *worse[3:]]
    halving = Policy("halving", lambda head, tuning: SuccessiveHalvingPruner(min_resource=2, reduction_factor=2))
    found = []
    for policy, epochs in ((NONE, 18), (halving, 18), (halving, 19)):
        one = at_equal_compute(policy, recorded(*stream), stream, {"epochs": epochs, "seconds": 100.0}, "x")
        found.append((one["equal_epochs_trials"], one["equal_epochs_value"], one["equal_seconds_trials"]))
    # Of halving 5 + 3 * 3 epochs for the first four; LATE runs to its end, beyond a budget of 18. Trials of 50 s.
    assert found == [(3, 0.8, 2), (4, 0.8, 2), (5, 0.9, 2)]
    with pytest.raises(ValueError, match="do not use up"):
        at_equal_compute(NONE, recorded(*stream), stream, {"epochs": 1e6, "seconds": 1e6}, "x")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_every_policy_repeats_itself_and_ends_with_a_trial(policy: Policy) -> None:
    curves = recorded(*(curve(0.1 * n, 0.1 * n + 0.05, 0.3, 0.2 + 0.1 * n) for n in range(8)))
    found = of_seed(policy, curves, seed=3, trials=6)
    assert found == of_seed(policy, curves, seed=3, trials=6)
    assert 0 < found["epochs"] <= 1
    assert 0 <= found["regret"] < 0.7
    assert found["equal_epochs_value"] <= 0.9


def test_early_ranks_say_how_the_values_then_order_the_trials() -> None:
    ranks = early_ranks(recorded(curve(0.1, 0.5, 0.6, 0.7), curve(0.2, 0.4, 0.7, 0.8), curve(0.3, 0.3, 0.8, 0.9)))
    assert [ranks[str(epoch)] for epoch in (1, 2, 3, 4)] == pytest.approx([1, -1, 1, 1])


def settings(pruner: str) -> StudySettings:
    return StudySettings("vgg19", "ab" * 32, "none", {"epochs": TUNING}, "macro_f1", "tpe", pruner, 0, {})


def add_trials(study: optuna.Study, trials: int) -> None:
    for number in range(trials):
        trial = study.ask()
        phases = ("head", *["fine-tuning"] * TUNING)
        epochs = [
            {"phase": phase, "value": 0.1 * number + 0.01 * step, "seconds": 5.0} for step, phase in enumerate(phases)
        ]
        store_record(trial, TrialEnd({"dropout": 0.1}, epochs, {"best": epochs[-1], "stopped": False}, seconds=27.0))
        study.tell(trial, epochs[-1]["value"])
    study.tell(study.ask(), state=TrialState.FAIL)


def test_complete_trials_are_recorded_again_and_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = create_study(open_storage(tmp_path / "studies.db"), settings("none"))
    curves, out = tmp_path / "curves.json", tmp_path / "out.json"
    for trials in (2, 4):
        add_trials(study, 2)
        record(tmp_path, curves, None)
        found = recorded_of(json.loads(curves.read_text()))
        assert (len(found.curves), found.head, found.tuning) == (trials, HEAD, TUNING)
    assert found.curves[1].values == pytest.approx((0.1, 0.11, 0.12, 0.13, 0.14))
    assert (found.curves[1].final, found.curves[1].outside_s) == (0.14, 2.0)
    with pytest.raises(SystemExit, match="--trials <= 4"):
        replay_all(curves, out, seeds=2, trials=5)
    replay_all(curves, out, seeds=2, trials=3)
    rows = {row["policy"]: row for row in json.loads(out.read_text())["policies"]}
    assert rows.keys() == {policy.name for policy in POLICIES}
    assert (rows["none"]["epochs_mean"], rows["none"]["equal_seconds_gain"], rows["none"]["equal_epochs_trials"]) == (
        1,
        0,
        3,
    )
    assert all(policy.name in capsys.readouterr().out for policy in (NONE,))


def test_a_pruned_study_is_not_recorded(tmp_path: Path) -> None:
    add_trials(create_study(open_storage(tmp_path / "studies.db"), settings("median")), 1)
    with pytest.raises(SystemExit, match="--pruner none"):
        record(tmp_path, tmp_path / "curves.json", None)
