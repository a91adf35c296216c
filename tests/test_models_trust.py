"""Calibration, the estimate of accuracy and abstaining, on probabilities whose truth is known by construction."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from models.calibration import expected_calibration_error, fit_temperature, with_temperature
from models.errors import ModelError
from models.trust import Trust, abstain_threshold, accuracy_threshold, answers, fit_trust, trust_figures


def drawn(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the very probabilities given: calibrated by construction. int (n,), float32 (n, 4)."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(sharpness * rng.normal(size=(n, 4)), axis=1)
    labels = (probabilities.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=3)
    return labels, probabilities.astype("float32")


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.25, 0.75], [0.25, 0.75]])
    labels = np.array([0, 1, 1, 1])  # bin of 0.95: accuracy 0.5; bin of 0.75: accuracy 1
    assert expected_calibration_error(labels, probabilities) == pytest.approx((0.45 + 0.25) / 2)


def test_the_temperature_undoes_one() -> None:
    labels, honest = drawn(6000, 2.0)
    too_sure = with_temperature(honest, 0.4)
    temperature = fit_temperature(labels, too_sure)
    assert temperature == pytest.approx(2.5, rel=0.08)
    assert expected_calibration_error(labels, too_sure) > 0.1
    assert expected_calibration_error(labels, with_temperature(too_sure, temperature)) < 0.03
    assert (with_temperature(too_sure, 7).argmax(axis=1) == honest.argmax(axis=1)).all()


def test_probabilities_of_zero_and_one_stay_finite() -> None:
    probabilities = np.array([[1, 0], [1, 0], [0, 1]], "float32")
    trust = fit_trust(np.array([0, 1, 1]), probabilities)
    assert np.isfinite(trust.calibrated(probabilities)).all()


def test_the_estimate_of_accuracy_is_exact_where_it_was_learnt_and_follows_harder_images() -> None:
    labels, probabilities = drawn(4000, 5.0)
    trust = fit_trust(labels, with_temperature(probabilities, 0.5))
    easy = (probabilities.argmax(axis=1) == labels).mean()
    assert trust.estimated_accuracy(with_temperature(probabilities, 0.5)) == pytest.approx(easy)
    labels, probabilities = drawn(4000, 2.5, seed=1)
    hard = (probabilities.argmax(axis=1) == labels).mean()
    estimate = trust.estimated_accuracy(with_temperature(probabilities, 0.5))
    assert abs(estimate - hard) < abs(easy - hard) / 2


def test_thresholds_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.7, 0.6])
    hits = np.array([True, True, False, True, True])
    assert accuracy_threshold(confidence, hits) == 0.6
    assert accuracy_threshold(confidence, np.ones(5, bool)) == 0.0
    assert abstain_threshold(confidence, hits, 0.0) == 0.7  # the two of 0.7 cannot be told apart
    assert abstain_threshold(confidence, hits, 0.2) == 0.0
    assert abstain_threshold(confidence, ~hits, 0.1) == 1.0


def test_abstaining_keeps_the_target_on_other_images_of_the_kind() -> None:
    trust = fit_trust(*drawn(8000, 4.0))
    labels, probabilities = drawn(8000, 4.0, seed=1)
    rows = trust_figures(labels, probabilities, trust)["abstaining"]
    for row in rows:
        assert row["error"] == pytest.approx(row["target_error"], rel=0.5)
    assert [row["coverage"] for row in rows] == sorted(row["coverage"] for row in rows)
    assert answers(labels, probabilities.max(axis=1), labels, 1.0) == {"coverage": 0.0, "error": None}


def test_trust_goes_to_json_and_back() -> None:
    trust = fit_trust(*drawn(500, 2.0))
    assert Trust.from_dict(json.loads(json.dumps(trust.as_dict()))) == trust
    assert trust.abstention(0.01) in trust.abstentions
    with pytest.raises(ModelError, match=r"thresholds for 0\.5 %, 1 %, 2 %, 5 % of wrong answers, none for 3 %"):
        trust.abstention(0.03)
    with pytest.raises(ModelError, match="the stored calibration is damaged"):
        Trust.from_dict({"temperature": 1.0})
