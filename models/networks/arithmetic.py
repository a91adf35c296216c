"""Arithmetic of training steps: their precision, and whether XLA compiles them.

To add a precision, add its name to PRECISIONS. Only training is affected: weights, scores, cached features and exports
are always float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT32, MIXED_BFLOAT16 = "float32", "mixed_bfloat16"
PRECISIONS = (FLOAT32, MIXED_BFLOAT16)
"""Names of Keras's dtype policies."""
LEAST_GAIN = 0.1
"""Least share of a trial's time that another arithmetic must save to replace the first: timings over a few seconds are
no more accurate, and float32 needs no explanation."""


@dataclass(frozen=True)
class Arithmetic:
    """How a training step computes."""

    precision: str = FLOAT32
    """Keras dtype policy of the backbone's layers; the head is always float32."""
    xla: bool = False
    """Whether XLA compiles the step under TensorFlow. JAX always uses XLA."""


@dataclass(frozen=True)
class StepTime:
    """Measured time of a training step."""

    arithmetic: Arithmetic
    compile_s: float
    """Time of the first step beyond that of a later step."""
    step_ms: float
    """Median time of the steps after the first."""

    def trial_s(self, steps: int) -> float:
        """Return the seconds that a trial of `steps` steps takes, compilation included."""
        return self.compile_s + steps * self.step_ms / 1000


def quickest(rows: Sequence[StepTime], steps: int) -> StepTime:
    """Return the row with the fastest trial of `steps` steps, or the first row if that saves less than LEAST_GAIN."""
    best = min(rows, key=lambda row: row.trial_s(steps))
    return best if best.trial_s(steps) <= (1 - LEAST_GAIN) * rows[0].trial_s(steps) else rows[0]
