"""How training computes: in which precision, and whether by XLA. To add a precision: a name in PRECISIONS.

Training alone: scores, kept features and exports are float32 whatever is chosen here, and so are the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOAT32, MIXED_BFLOAT16 = "float32", "mixed_bfloat16"
PRECISIONS = (FLOAT32, MIXED_BFLOAT16)
"""Names of Keras's dtype policies."""
LEAST_GAIN = 0.1
"""Of a trial's time: what is measured in seconds is not known better, and float32 needs no explanation."""


@dataclass(frozen=True)
class Arithmetic:
    """Of a training step."""

    precision: str = FLOAT32
    """Of the backbone's layers; the head is float32."""
    xla: bool = False
    """Under TensorFlow; JAX compiles by XLA in any case."""


@dataclass(frozen=True)
class StepTime:
    """What a training step was measured to take."""

    arithmetic: Arithmetic
    compile_s: float
    """What the first step took beyond those after it."""
    step_ms: float
    """Median of the steps after the first."""

    def trial_s(self, steps: int) -> float:
        """Of a trial of so many steps that has to compile first."""
        return self.compile_s + steps * self.step_ms / 1000


def quickest(rows: Sequence[StepTime], steps: int) -> StepTime:
    """The one with the quickest trial of so many steps; the first of `rows` unless that gains LEAST_GAIN over it."""
    best = min(rows, key=lambda row: row.trial_s(steps))
    return best if best.trial_s(steps) <= (1 - LEAST_GAIN) * rows[0].trial_s(steps) else rows[0]
