"""What becomes of a batch on its way to the network."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from models.feeding.batch_changes import Batch, change, cutmix, flip, mask, mixup, shift_channels
from models.hyperparameters import Hyperparameters

ALL = {"flips": True, "masks": 0.5, "channel_shift": 0.1, "mixing": "cutmix+mixup", "label_smoothing": 0.1}


def batch(count: int = 12) -> Batch:
    images, labels = tiny_images(count)
    weights = np.array([0.5, 1.0, 2.0], "float32")
    return Batch(images, np.eye(CLASSES, dtype="float32")[labels], weights[labels])


def changed(seed: int = 0, **hyperparameters: object) -> Batch:
    return change(batch(), Hyperparameters.from_dict(hyperparameters), np.random.default_rng(seed))


@pytest.mark.parametrize("hyperparameters", [{name: value} for name, value in ALL.items()] + [ALL])
def test_a_change_keeps_shapes_types_and_sums_and_repeats_with_its_seed(hyperparameters: dict[str, object]) -> None:
    results = [changed(seed, **hyperparameters) for seed in range(8)]
    for result in results:
        assert (result.images.dtype, result.images.shape) == (np.uint8, (12, 32, 32, 3))
        assert result.targets.dtype == result.weights.dtype == np.float32
        np.testing.assert_allclose(result.targets.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(results[3].images, changed(3, **hyperparameters).images)
    differs = [
        (result.images != batch().images).any() or (result.targets != batch().targets).any() for result in results
    ]
    assert any(differs)


def test_without_a_change_the_batch_is_as_it_was() -> None:
    result = changed()
    np.testing.assert_array_equal(result.images, batch().images)
    np.testing.assert_array_equal(result.targets, batch().targets)


def test_flips_move_pixels_and_change_none() -> None:
    images = batch(30).images
    flipped = flip(images, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(flipped.reshape(30, -1)), np.sort(images.reshape(30, -1)))
    assert len({tuple(image[0, 0]) == tuple(other[0, 0]) for image, other in zip(images, flipped, strict=True)}) == 2
    wide = images[:, :20]
    assert flip(wide, np.random.default_rng(0)).shape == wide.shape


def test_a_channel_shift_moves_each_channel_as_a_whole_and_not_too_far() -> None:
    grey = np.full((6, 4, 4, 3), 128, np.uint8)
    shifts = shift_channels(grey, 0.1, np.random.default_rng(0)).astype(int) - 128
    assert (np.ptp(shifts, axis=(1, 2)) == 0).all()
    assert 5 < abs(shifts).max() <= 26
    assert len(np.unique(shifts[:, 0, 0])) > 6
    ramp = np.tile(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), (6, 1, 1, 3))
    shifted = shift_channels(ramp, 0.1, np.random.default_rng(0))
    np.testing.assert_array_equal(shifted, np.clip(ramp + shifts[:, :1, :1], 0, 255))


def test_masks_cover_a_part_of_that_share_of_the_images() -> None:
    images = np.tile(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), (200, 1, 1, 3))
    covered = (mask(images, 0.5, np.random.default_rng(0)) != images).any(axis=3).mean(axis=(1, 2))
    assert 0.35 < (covered > 0).mean() < 0.65
    assert covered.max() < 0.5


@pytest.mark.parametrize("mixer", [mixup, cutmix])
def test_mixing_gives_labels_and_weights_the_share_that_pixels_have(mixer: object) -> None:
    black_and_white = np.zeros((2, 8, 8, 3), np.uint8)
    black_and_white[1] = 255
    two = Batch(black_and_white, np.eye(2, dtype="float32"), np.array([1.0, 3.0], "float32"))
    for seed in range(10):
        mixed = mixer(two, np.random.default_rng(seed))  # type: ignore[operator]
        white = mixed.images.mean(axis=(1, 2, 3)) / 255
        # Cross-entropy is linear in the targets: each label counts by its image's weight and share of the pixels.
        np.testing.assert_allclose(mixed.weights * mixed.targets[:, 1], 3 * white, atol=0.03)
        np.testing.assert_allclose(mixed.weights * mixed.targets[:, 0], 1 - white, atol=0.01)
        np.testing.assert_allclose(mixed.targets.sum(axis=1), 1, atol=1e-6)


def test_label_smoothing_spreads_its_share_over_all_classes() -> None:
    targets = changed(label_smoothing=0.3).targets
    np.testing.assert_allclose(np.sort(targets, axis=1), [[0.1, 0.1, 0.8]] * 12, atol=1e-6)
