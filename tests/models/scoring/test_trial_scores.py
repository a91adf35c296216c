"""Clean and corrupted figures side by side, and what a study can maximize."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import ModelError
from models.scoring.metrics import figures
from models.scoring.objectives import DEFAULT_OBJECTIVE, OBJECTIVES, objective_value
from models.scoring.trial_scores import score

LABELS = np.array([0, 1, 0, 1])


def sure(guesses: list[int]) -> np.ndarray:
    return np.eye(2, dtype="float32")[guesses] * 0.8 + 0.1


def test_each_family_is_scored_on_the_views_it_takes_part_in() -> None:
    corrupted = np.stack([sure([0, 1, 0, 1]), sure([1, 0, 1, 0])], axis=1)  # the first views right, the second wrong
    families = {
        "blur": np.array([[True, False]] * 4),
        "noise": np.array([[True, True]] * 4),
        "none": np.zeros((4, 2), bool),
    }
    scores = score(LABELS, sure([0, 1, 0, 0]), corrupted, families)
    assert scores["families"]["blur"] == {"macro_f1": 1.0, "accuracy": 1.0, "views": 4}
    assert scores["families"]["noise"]["accuracy"] == scores["corrupted_accuracy"] == 0.5
    assert (scores["worst_family"], scores["worst_family_macro_f1"]) == ("noise", 0.5)
    assert scores["mean_macro_f1"] == pytest.approx((scores["macro_f1"] + 0.5) / 2)
    assert "none" not in scores["families"]
    assert set(OBJECTIVES) < set(scores)


def test_without_corrupted_views_the_clean_figures_are_all() -> None:
    scores = score(LABELS, sure([0, 1, 0, 0]))
    assert scores == figures(LABELS, sure([0, 1, 0, 0]))
    assert objective_value(scores, "accuracy") == 0.75
    with pytest.raises(ModelError, match="the objective `mean_macro_f1` needs corrupted validation images"):
        objective_value(scores, DEFAULT_OBJECTIVE)
