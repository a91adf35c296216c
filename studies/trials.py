"""A trial on its way through Optuna: counted, put back when its process is gone, marked when it is no use."""

from __future__ import annotations

from collections.abc import Callable

from optuna import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from studies.records import ATTRIBUTE, record_of

DEATHS = "hpsearch:deaths"
"""Epochs that were reported when the process last died, and how often it has died since."""
BATCH_DIVISOR = "hpsearch:batch_divisor"
"""Parts into which a trial's batches are cut, once a whole one did not fit in memory."""
TAKEN_FROM = "hpsearch:taken_from"
"""Study and number of a trial as it was trained, of one that a new version of the study took over."""
DEATHS_ALLOWED = 5
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


def counted(study: Study) -> int:
    """Trials that count towards `--trials`: complete and pruned ones."""
    return len(study.get_trials(deepcopy=False, states=COUNTED))


def unfinished(study: Study) -> int:
    """Trials that run, or wait to."""
    return len(study.get_trials(deepcopy=False, states=UNFINISHED))


def put_back(study: Study, trial_id: int) -> None:
    """Lets go of a trial. One whose end is stored is told it. Any other waits to be gone on with: it keeps its number,
    hyperparameters and reported values, the sampler does not see it, and `study.ask` gives it out before new ones."""
    trial = study._storage.get_trial(trial_id)
    if trial.state != TrialState.RUNNING:
        return
    if ATTRIBUTE in trial.user_attrs:
        _finish(study, trial)
    else:
        study._storage.set_trial_state_values(trial_id, TrialState.WAITING)


def put_back_orphans(study: Study, is_free: Callable[[int], bool]) -> int:
    """Puts back the running trials that nobody has; how many are left, which somebody has.

    Args:
        is_free: trial number -> nobody alive is at work on it. To be called while nobody takes trials.
    """
    running = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_free(trial.number):
            put_back(study, trial._trial_id)
        else:
            running += 1
    return running


def died_again(trial: Trial) -> bool:
    """Notes that a trial's process died. True when it did so DEATHS_ALLOWED times without finishing an epoch: then it
    is the hyperparameters that kill it."""
    epochs = len(trial.storage.get_trial(trial._trial_id).intermediate_values)
    before, count = trial.user_attrs.get(DEATHS, (0, 0))
    count = count + 1 if before == epochs else 1
    trial.set_user_attr(DEATHS, (epochs, count))
    return bool(count >= DEATHS_ALLOWED)


def mark_infeasible(trial: Trial) -> None:
    """A constraint that ranks a trial behind all healthy ones, pruned ones included (Optuna 5's TPE reads it)."""
    trial.set_constraint("failed", 1.0)


def _finish(study: Study, orphan: FrozenTrial) -> None:
    record = record_of(orphan)
    if record.failure is None and not record.outcome["stopped"]:
        study.tell(orphan.number, record.outcome["best"]["value"])
    else:
        bug = record.failure is not None and "failed" not in orphan.constraints
        study.tell(orphan.number, state=TrialState.FAIL if bug else TrialState.PRUNED)
