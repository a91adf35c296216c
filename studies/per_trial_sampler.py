"""A sampler whose proposals depend on the trial's number alone, not on what its process sampled before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial


class PerTrialSampler(BaseSampler):
    """Sampler that makes a fresh sampler for each trial and each independent hyperparameter, seeded by trial number.

    The database does not store a sampler's state. With fresh samplers, a trial gets the same hyperparameters whatever
    its process has sampled before, and a trial that was interrupted while it was sampled gets the rest of the same
    ones.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed_of: Callable[[int, str], int]) -> None:
        """Store how to make samplers and seeds.

        Args:
            make: Seed -> sampler.
            seed_of: (trial number, purpose) -> seed.
        """
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
