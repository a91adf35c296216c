"""States of Optuna trials: count them, put interrupted ones back in the queue, mark infeasible ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from studies.records import record_of

DEATHS = "hpsearch:deaths"
"""User attribute: epochs that were reported when the process last died, and deaths in a row at that number."""
BATCH_DIVISOR = "hpsearch:batch_divisor"
"""User attribute: parts into which a trial's batches are cut, after a whole batch did not fit in memory."""
TAKEN_FROM = "hpsearch:taken_from"
"""User attribute of a trial that a new version of a study took over: study and number of the trial it copies."""
DEATHS_ALLOWED = 5
"""Deaths in a row, without a new finished epoch, after which a trial is given up."""
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


def count_finished(study: Study) -> int:
    """Return the number of trials that count towards `--trials`: complete and pruned ones."""
    return len(study.get_trials(deepcopy=False, states=COUNTED))


def count_unfinished(study: Study) -> int:
    """Return the number of running and waiting trials."""
    return len(study.get_trials(deepcopy=False, states=UNFINISHED))


def ended_elsewhere(study: Study, trial_id: int) -> str:
    """Return in words what another program, such as optuna-dashboard, did to a running trial; empty if it runs."""
    try:
        state = study._storage.get_trial(trial_id).state
    except KeyError:
        return "was deleted"
    return "" if state == TrialState.RUNNING else f"was set to {state.name.lower()}"


def is_gone(study: Study) -> bool:
    """Return whether the study was deleted, or renamed in optuna-dashboard, which deletes it after copying it."""
    return study._study_id not in {one._study_id for one in study._storage.get_all_studies()}


def put_back(study: Study, trial_id: int) -> None:
    """Release a running trial, so that another process can continue it.

    The trial becomes a waiting one: it keeps its number, hyperparameters and reported values, the sampler does not see
    it, and `study.ask` returns it before new ones. If its record is already stored, it is finished instead. A trial
    that another program ended or deleted is left alone.
    """
    if ended_elsewhere(study, trial_id):
        return
    trial = study._storage.get_trial(trial_id)
    record = record_of(trial)
    with suppress(UpdateFinishedTrialError, KeyError):  # it was ended just now
        if record.outcome or record.failure:
            _finish(study, trial)
        else:
            study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def put_back_orphans(study: Study, is_free: Callable[[int], bool]) -> int:
    """Put back the running trials that no process works on. Call it only while no process takes trials.

    Args:
        study: Study to look through.
        is_free: Trial number -> whether no living process works on it.

    Returns:
        Number of trials that other processes are running.
    """
    running = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_free(trial.number):
            put_back(study, trial._trial_id)
        else:
            running += 1
    return running


def died_again(trial: Trial) -> bool:
    """Record that a trial's process died, and return whether to give the trial up.

    After DEATHS_ALLOWED deaths without a new finished epoch, its hyperparameters are taken to be the cause.
    """
    epochs = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
    before, count = trial.user_attrs.get(DEATHS, (0, 0))
    count = count + 1 if before == epochs else 1
    trial.set_user_attr(DEATHS, (epochs, count))
    return bool(count >= DEATHS_ALLOWED)


def mark_infeasible(trial: Trial) -> None:
    """Mark a trial by a violated constraint.

    Optuna 5's TPE then ranks it behind all healthy trials, pruned ones included.
    """
    trial.set_constraint("failed", 1.0)


def _finish(study: Study, orphan: FrozenTrial) -> None:
    record = record_of(orphan)
    if record.failure is None and not record.outcome["stopped"]:
        study.tell(orphan.number, record.outcome["best"]["value"])
    else:
        bug = record.failure is not None and "failed" not in orphan.constraints
        study.tell(orphan.number, state=TrialState.FAIL if bug else TrialState.PRUNED)
