"""The contract of every row of the table of corruptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest

from data_prep.corruption.operations import CORRUPTIONS, TRAINING_KINDS, Corruption, families, used
from data_prep.sources.demo_drawing import KINDS, draw_cell

every_row = pytest.mark.parametrize("row", CORRUPTIONS, ids=lambda row: row.name)


@cache
def cells(height: int = 96, width: int = 96) -> np.ndarray:
    """A drawn cell of each class: uint8 (8, height, width, 3)."""
    drawn = (draw_cell(kind, np.random.default_rng(at)) for at, kind in enumerate(KINDS))
    return np.stack([cv2.resize(cell, (width, height), interpolation=cv2.INTER_AREA) for cell in drawn])


@every_row
@pytest.mark.parametrize("shape", [(96, 96), (32, 32), (40, 64), (8, 8)])
def test_shape_and_type_stay_and_a_generator_repeats_itself(row: Corruption, shape: tuple[int, int]) -> None:
    image = cells(*shape)[6]
    image.flags.writeable = False
    for strength in row.strengths:
        once, twice = (row.apply(image, strength, np.random.default_rng(5)) for _ in range(2))
        assert once.shape == image.shape and once.dtype == np.uint8
        assert (once == twice).all() and (min(shape) < 32 or (once != image).any())


@every_row
@pytest.mark.parametrize("shape", [(96, 96), (32, 32)])
def test_a_stronger_corruption_moves_images_further(row: Corruption, shape: tuple[int, int]) -> None:
    images = cells(*shape)
    moved = [
        np.mean([np.abs(row.apply(image, strength, np.random.default_rng(at)) - image.astype(float)).mean()])
        for strength in row.strengths
        for at, image in enumerate(images)
    ]
    mild, middle, strong = np.reshape(moved, (3, -1)).mean(1)
    assert row.strengths == tuple(sorted(row.strengths)) and len(set(row.strengths)) == 3
    assert 1 < mild < 0.9 * middle < 0.81 * strong


@every_row
def test_lengths_grow_with_the_image(row: Corruption) -> None:
    def moved(images: np.ndarray) -> float:
        pairs = [(row.apply(image, row.strengths[2], np.random.default_rng(3)), image) for image in images]
        return float(np.mean([np.abs(after.astype(float) - before).mean() for after, before in pairs]))

    large = np.stack([cv2.resize(image, (192, 192), interpolation=cv2.INTER_CUBIC) for image in cells()])
    assert 0.6 < moved(cells()) / moved(large) < 1.7


@pytest.mark.parametrize("of", [lambda row: row.name, lambda row: row.kind, lambda row: row.apply])
def test_nothing_stands_in_two_rows(of: Callable[[Corruption], Any]) -> None:
    assert max(Counter(of(row) for row in CORRUPTIONS).values()) == 1


def test_no_kind_is_one_that_training_images_may_show() -> None:
    assert not {row.kind for row in CORRUPTIONS} & set(TRAINING_KINDS)


def test_each_side_has_its_families() -> None:
    assert families("validation") == ("noise", "blur", "compression", "colour", "geometry")
    assert families("test") == ("noise", "blur", "geometry", "lighting", "occlusion")
    assert len(used("validation")) == 8 and len(used("test")) == 9
