"""Calibration, the estimate of accuracy and abstaining, on probabilities whose truth is known by construction."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from models.errors import ModelError
from models.scoring.calibration import expected_calibration_error, fit_temperature, with_temperature
from models.scoring.optimal_transport import transport_costs
from models.scoring.trust import Trust, abstain_threshold, answers, confidence_threshold, fit_trust, trust_figures


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


def test_nothing_is_made_surer_by_images_that_are_all_right() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet((8, 1, 1), 120)
    probabilities = probabilities[probabilities.argmax(axis=1) == 0]
    assert 1 <= fit_temperature(np.zeros(len(probabilities), int), probabilities) < 1.01


def test_probabilities_of_zero_and_one_stay_finite() -> None:
    probabilities = np.array([[1, 0], [1, 0], [0, 1]], "float32")
    trust = fit_trust(np.array([0, 1, 1]), probabilities)
    assert np.isfinite(trust.calibrated(probabilities)).all()


ESTIMATES = ("estimated_accuracy", "thresholded_confidence")


def test_estimates_of_accuracy_are_exact_where_they_were_learnt_and_follow_harder_images() -> None:
    labels, probabilities = drawn(1000, 5.0)
    trust = fit_trust(labels, with_temperature(probabilities, 0.5))
    easy = (probabilities.argmax(axis=1) == labels).mean()
    learnt = trust.estimates(with_temperature(probabilities, 0.5))
    assert [learnt[name] for name in ESTIMATES] == pytest.approx([easy, easy], abs=0.002)
    labels, probabilities = drawn(4000, 2.5, seed=1)
    hard = (probabilities.argmax(axis=1) == labels).mean()
    found = trust.estimates(with_temperature(probabilities, 0.5))
    assert all(abs(found[name] - hard) < abs(easy - hard) / 2 for name in ESTIMATES)


def test_a_network_that_calls_everything_by_one_name_is_found_out_by_transport_alone() -> None:
    trust = fit_trust(*drawn(1000, 5.0))
    sure = np.tile(np.array([[0.997, 0.001, 0.001, 0.001]], "float32"), (1000, 1))
    found = trust.estimates(sure)
    assert found["thresholded_confidence"] == 1.0
    assert found["estimated_accuracy"] == pytest.approx(trust.class_shares[0], abs=0.01)


def test_transport_gives_each_class_its_share_at_the_least_cost() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]])
    assert sorted(transport_costs(probabilities, np.array([0.5, 0.5]))) == pytest.approx([0.1, 0.2, 0.4, 0.7])
    assert sorted(transport_costs(probabilities, np.array([0.75, 0.25]))) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert len(transport_costs(probabilities[:3], np.array([0.5, 0.5]))) == 3
    assert len(transport_costs(np.full((1500, 2), 0.5), np.array([0.5, 0.5]))) == 1000


def test_thresholds_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.7, 0.6])
    hits = np.array([True, True, False, True, True])
    assert confidence_threshold(confidence, hits) == 0.6
    assert confidence_threshold(confidence, np.ones(5, bool)) == 0.0
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
    with pytest.raises(ModelError, match=r"a threshold for \(0\.5 %, 1 %, 2 %, 5 %\), but is 3 %"):
        trust.abstention(0.03)
    with pytest.raises(ModelError, match="the stored calibration is damaged"):
        Trust.from_dict({"temperature": 1.0})
