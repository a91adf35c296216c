"""The samplers by name. To add one: a row in SAMPLERS."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

# Random trials before TPE models anything. Optuna's 10 would be most of a short search; the space has 5-8 dimensions.
STARTUP_TRIALS = 6


def _tpe(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        # `group` is marked experimental, and is what parameters that depend on the optimizer need.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, group=True, multivariate=True)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "random": lambda seed: RandomSampler(seed=seed),
}
DEFAULT_SAMPLER = "tpe"


class PerTrialSampler(BaseSampler):
    """Asks a fresh sampler for each trial, seeded by its number, and for each hyperparameter that is drawn alone.

    The state of a sampler is not in the database; drawn this way, a trial is the same whatever the process that asks
    has asked before, and one that was cut off while it was asked for gets the rest of the same hyperparameters.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed_of: Callable[[int, str], int]) -> None:
        """`seed_of`: (trial number, purpose) -> seed."""
        self._make, self._seed_of = make, seed_of
        self._latest: tuple[int, BaseSampler] | None = None

    def _of(self, number: int) -> BaseSampler:
        if self._latest is None or self._latest[0] != number:
            self._latest = (number, self._make(self._seed_of(number, "sampler")))
        return self._latest[1]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        sampler = self._make(self._seed_of(trial.number, f"sampler of {name}"))
        return sampler.sample_independent(study, trial, name, distribution)
