"""What export-best and evaluate say first."""

from __future__ import annotations

from typing import Any

import pytest

from search.exporting.verdict import verdict_lines


def figures(macro_f1: float, half: float, images: int = 200) -> dict[str, Any]:
    interval = {"intervals": {"macro_f1": [macro_f1 - half, macro_f1 + half]}}
    classes = {"per_class": {"a": {"images": images // 2}, "b": {"images": images - images // 2}}}
    return {"macro_f1": macro_f1, "accuracy": 0.9, "images": images} | interval | classes


def test_the_score_stands_first_with_its_interval_and_counts() -> None:
    test = figures(0.87, 0.04) | {"corrupted": figures(0.7, 0.05), "test_only_corrupted": figures(0.6, 0.05)}
    first, second = verdict_lines({"test": test})
    assert first == "test images: macro-F1 0.870 (95 % interval 0.830 to 0.910), accuracy 90.0 % (180 of 200 right)"
    assert second.startswith("corrupted test images: macro-F1 0.600 (95 % interval 0.550 to 0.650) under unseen")
    assert "0.700 (95 % interval 0.650 to 0.750) under known ones" in second


@pytest.mark.parametrize(
    ("validation", "beginning"),
    [
        (0.99, "the validation score flatters the model: validation macro-F1 is 0.120 above test"),
        (0.88, "the validation score agrees with test within chance: validation macro-F1 is 0.010 above test"),
        (0.70, "the validation score does not flatter the model: validation macro-F1 is 0.170 below test"),
    ],
)
def test_whether_validation_flatters(validation: float, beginning: str) -> None:
    lines = verdict_lines({"validation": figures(validation, 0.03), "test": figures(0.87, 0.04)})
    assert lines[-1].startswith(beginning)


def test_few_images_of_a_class_are_said() -> None:
    assert "The smallest class has 9 images" in verdict_lines({"test": figures(0.9, 0.05, images=19)})[-1]
