"""Times training steps of the actual network in each candidate arithmetic."""

from __future__ import annotations

import time
from collections.abc import Sequence

import keras
import numpy as np

from models.networks.arithmetic import Arithmetic, StepTime
from models.networks.classifier import ClassifierSettings
from models.networks.kept_networks import Networks, TrainedPart
from models.networks.predicting import predict

STEPS = 12


def step_times(
    settings: ClassifierSettings, batch_size: int, candidates: Sequence[Arithmetic], steps: int = STEPS
) -> list[StepTime]:
    """Measure training steps of all layers on random images, in each arithmetic.

    Args:
        settings: The network to time.
        batch_size: Images per step.
        candidates: Arithmetics to time.
        steps: Number of steps to time in each arithmetic, after the first.

    Returns:
        A row for each candidate that can run. A candidate that lacks memory or an operation is left out, and a printed
        line says why.
    """
    network = Networks().taken(settings, dropout=0.0, seed=0)
    batch = _random_batch(settings, batch_size)
    predict(network.classifier.joined, batch[0])  # keeps the device's start-up cost out of the first candidate's times
    parts: dict[Arithmetic, TrainedPart] = {}
    times_s: dict[Arithmetic, list[float]] = {}
    for arithmetic in candidates:
        network.arithmetic = arithmetic
        part = network.part(0.0)
        try:
            times_s[arithmetic] = [_step_s(part, batch)]
        except Exception as error:  # XLA and the backends raise many kinds of errors
            with_xla = " with XLA" if arithmetic.xla else ""
            print(f"{arithmetic.precision}{with_xla} cannot be timed and is skipped: {type(error).__name__}: {error}")
            continue
        parts[arithmetic] = part
    for _ in range(steps):  # in turn, so that a busy spell of the machine affects all candidates
        for arithmetic, part in parts.items():
            times_s[arithmetic].append(_step_s(part, batch))
    return [_step_time(arithmetic, *found) for arithmetic, found in times_s.items()]


def _step_time(arithmetic: Arithmetic, first_s: float, *others_s: float) -> StepTime:
    step_s = float(np.median(others_s))
    return StepTime(arithmetic, max(0.0, first_s - step_s), 1000 * step_s)


def _random_batch(settings: ClassifierSettings, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random images, targets of all classes in turn, and weights of 1."""
    images = np.random.default_rng(0).integers(0, 256, (size, *settings.image_shape)).astype("uint8")
    targets = np.eye(settings.classes, dtype="float32")[np.arange(size) % settings.classes]
    return images, targets, np.ones(size, "float32")


def _step_s(part: TrainedPart, batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    start = time.perf_counter()
    _, gradient = part.gradients(*batch)
    keras.ops.convert_to_numpy(gradient[:1])  # waits for the device
    return time.perf_counter() - start
