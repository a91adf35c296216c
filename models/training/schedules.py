"""How the learning rate of fine-tuning goes over its steps. To add a schedule: a row in SCHEDULES, and its name in
models/hyperparameters.py."""

from __future__ import annotations

import math
from collections.abc import Callable

PLATEAU, CONSTANT = "plateau", "constant"
CYCLES = 3
LOWEST = 0.05  # of the full rate, between two cycles


def _cosine(done: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov & Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def _cyclic(done: float) -> float:
    """Triangles between the full rate and LOWEST (Smith 2017), beginning at the top and ending at the bottom."""
    position = done * (CYCLES - 0.5) % 1
    return LOWEST + (1 - LOWEST) * abs(1 - 2 * position)


SCHEDULES: dict[str, Callable[[float], float]] = {
    PLATEAU: lambda done: 1.0,  # lowered between epochs, when the reported value stands still
    CONSTANT: lambda done: 1.0,
    "cosine": _cosine,
    "cyclic": _cyclic,
}
"""Name -> function from the share of the phase's steps that are done, 0..1, to the share of the full rate, 0..1."""
