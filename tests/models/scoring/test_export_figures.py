"""Figures of images and of their corrupted views."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.scoring.export_figures import Scored, full_figures
from models.scoring.metrics import figures
from models.scoring.trust import fit_trust

LABELS = np.arange(30) % 3
NAMES = ("a", "b", "c")


def probabilities(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    hot = 2 * np.eye(3)[LABELS].reshape(30, *(1 for _ in shape), 3)
    powers = np.exp(hot + rng.normal(size=(30, *shape, 3)))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype("float32")


def test_the_figures_of_plain_images() -> None:
    found = full_figures(Scored(LABELS, probabilities()), NAMES, None)
    expected = figures(LABELS, probabilities())
    assert {name: found[name] for name in expected} == expected
    low, high = found["intervals"]["macro_f1"]
    assert low < found["macro_f1"] < high
    low, high = found["per_class"]["b"]["f1_interval"]
    assert low <= found["per_class"]["b"]["f1"] <= high
    assert "families" not in found and "abstaining" not in found


def test_the_figures_of_views_count_each_and_tell_the_families_apart() -> None:
    first = np.arange(60).reshape(30, 2) % 2 == 0
    scored = Scored(LABELS, probabilities(2), {"noise": first, "blur": ~first})
    trust = fit_trust(*scored.flat())
    found = full_figures(scored, NAMES, trust)
    assert found["images"] == 60 == np.sum(found["confusion_matrix"])
    assert found["families"]["noise"]["accuracy"] == figures(LABELS, probabilities(2)[:, 0])["accuracy"]
    assert found["families"]["blur"]["images"] == 30
    both = [found["families"][name]["accuracy"] for name in ("noise", "blur")]
    assert found["accuracy"] == pytest.approx(np.mean(both))
    assert found["thresholded_confidence"] == pytest.approx(found["accuracy"])
    assert 0 < found["families"]["noise"]["estimated_accuracy"] < 1
    assert json.loads(json.dumps(found)) == found
