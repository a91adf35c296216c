"""Which view of which image an epoch shows."""

from __future__ import annotations

import numpy as np

from models.feeding import TrainingViews, epoch_batches


def marked_views(copies: int = 2) -> TrainingViews:
    """Image i is filled with i; its view of strength s and copy c with i + 50 s + 100 (c - ...) told apart by value."""
    n = 20
    originals = np.zeros((n, 2, 2, 3), np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None, None]
    bank = np.stack([originals + 50 * (1 + copy) for copy in range(copies)], axis=1)
    return TrainingViews(originals, [bank], np.arange(n))


def test_every_image_is_shown_once_an_epoch_as_one_of_its_own_views() -> None:
    shown: list[int] = []
    for images, labels in epoch_batches(marked_views(), 5, seed=0, epoch=0):
        assert images.shape == (5, 2, 2, 3)
        assert images.dtype == np.uint8
        assert {int(pixel - label) for pixel, label in zip(images[:, 0, 0, 0], labels, strict=True)} <= {0, 50, 100}
        shown += labels.tolist()
    assert sorted(shown) == list(range(20))


def test_strengths_are_equally_likely_however_many_copies_there_are() -> None:
    views = marked_views()
    strengths = np.concatenate([views.draw(np.random.default_rng(seed))[1] for seed in range(200)])
    copies = np.concatenate([views.draw(np.random.default_rng(seed))[2] for seed in range(200)])
    assert abs(strengths.mean() - 0.5) < 0.03
    assert set(copies[strengths == 0]) == {0}
    assert abs(copies[strengths == 1].mean() - 0.5) < 0.03


def test_an_epoch_is_determined_by_seed_and_number() -> None:
    def epoch(seed: int, number: int) -> np.ndarray:
        return np.concatenate([images for images, _ in epoch_batches(marked_views(), 5, seed, number)])

    np.testing.assert_array_equal(epoch(3, 1), epoch(3, 1))
    assert (epoch(3, 1) != epoch(3, 2)).any()
    assert (epoch(3, 1) != epoch(4, 1)).any()


def test_batches_are_all_of_one_size_even_where_there_are_few_images() -> None:
    assert [len(labels) for _, labels in epoch_batches(marked_views(), 8, 0, 0)] == [8, 8]
    assert [len(labels) for _, labels in epoch_batches(marked_views(), 64, 0, 0)] == [20]
