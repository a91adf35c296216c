"""Table of pruners by name. To add one, add a row to PRUNERS."""

from __future__ import annotations

import copy
from collections.abc import Callable

from optuna import Study
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import FrozenTrial

# Trials that finish before pruning starts: a median or percentile of fewer says little.
PRUNING_STARTUP_TRIALS = 4
# After a quarter of the fine-tuning epochs, a trial continues if it is among this best share of the trials that have
# reached that epoch; then it runs to its end. Pruning again at later epochs, or earlier, costs more than it saves,
# because early values say little about final ones (benchmarks/README.md).
RUNG_KEPT_PERCENT = 60.0
# Share for the same rule applied at every epoch from there on.
KEPT_PERCENT = 75.0
# Successive halving: epoch of fine-tuning after which the first trials are pruned; one in HALVING_FACTOR continues.
HALVING_START, HALVING_FACTOR = 2, 3


class FineTuningOnly(BasePruner):
    """Pruner that shows another pruner only the fine-tuning epochs of a trial.

    Scores of the two phases must not be compared: a new head on a frozen network scores below the end of fine-tuning
    but often above its first epochs. A trial in its last epoch is not pruned, because that would save nothing.

    Args:
        pruner: Pruner that decides.
        head_epochs: Epochs of the head phase.
        epochs: Epochs of fine-tuning.
        first: Step number that `pruner` sees for the first epoch of fine-tuning.
    """

    def __init__(self, pruner: BasePruner, head_epochs: int, epochs: int, first: int = 1) -> None:
        self.pruner, self.head_epochs, self.epochs, self.first = pruner, head_epochs, epochs, first

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        done = {step - self.head_epochs: value for step, value in trial.intermediate_values.items()}
        values = {step + self.first: value for step, value in done.items() if step >= 0}
        if not values or max(done) == self.epochs - 1:
            return False
        shown = copy.copy(trial)
        shown.intermediate_values = values
        return self.pruner.prune(study, shown)


def _median(head_epochs: int, epochs: int) -> BasePruner:
    # MedianPruner looks up other trials' values by step, so the steps keep their original numbers.
    half = head_epochs + epochs // 2
    return FineTuningOnly(MedianPruner(PRUNING_STARTUP_TRIALS, half), head_epochs, epochs, first=head_epochs)


def _percentile(kept_percent: float, once: bool = False) -> Callable[[int, int], BasePruner]:
    def pruner(head_epochs: int, epochs: int) -> BasePruner:
        quarter, every = head_epochs + max(1, epochs // 4) - 1, head_epochs + epochs if once else 1
        percentile = PercentilePruner(kept_percent, PRUNING_STARTUP_TRIALS, quarter, interval_steps=every)
        return FineTuningOnly(percentile, head_epochs, epochs, first=head_epochs)

    return pruner


# Name -> function (epochs of the head phase, epochs of fine-tuning) -> pruner. benchmarks/pruning.py replays recorded
# trials with each of them.
PRUNERS: dict[str, Callable[[int, int], BasePruner]] = {
    "rung": _percentile(RUNG_KEPT_PERCENT, once=True),
    "percentile": _percentile(KEPT_PERCENT),
    "median": _median,
    "halving": lambda head_epochs, epochs: FineTuningOnly(
        SuccessiveHalvingPruner(min_resource=HALVING_START, reduction_factor=HALVING_FACTOR), head_epochs, epochs
    ),
    "hyperband": lambda head_epochs, epochs: FineTuningOnly(
        HyperbandPruner(1, epochs, reduction_factor=HALVING_FACTOR), head_epochs, epochs
    ),
    "none": lambda head_epochs, epochs: NopPruner(),
}
DEFAULT_PRUNER = "rung"
