"""Tables of many classes show those with the lowest F1."""

from __future__ import annotations

import pytest

from search.exporting.figure_tables import print_classes, worst_classes


def _figures(classes: int) -> dict[str, dict[str, float]]:
    row = {"precision": 0.5, "recall": 0.5}
    return {f"class_{number:03}": row | {"f1": number / classes, "images": number % 10} for number in range(classes)}


def test_few_classes_stay_in_their_order_and_of_many_the_worst_are_shown() -> None:
    assert list(worst_classes(_figures(30))) == list(_figures(30))
    worst = worst_classes(dict(reversed(_figures(200).items())))
    assert list(worst)[:3] == ["class_001", "class_002", "class_003"] and len(worst) == 30
    assert all(row["images"] for row in worst.values())


def test_a_table_of_many_classes_says_that_it_is_not_all(capsys: pytest.CaptureFixture[str]) -> None:
    print_classes({"per_class": _figures(200)})
    output = capsys.readouterr().out
    assert "The 30 classes of 200 with the lowest F1; --json has all." in output and "class_199" not in output
    print_classes({"per_class": _figures(8)})
    assert "lowest" not in capsys.readouterr().out
