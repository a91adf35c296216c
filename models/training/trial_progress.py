"""How far a trial has come: its epochs, the best one of the phase under way, and whether it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.errors import DivergedError
from models.training.plan import EpochFigures
from models.training.recipe import HEAD, Phase

COLLAPSE_GRACE_EPOCHS = 3
"""A network that predicts one class in its first epochs of fine-tuning may still find its way."""


@dataclass
class TrialProgress:
    """Grows by an epoch at a time.

    Attributes:
        replayed: As `Plan.replayed`.
        epochs: All finished ones, in order.
        best: The best epoch of the phase under way: the epoch kept comes from the last phase that began.
        best_weights: The network's weights at the end of that epoch.
        collapsed_epochs: How many epochs in a row, up to the last one, predicted one class alone.
        first_step_s: From the moment the trial was asked for to the end of its first training step.
        views: Training views seen in this process.
        views_served: Those of them whose way through the frozen layers had been kept from before.
        is_stopped: The trial was asked to end early: it is pruned.
    """

    replayed: Sequence[float] = ()
    epochs: list[EpochFigures] = field(default_factory=list)
    best: EpochFigures | None = None
    best_weights: Sequence[np.ndarray] = ()
    collapsed_epochs: int = 0
    first_step_s: float = 0.0
    views: int = 0
    views_served: int = 0
    is_stopped: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_stopped or (bool(self.replayed) and len(self.epochs) >= len(self.replayed))

    def begin_phase(self) -> None:
        self.best, self.collapsed_epochs = None, 0

    def add(self, figures: EpochFigures, weights: Sequence[np.ndarray], probabilities: np.ndarray) -> None:
        """Adds an epoch that ended with these weights and these probabilities (m, classes) of validation images."""
        guesses = probabilities.argmax(axis=1)
        self.collapsed_epochs = self.collapsed_epochs + 1 if (guesses == guesses[0]).all() else 0
        self.epochs.append(figures)
        if self._is_best(figures):
            self.best, self.best_weights = figures, weights

    def recall(self, figures: EpochFigures) -> None:
        """Considers an epoch of the phase under way that an earlier process finished, as `add` did then."""
        if self._is_best(figures):
            self.best = figures

    def check_collapse(self, phase: Phase, epoch: int) -> None:
        """Raise DivergedError when one class alone was predicted at two successive epoch ends of fine-tuning.

        Args:
            epoch: The phase's epoch that has just ended, from 0.
        """
        if phase.name != HEAD and epoch >= COLLAPSE_GRACE_EPOCHS and self.collapsed_epochs >= 2:
            raise DivergedError(
                f"one class alone is predicted since epoch {self.epochs[-1].step - 1}: the trial collapsed"
            )

    def _is_best(self, figures: EpochFigures) -> bool:
        """Values that are replayed choose nothing: the last epoch is kept."""
        return bool(self.replayed) or self.best is None or figures.value > self.best.value
