"""Which view of which image an epoch shows."""

from __future__ import annotations

import numpy as np
import pytest

from models.feeding.batches import Feed, TrainingViews, strength_shares
from models.feeding.epoch_size import EpochSize
from models.hyperparameters import Hyperparameters


def marked_views(copies: int = 2) -> TrainingViews:
    """Image i is filled with i; the copy c of its augmented view with i + 50 (1 + c)."""
    n = 20
    originals = np.zeros((n, 2, 2, 3), np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None, None]
    bank = np.stack([originals + 50 * (1 + copy) for copy in range(copies)], axis=1)
    return TrainingViews(originals, [bank], np.arange(n))


def shown(number: int = 0, batch_size: int = 5, seed: int = 0, **hyperparameters: object) -> list[tuple[int, int]]:
    """(label, first pixel) of each view of an epoch, in order."""
    chosen = Hyperparameters.from_dict({"augmentation": "low", **hyperparameters})
    size = EpochSize.of(20, chosen.views_per_image, batch_size)
    batches = list(Feed(marked_views(), np.ones(20, "float32"), size, seed).epoch(number, 0.0, chosen))
    assert len(batches) == size.steps
    assert all(batch.images.dtype == np.uint8 and batch.targets.dtype == np.float32 for batch in batches)
    labels = [batch.targets.argmax(axis=1) for batch in batches]
    pixels = [batch.images[:, 0, 0, 0] for batch in batches]
    return [(int(a), int(b)) for a, b in zip(np.concatenate(labels), np.concatenate(pixels), strict=True)]


def test_every_image_is_shown_once_an_epoch_as_one_of_its_own_views() -> None:
    views = shown()
    assert {pixel - label for label, pixel in views} == {0, 50, 100}
    assert sorted(label for label, _ in views) == list(range(20))


def test_views_that_are_made_ready_are_those_that_are_shown() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.views, self.rows = marked_views(), list[int]()

        def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None:
            self.rows.extend(rows)

        def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
            return self.views.gather(rows, strength, copy)

    source = Recorder()
    feed = Feed(source.views, np.ones(20, "float32"), EpochSize(20, 6), 0)
    batches = feed.epoch(0, 0.0, Hyperparameters(augmentation="low"), source)
    assert source.rows == []
    assert list(np.concatenate([batch.targets.argmax(axis=1) for batch in batches])) == source.rows
    assert len(source.rows) == 18  # the last two are less than a batch


def test_images_that_follow_are_shown_as_their_own_views() -> None:
    first, more = marked_views(), marked_views()
    more = TrainingViews(more.originals + 20, [more.banks[0] + 20], more.labels + 20)
    both = TrainingViews(first.originals, first.banks, np.arange(40), more=more)
    feed = Feed(both, np.ones(40, "float32"), EpochSize(40, 8), 0)
    batches = list(feed.epoch(0, 0.0, Hyperparameters(augmentation="low")))
    labels = np.concatenate([batch.targets.argmax(axis=1) for batch in batches])
    pixels = np.concatenate([batch.images[:, 0, 0, 0] for batch in batches])
    assert sorted(labels) == list(range(40))
    assert {int(pixel) - int(label) for label, pixel in zip(labels, pixels, strict=True)} == {0, 50, 100}


def test_an_epoch_can_show_several_views_of_each_image() -> None:
    assert sorted(label for label, _ in shown(views_per_image=3)) == sorted(list(range(20)) * 3)


def test_strengths_are_equally_likely_however_many_copies_there_are() -> None:
    views = marked_views()
    strengths = np.concatenate([views.draw(np.random.default_rng(seed))[1] for seed in range(200)])
    copies = np.concatenate([views.draw(np.random.default_rng(seed))[2] for seed in range(200)])
    assert abs(strengths.mean() - 0.5) < 0.03
    assert set(copies[strengths == 0]) == {0}
    assert abs(copies[strengths == 1].mean() - 0.5) < 0.03


def test_an_epoch_is_determined_by_seed_and_number() -> None:
    assert shown(1, seed=3) == shown(1, seed=3)
    assert shown(1, seed=3) != shown(2, seed=3)
    assert shown(1, seed=3) != shown(1, seed=4)


def test_batches_are_all_of_one_size_even_where_there_are_few_images() -> None:
    assert len(shown(batch_size=8)) == 16
    assert len(shown(batch_size=64)) == 20


@pytest.mark.parametrize(
    ("hyperparameters", "done", "shares"),
    [
        ({}, 0.0, [1 / 3, 1 / 3, 1 / 3]),
        ({"strength_mix": "mostly-original"}, 0.0, [1 / 2, 1 / 4, 1 / 4]),
        ({"strength_mix": "mostly-strong"}, 0.0, [1 / 7, 2 / 7, 4 / 7]),
        ({"curriculum": True}, 0.0, [1, 0, 0]),
        ({"curriculum": True}, 0.4, [1 / 2, 1 / 2, 0]),
        ({"curriculum": True, "strength_mix": "mostly-strong"}, 0.9, [1 / 7, 2 / 7, 4 / 7]),
    ],
)
def test_the_mix_and_the_curriculum_say_how_often_a_strength_is_drawn(
    hyperparameters: dict[str, object], done: float, shares: list[float]
) -> None:
    chosen = Hyperparameters.from_dict(dict(hyperparameters))
    assert strength_shares(chosen, 2, done).tolist() == pytest.approx(shares)
