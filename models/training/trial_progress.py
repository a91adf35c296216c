"""Progress of a trial: its epochs, the best epoch of the current phase, and whether the trial is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.errors import DivergedError
from models.training.plan import EpochFigures
from models.training.recipe import HEAD, Phase

COLLAPSE_GRACE_EPOCHS = 3
"""Epochs at the start of fine-tuning in which a network may predict only one class, because it may still recover."""


@dataclass
class TrialProgress:
    """Progress of a trial, updated after each epoch.

    Attributes:
        replayed: As `Plan.replayed`.
        epochs: All finished epochs, in order.
        best: Best epoch of the current phase. The epoch that a trial keeps is always one of the last phase that began.
        best_weights: Weights of the network at the end of the best epoch.
        collapsed_epochs: Number of epochs in a row, up to the last one, in which only one class was predicted.
        first_step_s: Seconds from the request for the trial to the end of its first training step.
        views: Number of training views used in this process.
        views_served: Number of training views whose output of the frozen layers was in the cache already.
        is_stopped: Whether the trial was ended early, that is, pruned.
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
        """Whether the trial was ended early or has replayed all values."""
        return self.is_stopped or (bool(self.replayed) and len(self.epochs) >= len(self.replayed))

    def begin_phase(self) -> None:
        """Forget the best epoch and the collapsed epochs of the phase before."""
        self.best, self.collapsed_epochs = None, 0

    def add(self, figures: EpochFigures, weights: Sequence[np.ndarray], probabilities: np.ndarray) -> None:
        """Add a finished epoch, with its weights and its probabilities (m, classes) of the validation images."""
        guesses = probabilities.argmax(axis=1)
        self.collapsed_epochs = self.collapsed_epochs + 1 if (guesses == guesses[0]).all() else 0
        self.epochs.append(figures)
        if self._is_best(figures):
            self.best, self.best_weights = figures, weights

    def recall(self, figures: EpochFigures) -> None:
        """Update the best epoch with an epoch of the current phase that an earlier process finished."""
        if self._is_best(figures):
            self.best = figures

    def check_collapse(self, phase: Phase, epoch: int) -> None:
        """Raise DivergedError if only one class was predicted at the end of two successive epochs of fine-tuning.

        Args:
            phase: The current phase; the head phase is not checked.
            epoch: Number of the epoch in the phase that has just ended, from 0.
        """
        if phase.name != HEAD and epoch >= COLLAPSE_GRACE_EPOCHS and self.collapsed_epochs >= 2:
            raise DivergedError(
                f"only one class has been predicted since epoch {self.epochs[-1].step - 1}: the trial collapsed"
            )

    def _is_best(self, figures: EpochFigures) -> bool:
        """Return whether this epoch is the best so far. With replayed values the last epoch always is."""
        return bool(self.replayed) or self.best is None or figures.value > self.best.value
