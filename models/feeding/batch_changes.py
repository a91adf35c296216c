"""Random changes to a batch of images on its way to the network: cheap ones, in NumPy, drawn anew each time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.hyperparameters import Hyperparameters

MIXED_SHARE = 0.5  # of the batches: the network must see whole images too
MIXUP_ALPHA, CUTMIX_ALPHA = 0.2, 1.0  # of the Beta distributions, as Zhang et al. 2018 and Yun et al. 2019 have them
MASKED_AREA = (0.05, 0.25)  # of the image, for a rectangle (cut-out, DeVries & Taylor 2017)
GRID_CELLS = (3, 6)  # across the image, half of each covered per side (GridMask, Chen et al. 2020)


@dataclass(frozen=True)
class Batch:
    """What a training step is given."""

    images: np.ndarray
    """uint8 (b, h, w, 3), or float32 (b, ...) where the network is trained on features"""
    targets: np.ndarray
    """float32 (b, classes), rows summing to 1"""
    weights: np.ndarray
    """float32 (b,): what each image counts in the loss."""


def change(batch: Batch, hyperparameters: Hyperparameters, rng: np.random.Generator) -> Batch:
    """The batch as these hyperparameters want it changed: flips, masks, channel shift, mixing, label smoothing."""
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
    """Each image mirrored or not, and turned by a multiple of 90 degrees (of 180 where it is not square)."""
    square = images.shape[1] == images.shape[2]
    turns = rng.integers(0, 4, len(images)) if square else 2 * rng.integers(0, 2, len(images))
    mirrored = rng.random(len(images)) < 0.5
    result = np.empty_like(images)
    for place, image in enumerate(images):
        turned = np.rot90(image, turns[place])
        turned = turned[:, ::-1] if mirrored[place] else turned
        for channel in range(images.shape[3]):  # NumPy turns planes sooner than pixels
            result[place, ..., channel] = turned[..., channel]
    return result


def shift_channels(images: np.ndarray, largest: float, rng: np.random.Generator) -> np.ndarray:
    """Adds to each channel of each image a number of its own, up to `largest` of the full range, within 0..255."""
    count, height, width, channels = images.shape
    shifts = rng.integers(-round(255 * largest), round(255 * largest) + 1, (count, 1, 1, channels), dtype=np.int16)
    # Whole rows, in uint8 all the way: NumPy is slow along an axis of three.
    along_row = np.tile(shifts.reshape(count, 1, channels), width)
    up, down = (np.maximum(part, 0).astype(np.uint8) for part in (along_row, -along_row))
    brighter = np.minimum(images.reshape(count, height, -1), 255 - up) + up
    result: np.ndarray = np.maximum(brighter, down) - down
    return result.reshape(images.shape)


def mask(images: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Covers a rectangle or a grid of squares, in one grey, in this share of the images."""
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
    """Each image blended with another one of the batch, labels and weights alike (Zhang et al. 2018)."""
    kept, other = float(rng.beta(MIXUP_ALPHA, MIXUP_ALPHA)), rng.permutation(len(batch.images))
    blended = batch.images * np.float32(kept) + batch.images[other] * np.float32(1 - kept)
    return _shared(batch, np.rint(blended).astype(np.uint8), kept, other)


def cutmix(batch: Batch, rng: np.random.Generator) -> Batch:
    """A rectangle of each image replaced by that of another, labels and weights by its share of the area (Yun et al.
    2019)."""
    height, width = batch.images.shape[1:3]
    other = rng.permutation(len(batch.images))
    top, left, bottom, right = _rectangle(height, width, 1 - rng.beta(CUTMIX_ALPHA, CUTMIX_ALPHA), rng)
    images = batch.images.copy()
    images[:, top:bottom, left:right] = batch.images[other, top:bottom, left:right]
    return _shared(batch, images, 1 - (bottom - top) * (right - left) / (height * width), other)


MIXERS = {"mixup": mixup, "cutmix": cutmix}


def _shared(batch: Batch, images: np.ndarray, kept: float, other: np.ndarray) -> Batch:
    """The loss is that of both labels, each with its own image's weight: cross-entropy is linear in the targets."""
    first, second = kept * batch.weights, (1 - kept) * batch.weights[other]
    weights = first + second
    share = (first / weights)[:, None]
    targets = share * batch.targets + (1 - share) * batch.targets[other]
    return Batch(images, targets.astype("float32"), weights.astype("float32"))


def _rectangle(height: int, width: int, area: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a rectangle of the image's shape and about this share of its area, inside it."""
    side = np.sqrt(area)
    tall, wide = round(height * side), round(width * side)
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    return int(top), int(left), int(top + tall), int(left + wide)


def _grid(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """bool (height, width): squares at the crossings of a grid, a quarter of the area."""
    cell = max(2, max(height, width) // int(rng.integers(GRID_CELLS[0], GRID_CELLS[1] + 1)))
    row, column = rng.integers(0, cell, 2)
    rows, columns = (np.arange(height) + row) % cell < cell / 2, (np.arange(width) + column) % cell < cell / 2
    covered: np.ndarray = rows[:, None] & columns[None, :]
    return covered
