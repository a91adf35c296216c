"""What is learnt on validation images so that a model's answers on unseen images can be judged without labels.

A temperature, the thresholds of two estimates of accuracy, and those below which to abstain: kept beside an exported
model, and applied to its raw probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.errors import ModelError
from models.scoring.calibration import expected_calibration_error, fit_temperature, with_temperature
from models.scoring.optimal_transport import transport_costs

TARGET_ERRORS = (0.005, 0.01, 0.02, 0.05)
"""Shares of wrong answers among those given, for each of which there is a threshold."""


@dataclass(frozen=True)
class Abstention:
    """Answers only where the calibrated confidence is above `threshold`."""

    target_error: float
    threshold: float
    """0: always answers; 1: never, since no threshold kept to the target on the validation images."""


@dataclass(frozen=True)
class Trust:
    """Fitted on validation images; plain values, ready for JSON."""

    temperature: float
    confidence_threshold: float
    """Confidence above which an image counts as right."""
    cost_threshold: float
    """Cost of transport up to which an image counts as right."""
    class_shares: tuple[float, ...]
    """Of each class among the validation images."""
    abstentions: tuple[Abstention, ...]
    views: int
    """How many labelled views it was fitted on."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Trust:
        """The inverse of `as_dict`. ModelError when something is missing."""
        try:
            abstentions = tuple(Abstention(**row) for row in content["abstentions"])
            shares = tuple(content["class_shares"])
            names = ("temperature", "confidence_threshold", "cost_threshold", "views")
            own = {name: content[name] for name in names}
        except (KeyError, TypeError) as error:
            raise ModelError(f"the stored calibration is damaged ({error}): export the model again") from error
        return cls(abstentions=abstentions, class_shares=shares, **own)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def abstention(self, target_error: float) -> Abstention:
        """The row for a target. ModelError when there is none."""
        for row in self.abstentions:
            if row.target_error == target_error:
                return row
        known = ", ".join(f"{100 * row.target_error:g} %" for row in self.abstentions)
        raise ModelError(f"the model has thresholds for {known} of wrong answers, none for {100 * target_error:g} %")

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """float64 (n, classes) of the model's raw ones."""
        return with_temperature(probabilities, self.temperature)

    def estimates(self, probabilities: np.ndarray) -> dict[str, float]:
        """Estimates of accuracy that need no labels, 0..1.

        `estimated_accuracy`: thresholded transport costs (COTT, Lu et al. 2023, Predicting Out-of-Distribution Error
        with Confidence Optimal Transport, section 4), which takes the classes to be about as frequent as among the
        validation images. `thresholded_confidence`: the share of images above a confidence (ATC, Garg et al. 2022,
        Leveraging Unlabeled Data to Predict Out-of-Distribution Performance, eq. 3), which does not. `mean_confidence`:
        of the calibrated probabilities.

        Args:
            probabilities: the model's raw ones, (n, classes).
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
    """Learns all thresholds.

    Args:
        labels: int (n,) of validation views; corrupted ones too, so that doubt is learnt where it is needed.
        probabilities: the model's raw ones, (n, classes).
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
    """The threshold above which as many images lie as are right (Garg et al. 2022, eq. 2).

    Args:
        confidence: float (n,), the highest probability of each image.
        hits: bool (n,), whether its class is the true one.
    """
    return _below_best(np.sort(confidence)[::-1], int(hits.sum()))


def abstain_threshold(confidence: np.ndarray, hits: np.ndarray, target_error: float) -> float:
    """The lowest threshold above which at most `target_error` of the answers are wrong; 1.0 where none is.

    The point of largest coverage on the risk-coverage curve (Geifman & El-Yaniv 2017, Selective Classification for
    Deep Neural Networks). Arguments as for `confidence_threshold`.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    error = np.cumsum(~hits[order]) / np.arange(1, len(order) + 1)
    # Equal confidences cannot be told apart: only the last of them is a place to cut.
    places = np.flatnonzero((error <= target_error) & np.append(ranked[:-1] > ranked[1:], True))
    return _below_best(ranked, places[-1] + 1) if len(places) else 1.0


def answers(labels: np.ndarray, confidence: np.ndarray, guesses: np.ndarray, threshold: float) -> dict[str, Any]:
    """`coverage`, the share of images answered, and `error`, the share of wrong ones among those; None without any."""
    given = confidence > threshold
    error = float((guesses != labels)[given].mean()) if given.any() else None
    return {"coverage": float(given.mean()), "error": error}


def trust_figures(labels: np.ndarray, probabilities: np.ndarray, trust: Trust) -> dict[str, Any]:
    """How calibration, abstaining and the estimate of accuracy do on labelled images. Arguments as for `fit_trust`."""
    calibrated = trust.calibrated(probabilities)
    confidence, guesses = calibrated.max(axis=1), calibrated.argmax(axis=1)
    return {
        "calibrated_calibration_error": expected_calibration_error(labels, calibrated),
        **trust.estimates(probabilities),
        "abstaining": [asdict(row) | answers(labels, confidence, guesses, row.threshold) for row in trust.abstentions],
    }


def _below_best(ranked: np.ndarray, count: int) -> float:
    """The threshold that the `count` highest of these confidences (n,), falling, are above."""
    return float(ranked[count]) if count < len(ranked) else 0.0
