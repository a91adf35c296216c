"""Figures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.scoring.metrics import confusion, figures, per_class

LABELS = np.array([0, 0, 0, 1, 1, 2])
GUESSES = np.array([0, 0, 1, 1, 1, 0])
PROBABILITIES = (np.eye(3)[GUESSES] * 0.7 + 0.1).astype("float32")


def test_figures() -> None:
    result = figures(LABELS, PROBABILITIES)
    assert result["accuracy"] == pytest.approx(4 / 6)
    assert result["macro_recall"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert result["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert result["weighted_precision"] == pytest.approx((3 * 2 / 3 + 2 * 2 / 3 + 0) / 6)
    assert result["loss"] == pytest.approx(-(4 * np.log(0.8) + 2 * np.log(0.1)) / 6)


def test_per_class_and_confusion_matrix() -> None:
    assert confusion(LABELS, PROBABILITIES) == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    rows = per_class(LABELS, PROBABILITIES, ("a", "b", "c"))
    assert rows["b"] == {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "images": 2}
    assert rows["c"]["f1"] == 0
