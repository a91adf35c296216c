"""Batches for training: one view per image and epoch, gathered from memory-mapped arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrainingViews:
    """The training images and the stored augmented views a trial may draw from. Nothing is copied."""

    originals: np.ndarray
    """uint8 (n, h, w, 3)"""
    banks: Sequence[np.ndarray]
    """One array per allowed strength, each uint8 (n, copies, h, w, 3); row i descends from image i."""
    labels: np.ndarray
    """int (n,)"""

    def __len__(self) -> int:
        return len(self.labels)

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch's order, and per image the strength (0: the original, k: banks[k - 1]) and the copy to take.

        Every strength, the original included, is equally likely, and then every copy of it.
        """
        n = len(self)
        order, strength = rng.permutation(n), rng.integers(0, 1 + len(self.banks), n)
        copies = np.array([1, *(bank.shape[1] for bank in self.banks)])
        return order, strength, (rng.random(n) * copies[strength]).astype(np.int64)

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """The chosen views of these rows: uint8 (len(rows), h, w, 3)."""
        images = np.empty((len(rows), *self.originals.shape[1:]), np.uint8)
        for place, (row, level, number) in enumerate(zip(rows, strength, copy, strict=True)):
            images[place] = self.originals[row] if level == 0 else self.banks[level - 1][row, number]
        return images


def epoch_batches(
    views: TrainingViews, batch_size: int, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of one epoch, images and labels, determined by seed and epoch alone.

    All batches are of one size, since a network is traced once per shape: the images left over at the end of an
    epoch (fewer than a batch, others each time) sit it out.
    """
    order, strength, copy = views.draw(np.random.default_rng([seed, epoch]))
    size = min(batch_size, len(views))
    for start in range(0, len(order) - size + 1, size):
        rows = order[start : start + size]
        yield views.gather(rows, strength[rows], copy[rows]), views.labels[rows]


def steps_per_epoch(images: int, batch_size: int) -> int:
    return max(1, images // batch_size)
