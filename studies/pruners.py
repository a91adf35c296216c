"""Table of pruners by name. To add one, add a row to PRUNERS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Optuna is imported when a pruner is made: `--help` needs the names alone
    from optuna.pruners import BasePruner

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


def _median(head_epochs: int, epochs: int) -> BasePruner:
    from optuna.pruners import MedianPruner

    # MedianPruner looks up other trials' values by step, so the steps keep their original numbers.
    half = head_epochs + epochs // 2
    return _fine_tuning_only(MedianPruner(PRUNING_STARTUP_TRIALS, half), head_epochs, epochs, first=head_epochs)


def _percentile(kept_percent: float, once: bool = False) -> Callable[[int, int], BasePruner]:
    def pruner(head_epochs: int, epochs: int) -> BasePruner:
        from optuna.pruners import PercentilePruner

        quarter, every = head_epochs + max(1, epochs // 4) - 1, head_epochs + epochs if once else 1
        percentile = PercentilePruner(kept_percent, PRUNING_STARTUP_TRIALS, quarter, interval_steps=every)
        return _fine_tuning_only(percentile, head_epochs, epochs, first=head_epochs)

    return pruner


def _halving(head_epochs: int, epochs: int) -> BasePruner:
    from optuna.pruners import SuccessiveHalvingPruner

    halving = SuccessiveHalvingPruner(min_resource=HALVING_START, reduction_factor=HALVING_FACTOR)
    return _fine_tuning_only(halving, head_epochs, epochs)


def _hyperband(head_epochs: int, epochs: int) -> BasePruner:
    from optuna.pruners import HyperbandPruner

    return _fine_tuning_only(HyperbandPruner(1, epochs, reduction_factor=HALVING_FACTOR), head_epochs, epochs)


def _none(head_epochs: int, epochs: int) -> BasePruner:
    from optuna.pruners import NopPruner

    return NopPruner()


def _fine_tuning_only(pruner: BasePruner, head_epochs: int, epochs: int, first: int = 1) -> BasePruner:
    from studies.fine_tuning_only import FineTuningOnly

    return FineTuningOnly(pruner, head_epochs, epochs, first)


# Name -> function (epochs of the head phase, epochs of fine-tuning) -> pruner. benchmarks/pruning.py replays recorded
# trials with each of them.
PRUNERS: dict[str, Callable[[int, int], BasePruner]] = {
    "rung": _percentile(RUNG_KEPT_PERCENT, once=True),
    "percentile": _percentile(KEPT_PERCENT),
    "median": _median,
    "halving": _halving,
    "hyperband": _hyperband,
    "none": _none,
}
DEFAULT_PRUNER = "rung"
