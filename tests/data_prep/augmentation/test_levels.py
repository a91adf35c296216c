"""Views: the same for the same seed, on their own row, uint8."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.augmentation.levels import MAKERS, augment, level_seed
from data_prep.augmentation.strong_views import CHANGES, Change
from data_prep.corruption.operations import TRAINING_KINDS
from data_prep.corruption.transforms import transformed
from data_prep.progress import Silent
from data_prep.settings import STRENGTHS
from data_prep.sources.demo_drawing import KINDS, draw_cell


def images() -> np.ndarray:
    """Twelve smooth pictures: image i is i times 20 bright, with a gradient."""
    slope = np.arange(32, dtype=np.uint8)[:, None, None]
    return np.stack([np.broadcast_to(slope + np.uint8(i * 18), (32, 32, 3)) for i in range(12)])


def views(level: str, seed: int = 0, generation: int = 0, copies: int = 1) -> np.ndarray:
    out = np.zeros((12, copies, 32, 32, 3), np.uint8)
    augment(images(), {level: out}, (seed, generation), Silent())
    return out


@pytest.mark.parametrize("level", ["hard", "strong"])
def test_the_same_seed_gives_the_same_views_whatever_is_made_beside_them_and_no_other_does(level: str) -> None:
    first = views(level, copies=11)  # more than a batch
    beside = {name: np.zeros_like(first) for name in ("low", level)}
    augment(images(), beside, (0, 0), Silent())
    assert (first == beside[level]).all() and (first != beside["low"]).any()
    assert (first[:, :1] != views(level, seed=1)).any()
    assert (first[:, :1] != views(level, generation=1)).any()


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


def test_every_level_has_a_strength_and_a_maker() -> None:
    assert set(STRENGTHS) == set(MAKERS)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.transform)
def test_each_strong_change_keeps_shape_and_type_and_repeats_itself(change: Change) -> None:
    assert change.kind in TRAINING_KINDS
    name, options = change.transform, change.options(1.0)
    image = draw_cell(KINDS[6], np.random.default_rng(0))
    for size in ((96, 96), (32, 32), (24, 40)):
        cut = np.ascontiguousarray(image[: size[0], : size[1]])
        before = cut.copy()
        once, twice = (transformed(cut, np.random.default_rng(1), name, **options) for _ in range(2))
        assert once.shape == cut.shape and once.dtype == np.uint8
        assert (once == twice).all() and (cut == before).all()
    moved = [transformed(image, np.random.default_rng(at), name, **options) for at in range(4)]
    assert any((one != image).any() for one in moved)


def test_strong_views_of_one_image_differ_and_do_not_hang_on_the_others() -> None:
    first = views("strong", copies=4)
    assert len({view.tobytes() for view in first[3]}) == 4
    alone = np.zeros((4, 4, 32, 32, 3), np.uint8)
    augment(images()[:4], {"strong": alone}, (0, 0), Silent())
    assert (alone == first[:4]).all()
