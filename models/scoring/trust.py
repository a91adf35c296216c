"""Calibration of an exported model: judge its predictions on unseen images without labels.

A temperature, the thresholds of two accuracy estimates, and thresholds below which to abstain are fitted on validation
images. They are stored beside the model and applied to its raw probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.errors import ModelError
from models.scoring.calibration import expected_calibration_error, fit_temperature, with_temperature
from models.scoring.optimal_transport import transport_costs
from models.scoring.target_errors import TARGET_ERRORS


@dataclass(frozen=True)
class Abstention:
    """Rule to answer only where the calibrated confidence is above a threshold."""

    target_error: float
    """Allowed share of wrong answers among the answers given, 0..1."""
    threshold: float
    """Confidence, 0..1. 0: always answer. 1: never answer, because no threshold met the target on validation images."""


@dataclass(frozen=True)
class Trust:
    """Calibration fitted on validation images, as plain values ready for JSON."""

    temperature: float
    """Divisor of the logits."""
    confidence_threshold: float
    """Confidence above which an image counts as right."""
    cost_threshold: float
    """Transport cost up to which an image counts as right."""
    class_shares: tuple[float, ...]
    """Share of each class among the validation images; sums to 1."""
    abstentions: tuple[Abstention, ...]
    views: int
    """Number of labelled views used for the fit."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Trust:
        """Rebuild the calibration from the result of `as_dict`. Raises ModelError if a value is missing."""
        try:
            abstentions = tuple(Abstention(**row) for row in content["abstentions"])
            shares = tuple(content["class_shares"])
            names = ("temperature", "confidence_threshold", "cost_threshold", "views")
            own = {name: content[name] for name in names}
        except (KeyError, TypeError) as error:
            raise ModelError(f"the stored calibration is damaged ({error}): export the model again") from error
        return cls(abstentions=abstentions, class_shares=shares, **own)

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration as a dict, ready for JSON."""
        return asdict(self)

    def abstention(self, target_error: float) -> Abstention:
        """Return the abstention rule for a target error. Raises ModelError if there is none."""
        for row in self.abstentions:
            if row.target_error == target_error:
                return row
        known = ", ".join(f"{100 * row.target_error:g} %" for row in self.abstentions)
        raise ModelError(
            f"the share of wrong answers must be one that the model has a threshold for ({known}), "
            f"but is {100 * target_error:g} %"
        )

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, float64 (n, classes), from the model's raw ones."""
        return with_temperature(probabilities, self.temperature)

    def estimates(self, probabilities: np.ndarray) -> dict[str, float]:
        """Estimate the accuracy on images without labels.

        Args:
            probabilities: The model's raw probabilities, (n, classes).

        Returns:
            Three estimates, 0..1. `estimated_accuracy`: share of images whose transport cost is within a threshold
            (COTT, Lu et al. 2023, Predicting Out-of-Distribution Error with Confidence Optimal Transport, section 4).
            It assumes that classes are about as frequent as among the validation images. `thresholded_confidence`:
            share of images above a confidence (ATC, Garg et al. 2022, Leveraging Unlabeled Data to Predict
            Out-of-Distribution Performance, eq. 3). It makes no such assumption. `mean_confidence`: mean of the
            calibrated confidence.
        """
        calibrated = self.calibrated(probabilities)
        confidence = calibrated.max(axis=1)
        costs = transport_costs(calibrated, np.array(self.class_shares))
        return {
            "estimated_accuracy": float((costs <= self.cost_threshold).mean()),
            "thresholded_confidence": float((confidence > self.confidence_threshold).mean()),
            "mean_confidence": float(confidence.mean()),
        }


def fit_trust(labels: np.ndarray, probabilities: np.ndarray) -> Trust:
    """Fit the temperature and all thresholds.

    Args:
        labels: Labels of validation views, int (n,). Include corrupted views, so that the fit covers doubtful images.
        probabilities: The model's raw probabilities, (n, classes).
    """
    temperature = fit_temperature(labels, probabilities)
    calibrated = with_temperature(probabilities, temperature)
    confidence, hits = calibrated.max(axis=1), calibrated.argmax(axis=1) == labels
    rows = tuple(Abstention(target, abstain_threshold(confidence, hits, target)) for target in TARGET_ERRORS)
    shares = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    return Trust(
        temperature=temperature,
        confidence_threshold=confidence_threshold(confidence, hits),
        cost_threshold=float(np.quantile(transport_costs(calibrated, shares), hits.mean())),
        class_shares=tuple(shares.tolist()),
        abstentions=rows,
        views=len(labels),
    )


def confidence_threshold(confidence: np.ndarray, hits: np.ndarray) -> float:
    """Return the threshold for which the share of images above it equals the accuracy (Garg et al. 2022, eq. 2).

    Args:
        confidence: Highest probability of each image, float (n,).
        hits: Whether the predicted class is the true one, bool (n,).
    """
    return _below_best(np.sort(confidence)[::-1], int(hits.sum()))


def abstain_threshold(confidence: np.ndarray, hits: np.ndarray, target_error: float) -> float:
    """Return the lowest threshold above which at most `target_error` of the answers are wrong; 1.0 if there is none.

    This is the point of largest coverage on the risk-coverage curve that meets the target (Geifman & El-Yaniv 2017,
    Selective Classification for Deep Neural Networks). Other arguments as for `confidence_threshold`.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    error = np.cumsum(~hits[order]) / np.arange(1, len(order) + 1)
    # A threshold cannot separate equal confidences, so only the last of them is a candidate.
    places = np.flatnonzero((error <= target_error) & np.append(ranked[:-1] > ranked[1:], True))
    return _below_best(ranked, places[-1] + 1) if len(places) else 1.0


def answers(labels: np.ndarray, confidence: np.ndarray, guesses: np.ndarray, threshold: float) -> dict[str, Any]:
    """Return the `coverage` and the `error` of answering only above a confidence threshold.

    Args:
        labels: True classes, int (n,).
        confidence: Highest probability of each image, float (n,).
        guesses: Predicted classes, int (n,).
        threshold: Confidence above which the model answers.

    Returns:
        `coverage`, the share of images answered, and `error`, the share of wrong answers, or None without answers.
    """
    given = confidence > threshold
    error = float((guesses != labels)[given].mean()) if given.any() else None
    return {"coverage": float(given.mean()), "error": error}


def trust_figures(labels: np.ndarray, probabilities: np.ndarray, trust: Trust) -> dict[str, Any]:
    """Return how well calibration, abstention and accuracy estimates work on labelled images.

    Labels and probabilities as for `fit_trust`.
    """
    calibrated = trust.calibrated(probabilities)
    confidence, guesses = calibrated.max(axis=1), calibrated.argmax(axis=1)
    return {
        "calibrated_calibration_error": expected_calibration_error(labels, calibrated),
        **trust.estimates(probabilities),
        "abstaining": [asdict(row) | answers(labels, confidence, guesses, row.threshold) for row in trust.abstentions],
    }


def _below_best(ranked: np.ndarray, count: int) -> float:
    """Return the threshold that the `count` highest confidences exceed; `ranked` (n,) is in descending order."""
    return float(ranked[count]) if count < len(ranked) else 0.0
