"""Table of samplers by name. To add one, add a row to SAMPLERS."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Optuna is imported when a sampler is made: `--help` needs the names alone
    from optuna.samplers import BaseSampler

# Random trials before TPE starts to model the space of 5-8 dimensions. Optuna's 10 would use up most of a short search.
STARTUP_TRIALS = 6


def _tpe(seed: int) -> BaseSampler:
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        # `group` is marked experimental, but parameters that depend on the optimizer need it.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, group=True, multivariate=True)


def _random(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {"tpe": _tpe, "random": _random}
"""Name -> function seed -> sampler."""
DEFAULT_SAMPLER = "tpe"
