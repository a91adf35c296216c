"""Gaps between validation and test, and what estimates of accuracy were off by, from stored figures alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.storage.reader import PreparedSet
from search.exporting.figure_tables import print_gaps
from search.exporting.scored_parts import estimate_errors, families_in, fit_on, gaps, operations, parts_in, score_split


def scored(macro_f1: float, half: float) -> dict[str, object]:
    return {"macro_f1": macro_f1, "intervals": {"macro_f1": [macro_f1 - half, macro_f1 + half]}}


def test_a_gap_beyond_chance_is_told_from_one_within(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {
        "validation": scored(0.90, 0.03) | {"corrupted": scored(0.80, 0.03)},
        "test": scored(0.87, 0.04) | {"corrupted": scored(0.70, 0.04)},
    }
    clean, corrupted = gaps(metrics)
    assert (clean["images"], clean["beyond_chance"]) == ("clean", False)
    assert clean["interval"] == pytest.approx([-0.02, 0.08])
    assert (corrupted["images"], corrupted["beyond_chance"]) == ("corrupted", True)
    assert gaps({"validation": {"macro_f1": 0.9}, "test": {"macro_f1": 0.8}}) == []
    print_gaps(metrics)
    shown = capsys.readouterr()
    assert "less test, clean: macro F1 +0.0300, 95 % interval -0.0200 to +0.0800" in shown.out
    assert shown.err.startswith("warning: on corrupted images, validation exceeds test")
    assert "clean" not in shown.err


def test_errors_of_estimates_over_the_clean_images_and_each_family() -> None:
    def block(accuracy: float, estimate: float) -> dict[str, object]:
        estimates = {"estimated_accuracy": estimate, "thresholded_confidence": accuracy, "mean_confidence": 0.5}
        return {"images": 10, "accuracy": accuracy, **estimates}

    test = block(0.9, 0.92) | {
        "corrupted": block(0.5, 0.5) | {"families": {"noise": block(0.4, 0.5)}},
        "test_only_corrupted": block(0.5, 0.5) | {"families": {"noise": block(0.6, 0.54)}},
    }
    errors = estimate_errors(test)
    assert [row["block"] for row in errors["blocks"]] == [
        "test", "test, known corruptions: noise", "test, unseen corruptions: noise",
    ]  # fmt: skip
    assert errors["estimated_accuracy"] == {"mean": pytest.approx(0.06), "largest": pytest.approx(0.1)}
    assert errors["thresholded_confidence"]["largest"] == 0
    assert estimate_errors({"accuracy": 0.9}) == {}


def test_all_parts_of_a_prepared_set_are_scored(tiny_workspace: Path) -> None:
    prepared = PreparedSet.open(tiny_workspace / "prepared")

    def predict(files: list[Path]) -> list[np.ndarray]:
        """Colour tells the class of these images."""
        arrays = [np.load(file).astype(float) for file in files]
        colours = [array.reshape(-1, *array.shape[-3:]).mean(axis=(1, 2)) for array in arrays]
        return [(colour / colour.sum(axis=1, keepdims=True)).astype("float32") for colour in colours]

    found = score_split(prepared, "test", predict)
    assert list(found) == ["", "corrupted", "test_only_corrupted"]
    assert found[""].probabilities.shape == (len(prepared.labels("test")), 3)
    assert found["corrupted"].probabilities.shape[:2] == prepared.corrupted("test").images.shape[:2]
    labels, _ = found["corrupted"].flat()
    assert (labels.reshape(len(prepared.labels("test")), -1) == prepared.labels("test")[:, None]).all()
    assert fit_on(found).views == sum(len(part.flat()[0]) for part in found.values())
    used = operations(prepared)
    assert "defocus" in used["test"] and not set(used["test"]) & set(used["validation"])


def test_stored_figures_of_before_are_shown_as_they_are() -> None:
    metrics = {"validation": {"macro_f1": 0.9}, "test": {"macro_f1": 0.8}}
    assert [part.title for part, _ in parts_in(metrics)] == ["validation", "test"]
    assert families_in(metrics) == []
