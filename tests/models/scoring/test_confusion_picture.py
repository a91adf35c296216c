"""Pictures of confusion: their cost does not grow with the square of the classes, and they say what is confused."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.scoring.confusion_picture import confused_pairs, draw_confusion


@pytest.mark.parametrize("classes", [2, 8, 31, 1000])
def test_a_picture_of_any_number_of_classes_is_small_and_quick(classes: int, tmp_path: Path) -> None:
    matrix = np.diag(np.full(classes, 9)) + np.eye(classes, k=1, dtype=int)
    names = tuple(f"$class_{number}$ 细胞 " + "x" * 60 for number in range(classes))
    start = time.process_time()
    draw_confusion(matrix.tolist(), names, "test", tmp_path / "confusion.png")
    assert time.process_time() - start < 60  # 150 s before, of 200 classes
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 3500
        assert len(picture.convert("RGB").getcolors(10**7) or ()) > 10


def test_the_most_frequent_confusions_come_first() -> None:
    assert confused_pairs([[5, 2, 0], [0, 9, 7], [2, 0, 0]], 2) == [(1, 2, 7), (0, 1, 2)]
    assert confused_pairs([[5, 0], [0, 9]], 4) == []
