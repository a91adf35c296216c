"""The samplers and pruners by name. To add one: a row in its table."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

# Random trials before TPE models anything. Optuna's 10 would be most of a short search; the space has 5-8 dimensions.
STARTUP_TRIALS = 6
# Trials that run to their end before the median means something.
PRUNING_STARTUP_TRIALS = 4


def _tpe(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        # `group` is marked experimental, and is what parameters that depend on the optimizer need.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, group=True, multivariate=True)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed: RandomSampler(seed=seed),
}

# Each takes the epochs that are never pruned and the epochs of a whole trial.
# The default is the median rule: it has no budget to set and keeps every trial that is at least average so far. Halving
# and Hyperband save more where trials are many and early values rank them well.
PRUNERS: dict[str, Callable[[int, int], BasePruner]] = {
    "median": lambda warmup, longest: MedianPruner(PRUNING_STARTUP_TRIALS, warmup),
    "halving": lambda warmup, longest: SuccessiveHalvingPruner(min_resource=warmup + 1, reduction_factor=3),
    "hyperband": lambda warmup, longest: HyperbandPruner(warmup + 1, longest, reduction_factor=3),
    "none": lambda warmup, longest: NopPruner(),
}
DEFAULT_SAMPLER, DEFAULT_PRUNER = "tpe", "median"
