"""The pruners by name. To add one: a row in PRUNERS."""

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

# Trials that run to their end before a median or a percentile means something.
PRUNING_STARTUP_TRIALS = 4
# At a quarter of the epochs trials go on that are among the best so many percent of those that came so far, and run to
# their end then. Asking again at each later epoch costs more than it saves, and so does less patience: early values say
# little of the last ones (benchmarks/README.md).
RUNG_KEPT_PERCENT = 60.0
# The same, asked at each epoch from there on.
KEPT_PERCENT = 75.0
# The epoch of fine-tuning after which the first trials are ended, and of how many trials one goes on there.
HALVING_START, HALVING_FACTOR = 2, 3


class FineTuningOnly(BasePruner):
    """Shows another pruner the fine-tuning alone: its epochs, the first of which is called `first`.

    What a new head reaches on a frozen network lies below what fine-tuning ends with and, often, above what its first
    epochs give, so that the two must not be compared. A trial in its last epoch is not pruned: that would save nothing.
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
    # Others' values are looked up by their step, which must stay what it is.
    half = head_epochs + epochs // 2
    return FineTuningOnly(MedianPruner(PRUNING_STARTUP_TRIALS, half), head_epochs, epochs, first=head_epochs)


def _percentile(kept_percent: float, once: bool = False) -> Callable[[int, int], BasePruner]:
    def pruner(head_epochs: int, epochs: int) -> BasePruner:
        quarter, every = head_epochs + max(1, epochs // 4) - 1, head_epochs + epochs if once else 1
        percentile = PercentilePruner(kept_percent, PRUNING_STARTUP_TRIALS, quarter, interval_steps=every)
        return FineTuningOnly(percentile, head_epochs, epochs, first=head_epochs)

    return pruner


# Name -> function from the epochs of the head phase and of fine-tuning. benchmarks/pruning.py replays recorded trials
# under them.
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
