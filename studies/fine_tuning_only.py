"""A pruner that looks at the fine-tuning epochs of a trial alone."""

from __future__ import annotations

import copy

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial


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
