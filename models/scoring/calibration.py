"""Calibration of probabilities: the expected calibration error, and temperature scaling, which removes most of it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
TEMPERATURES = (0.05, 20.0)
"""Lowest and highest temperature that is fitted."""
_SMALLEST = float(np.finfo(np.float32).tiny)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error, 0..1.

    This is the mean distance between confidence and accuracy over bins of equal width, weighted by the number of images
    in each bin (Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3; 15 bins as there).

    Args:
        labels: int (n,).
        probabilities: float (n, classes).
        bins: Number of equal bins of the confidence 0..1.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    surplus = np.bincount(place, confidence - hits, minlength=bins)
    return float(np.abs(surplus).sum() / len(labels))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities, float64 (n, classes), after the logits are divided by `temperature`.

    The order of the classes of an image stays the same. Log-probabilities serve as logits: the two differ by a constant
    per image, which cancels in the softmax.
    """
    result: np.ndarray = softmax(_logits(probabilities) / temperature, axis=1)
    return result


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the temperature with the least negative log likelihood (Guo et al. 2017, section 4.2), in TEMPERATURES.

    Arguments as for `expected_calibration_error`. The temperature is above 1 when the network is overconfident. It is
    at least 1 when no prediction is wrong, because then the likelihood rises with confidence without limit.
    """
    logits, rows = _logits(probabilities), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        likelihood = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels]
        return -float(likelihood.mean())

    low, high = np.log(TEMPERATURES)
    if (logits.argmax(axis=1) == labels).all():
        low = 0.0
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    logits: np.ndarray = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    return logits
