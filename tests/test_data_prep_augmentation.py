"""Views: the same for the same seed, on their own row, uint8."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.augmentation import augment, level_seed
from data_prep.progress import Silent


def images() -> np.ndarray:
    """Twelve smooth pictures: image i is i times 20 bright, with a gradient."""
    slope = np.arange(32, dtype=np.uint8)[:, None, None]
    return np.stack([np.broadcast_to(slope + np.uint8(i * 18), (32, 32, 3)) for i in range(12)])


def views(level: str, seed: int = 0, generation: int = 0, copies: int = 1) -> np.ndarray:
    out = np.zeros((12, copies, 32, 32, 3), np.uint8)
    augment(images(), out, level, (seed, generation), Silent())
    return out


def test_the_same_seed_gives_the_same_views_and_no_other_does() -> None:
    first = views("hard")
    assert (first == views("hard")).all()
    assert (first != views("hard", seed=1)).any()
    assert (first != views("hard", generation=1)).any()


def test_each_row_descends_from_its_image_and_strength_grows_with_the_level() -> None:
    parents = images()[:, None].astype(int)
    low = views("low", copies=3)
    assert low.shape == (12, 3, 32, 32, 3) and low.any(axis=(2, 3, 4)).all()
    assert (low[:, 0] != low[:, 1]).any()
    moved = {level: np.abs(views(level, copies=3).astype(int) - parents).mean() for level in ("low", "hard")}
    assert moved["low"] < moved["hard"]
    near = np.abs(low[:, :, None].astype(int) - parents[None, None, :, 0]).mean(axis=(3, 4, 5))
    own = np.mean(near.argmin(axis=2) == np.arange(12)[:, None])
    assert own > 0.3  # by chance 0.08; most are changed little, but a solarized one may look like another's


@pytest.mark.parametrize("other", [(1, "low", 0), (0, "hard", 0), (0, "low", 1)])
def test_seeds_of_levels_and_generations_differ(other: tuple[int, str, int]) -> None:
    assert level_seed(0, "low", 0) == level_seed(0, "low", 0) != level_seed(*other)
