"""Rates from which a trial's time is estimated, such as seconds per view. Measured by trial_timing.py.

Imports no Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Views:
    """Number of views in an epoch."""

    trained: int
    """Training views."""
    scored: int
    """Validation images and their corrupted views."""


@dataclass(frozen=True)
class PhaseRates:
    """Rates of one phase of a trial, in a process that has traced it before."""

    name: str
    trained_view_s: float
    """Seconds per training view."""
    scored_view_s: float
    """Seconds per scored view."""
    rest_s: float
    """Seconds per epoch for the rest, such as writing the checkpoint."""
    kept_view_s: float
    """Extra seconds the first time a view is used, when its output of the frozen layers is computed and cached. 0 if
    nothing is cached."""

    def epoch_s(self, views: Views) -> float:
        """Return the seconds of an epoch."""
        return self.trained_view_s * views.trained + self.scored_view_s * views.scored + self.rest_s


@dataclass(frozen=True)
class TrialRates:
    """Rates of trials with the same cut."""

    frozen_fraction: float
    """Share of frozen layers during fine-tuning, 0..1."""
    setup_s: float
    """Seconds of preparation before the first step, summed over the phases."""
    end_view_s: float
    """Seconds per scored view for the scoring at the end, by the whole network."""
    trace_s: float
    """Seconds to trace graphs, once per process."""
    state_bytes: int
    """Size of the checkpoint file."""
    weights_bytes: int
    """Size of the weights file that a finished trial leaves."""
    phases: tuple[PhaseRates, ...]

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> TrialRates:
        """Rebuild the rates from the result of `dataclasses.asdict`."""
        return TrialRates(**{**content, "phases": tuple(PhaseRates(**row) for row in content["phases"])})

    def trial_s(self, views: Views, epochs: Mapping[str, int]) -> float:
        """Return the seconds of a trial whose graphs are traced and whose output of the frozen layers is cached.

        Args:
            views: Views in an epoch.
            epochs: Name of a phase -> number of its epochs.
        """
        trained = sum(epochs[phase.name] * phase.epoch_s(views) for phase in self.phases)
        return self.setup_s + trained + self.end_view_s * views.scored
