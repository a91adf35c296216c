"""One contract over the table of pruners, on curves of two head and nine fine-tuning epochs."""

from __future__ import annotations

import optuna
import pytest

from studies.pruners import PRUNERS

HEAD, EPOCHS = 2, 9


def epochs_run(study: optuna.Study, values: list[float]) -> int:
    """Reports a trial's values until it is pruned; how many."""
    trial = study.ask()
    for step, value in enumerate(values):
        trial.report(value, step)
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return step + 1
    study.tell(trial, max(values[HEAD:]))
    return len(values)


def curve(end: float, head: float = 0.7, epochs: int = EPOCHS) -> list[float]:
    """From a head phase that scores better than the first epochs of fine-tuning, up to `end`."""
    return [head] * HEAD + [end - 0.3 / (1 + epoch) for epoch in range(epochs)]


def searched(name: str) -> optuna.Study:
    """A study of six decent trials, the last of them the best."""
    study = optuna.create_study(direction="maximize", pruner=PRUNERS[name](HEAD, EPOCHS))
    for number in range(6):
        epochs_run(study, curve(0.9 + 0.01 * number))
    return study


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("head", [0.0, 0.99])
def test_a_hopeless_trial_ends_early_whatever_its_head_phase_scored(name: str, head: float) -> None:
    study = searched(name)
    epochs = min(epochs_run(study, curve(0.4, head)) for _ in range(6))  # some of Hyperband's brackets spare all
    if name == "none":
        assert epochs == HEAD + EPOCHS
    else:
        assert HEAD < epochs < HEAD + EPOCHS


@pytest.mark.parametrize("name", PRUNERS)
def test_the_best_so_far_runs_to_its_end(name: str) -> None:
    assert epochs_run(searched(name), curve(0.99)) == HEAD + EPOCHS


@pytest.mark.parametrize("name", PRUNERS)
def test_a_trial_in_its_last_epoch_is_not_pruned(name: str) -> None:
    study = searched(name)
    good = curve(0.99)
    assert epochs_run(study, [*good[:-1], 0.0]) == HEAD + EPOCHS


def test_without_a_head_phase_counting_starts_at_the_first_epoch() -> None:
    study = optuna.create_study(direction="maximize", pruner=PRUNERS["halving"](0, 4))
    for _ in range(3):
        epochs_run(study, curve(0.9, epochs=2))
    assert epochs_run(study, curve(0.1, head=0.1, epochs=2)) == 2


def test_the_percentile_ends_the_worst_quarter_and_the_median_the_worse_half() -> None:
    below_the_median = curve(0.915)  # among trials from 0.90 to 0.95
    assert epochs_run(searched("percentile"), below_the_median) == HEAD + EPOCHS
    assert epochs_run(searched("median"), below_the_median) < HEAD + EPOCHS


def test_the_rung_is_asked_once_a_quarter_of_the_way() -> None:
    low, rung = curve(0.4), HEAD + EPOCHS // 4
    assert epochs_run(searched("rung"), low) == rung
    good_till_there = [*curve(0.99)[:rung], *low[rung:]]
    assert epochs_run(searched("rung"), good_till_there) == HEAD + EPOCHS
    assert epochs_run(searched("percentile"), good_till_there) < HEAD + EPOCHS
    assert epochs_run(searched("rung"), curve(0.925)) == HEAD + EPOCHS  # among trials from 0.90 to 0.95
    assert epochs_run(searched("rung"), curve(0.905)) == rung
