"""Random augmentations of a training batch: cheap ones, computed in NumPy and drawn anew for each batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.hyperparameters import Hyperparameters

MIXED_SHARE = 0.5  # share of the batches that are mixed: the network must see unmixed images too
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0  # Beta distribution parameters (Zhang et al. 2018, Yun et al. 2019)
MASKED_AREA = (0.05, 0.25)  # share of the image that a rectangle covers (cut-out, DeVries & Taylor 2017)
GRID_CELLS = (3, 6)  # cells along the longer side, half of each covered per side (GridMask, Chen et al. 2020)


@dataclass(frozen=True)
class Batch:
    """Input of one training step."""

    images: np.ndarray
    """uint8 (b, h, w, 3), or float32 (b, ...) when the network is trained on features."""
    targets: np.ndarray
    """float32 (b, classes), each row sums to 1."""
    weights: np.ndarray
    """float32 (b,): weight of each image in the loss."""


def change(batch: Batch, hyperparameters: Hyperparameters, rng: np.random.Generator) -> Batch:
    """Return the batch with the augmentations that the hyperparameters ask for.

    They are applied in this order: flips, channel shift, masks, mixing, label smoothing.
    """
    images, h = batch.images, hyperparameters
    if h.flips:
        images = flip(images, rng)
    if h.channel_shift:
        images = shift_channels(images, h.channel_shift, rng)
    if h.masks:
        images = mask(images, h.masks, rng)
    changed = Batch(images, batch.targets, batch.weights)
    if h.mixing != "none" and rng.random() < MIXED_SHARE:
        kinds = h.mixing.split("+")
        changed = MIXERS[kinds[rng.integers(len(kinds))]](changed, rng)
    if h.label_smoothing:
        share = h.label_smoothing
        smooth = changed.targets * (1 - share) + share / changed.targets.shape[1]
        changed = Batch(changed.images, smooth.astype("float32"), changed.weights)
    return changed


def flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror each image with probability 0.5 and rotate it by a random multiple of 90 degrees (180 if not square).

    Args:
        images: uint8 (n, h, w, channels).
        rng: Source of the random draws.
    """
    square = images.shape[1] == images.shape[2]
    turns = rng.integers(0, 4, len(images)) if square else 2 * rng.integers(0, 2, len(images))
    mirrored = rng.random(len(images)) < 0.5
    result = np.empty_like(images)
    for place, image in enumerate(images):
        turned = np.rot90(image, turns[place])
        turned = turned[:, ::-1] if mirrored[place] else turned
        for channel in range(images.shape[3]):  # NumPy copies rotated planes faster than rotated pixels
            result[place, ..., channel] = turned[..., channel]
    return result


def shift_channels(images: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
    """Shift each channel of each image by a random number and clip the result to 0..255.

    Args:
        images: uint8 (n, h, w, channels).
        largest: Largest shift up or down, as a share of the full range, 0..1.
        rng: Source of the random draws.
    """
    count, height, width, channels = images.shape
    shifts = rng.integers(-round(255 * largest), round(255 * largest) + 1, (count, 1, 1, channels), dtype=np.int16)
    # Computed on whole rows and in uint8 only, because NumPy is slow along an axis of length 3.
    along_row = np.tile(shifts.reshape(count, 1, channels), width)
    up, down = (np.maximum(part, 0).astype(np.uint8) for part in (along_row, -along_row))
    brighter = np.minimum(images.reshape(count, height, -1), 255 - up) + up
    result: np.ndarray = np.maximum(brighter, down) - down
    return result.reshape(images.shape)


def mask(images: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Cover a random rectangle or grid of squares with one grey value.

    Args:
        images: uint8 (n, h, w, channels).
        share: Probability, 0..1, that an image is masked.
        rng: Source of the random draws.
    """
    height, width = images.shape[1:3]
    result = images.copy()
    for place in np.flatnonzero(rng.random(len(images)) < share):
        grey = rng.integers(0, 256)
        if rng.random() < 0.5:
            top, left, bottom, right = _rectangle(height, width, rng.uniform(*MASKED_AREA), rng)
            result[place, top:bottom, left:right] = grey
        else:
            result[place, _grid(height, width, rng)] = grey
    return result


def mixup(batch: Batch, rng: np.random.Generator) -> Batch:
    """Blend each image with another image of the batch, and their labels and weights too (Zhang et al. 2018)."""
    kept, other = float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA)), rng.permutation(len(batch.images))
    blended = batch.images * np.float32(kept) + batch.images[other] * np.float32(1 - kept)
    return _shared(batch, np.rint(blended).astype(np.uint8), kept, other)


def cutmix(batch: Batch, rng: np.random.Generator) -> Batch:
    """Replace a rectangle of each image by the same rectangle of another image of the batch (Yun et al. 2019).

    Labels and weights are mixed by the rectangle's share of the area.
    """
    height, width = batch.images.shape[1:3]
    other = rng.permutation(len(batch.images))
    top, left, bottom, right = _rectangle(height, width, 1 - rng.beta(CUTMIX_ALPHA, CUTMIX_ALPHA), rng)
    images = batch.images.copy()
    images[:, top:bottom, left:right] = batch.images[other, top:bottom, left:right]
    return _shared(batch, images, 1 - (bottom - top) * (right - left) / (height * width), other)


MIXERS = {"mixup": mixup, "cutmix": cutmix}


def _shared(batch: Batch, images: np.ndarray, kept: float, other: np.ndarray) -> Batch:
    """Mix targets and weights so that the loss is the weighted sum of both labels' losses.

    This works because cross-entropy is linear in the targets.
    """
    first, second = kept * batch.weights, (1 - kept) * batch.weights[other]
    weights = first + second
    share = (first / weights)[:, None]
    targets = share * batch.targets + (1 - share) * batch.targets[other]
    return Batch(images, targets.astype("float32"), weights.astype("float32"))


def _rectangle(height: int, width: int, area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right of a random rectangle with the image's proportions and about this share of it."""
    side = np.sqrt(area)
    tall, wide = round(height * side), round(width * side)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    return int(top), int(left), int(top + tall), int(left + wide)


def _grid(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return bool (height, width): one covered square in each cell of a grid, together a quarter of the area."""
    cell = max(2, max(height, width) // int(rng.integers(GRID_CELLS[0], GRID_CELLS[1] + 1)))
    row, column = rng.integers(0, cell, 2)
    rows, columns = (np.arange(height) + row) % cell < cell / 2, (np.arange(width) + column) % cell < cell / 2
    covered: np.ndarray = rows[:, None] & columns[None, :]
    return covered
