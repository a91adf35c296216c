"""Probabilities that mean what they say: calibration error, and one temperature that mends most of it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15
TEMPERATURES = (0.05, 20.0)
_SMALLEST = float(np.finfo(np.float32).tiny)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by their images; 0..1.

    Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3; 15 bins as there.

    Args:
        labels: int (n,).
        probabilities: float (n, classes).
        bins: number of equal parts of 0..1.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    surplus = np.bincount(place, confidence - hits, minlength=bins)
    return float(np.abs(surplus).sum() / len(labels))


def with_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities float64 (n, classes) of the logits divided by `temperature`; the order of the classes stays.

    Log-probabilities serve as logits: they differ from them by a constant per image, which softmax takes out.
    """
    result: np.ndarray = softmax(_logits(probabilities) / temperature, axis=1)
    return result


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature with the least negative log likelihood (Guo et al. 2017, section 4.2), within TEMPERATURES.

    Arguments as for `expected_calibration_error`. Above 1 where the network is too sure of itself; 1 or more where no
    answer is wrong, since the likelihood would then rise with every bit of confidence.
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
