"""Learning rate schedules of fine-tuning.

To add a schedule: a row in SCHEDULES, and its name in models/hyperparameters.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

PLATEAU, CONSTANT = "plateau", "constant"
CYCLES = 3
LOWEST = 0.05  # share of the full rate between two cycles


def _cosine(done: float) -> float:
    """Fall from 1 to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _cyclic(done: float) -> float:
    """Alternate between the full rate and LOWEST in triangles (Smith 2017): start at the full rate, end at LOWEST."""
    position = done * (CYCLES - 0.5) % 1
    return LOWEST + (1 - LOWEST) * abs(1 - 2 * position)


SCHEDULES: dict[str, Callable[[float], float]] = {
    PLATEAU: lambda done: 1.0,  # reduced between epochs, when the reported value stops improving
    CONSTANT: lambda done: 1.0,
    "cosine": _cosine,
    "cyclic": _cyclic,
}
"""Name -> function from the share of the phase done since the warm-up, 0..1, to the share of the full rate, 0..1."""
