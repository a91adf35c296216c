"""What a trial takes, as rates: measured by trial_timing.py, multiplied by whoever asks. Imports no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Views:
    """How many views an epoch has."""

    trained: int
    scored: int
    """Validation images and their corrupted views."""


@dataclass(frozen=True)
class PhaseRates:
    """Of one phase of a trial, in a process that has traced it before."""

    name: str
    trained_view_s: float
    scored_view_s: float
    rest_s: float
    """Of an epoch besides: its state is written."""
    kept_view_s: float
    """More for each view the first time it is looked at: its way through the frozen layers, kept from then on; 0 where
    nothing is kept."""

    def epoch_s(self, views: Views) -> float:
        return self.trained_view_s * views.trained + self.scored_view_s * views.scored + self.rest_s


@dataclass(frozen=True)
class TrialRates:
    """Of trials with the same cut."""

    frozen_fraction: float
    """Of the cut, while it is fine-tuned."""
    setup_s: float
    """From the job to the first step, all phases together."""
    end_view_s: float
    """For each scored view at the end, by the whole network."""
    trace_s: float
    """Once a process: graphs are traced."""
    state_bytes: int
    """Of the file that holds a trial under way."""
    weights_bytes: int
    """Of the file that a trial leaves."""
    phases: tuple[PhaseRates, ...]

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> TrialRates:
        return TrialRates(**{**content, "phases": tuple(PhaseRates(**row) for row in content["phases"])})

    def trial_s(self, views: Views, epochs: Mapping[str, int]) -> float:
        """Seconds of a trial that finds graphs traced and frozen layers' output kept.

        Args:
            epochs: of each phase by its name.
        """
        trained = sum(epochs[phase.name] * phase.epoch_s(views) for phase in self.phases)
        return self.setup_s + trained + self.end_view_s * views.scored
