"""Batches for training: views of the training images, gathered from memory-mapped arrays, then changed at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.batch_changes import Batch, change
from models.hyperparameters import Hyperparameters

# Name -> function from the number of strengths, the original included, to how often each is drawn, up to a factor.
# To add one: a row here, and its name in models/hyperparameters.py.
MIXES: dict[str, Callable[[int], np.ndarray]] = {
    "equal": lambda count: np.ones(count),
    "mostly-original": lambda count: np.array([max(1, count - 1), *[1] * (count - 1)], float),
    "mostly-strong": lambda count: 2.0 ** np.arange(count),
}


@dataclass(frozen=True)
class TrainingViews:
    """The training images and the stored augmented views a trial may draw from. Nothing is copied."""

    originals: np.ndarray
    """uint8 (n, h, w, 3)"""
    banks: Sequence[np.ndarray]
    """One array per allowed strength, each uint8 (n, copies, h, w, 3); row i descends from image i."""
    labels: np.ndarray
    """int (n,)"""
    rows: np.ndarray | None = None
    """int (k,): the images that take part, all of them where it is not given"""

    def __len__(self) -> int:
        return len(self.labels if self.rows is None else self.rows)

    def draw(
        self, rng: np.random.Generator, views_per_image: int = 1, shares: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch's views in order: per view the image, the strength (0: the original, k: banks[k - 1]) and the copy.

        Args:
            shares: how often each strength is drawn, summing to 1; equally where it is not given.
        """
        n = len(self) * views_per_image
        places = rng.permutation(n) % len(self)
        rows = places if self.rows is None else self.rows[places]
        strength = rng.choice(1 + len(self.banks), n, p=shares)
        copies = np.array([1, *(bank.shape[1] for bank in self.banks)])
        return rows, strength, (rng.random(n) * copies[strength]).astype(np.int64)

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """The chosen views of these rows: uint8 (len(rows), h, w, 3)."""
        images = np.empty((len(rows), *self.originals.shape[1:]), np.uint8)
        for place, (row, level, number) in enumerate(zip(rows, strength, copy, strict=True)):
            images[place] = self.originals[row] if level == 0 else self.banks[level - 1][row, number]
        return images


@dataclass(frozen=True)
class Feed:
    """The batches of a trial, each epoch's determined by seed and number alone."""

    views: TrainingViews
    class_weights: np.ndarray
    """float32 (classes,)"""
    hyperparameters: Hyperparameters
    batch_size: int
    seed: int

    @property
    def size(self) -> int:
        """Images a batch."""
        return min(self.batch_size, self._views_per_epoch)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self._views_per_epoch // self.size)

    @property
    def _views_per_epoch(self) -> int:
        return len(self.views) * int(self.hyperparameters.views_per_image)

    def epoch(self, number: int, done: float) -> Iterator[Batch]:
        """The batches of one epoch, when the share `done` of the phase's epochs lies behind.

        All batches are of one size, since a network is traced once per shape: the views left over at the end of an
        epoch (fewer than a batch, others each time) sit it out.
        """
        rng = np.random.default_rng([self.seed, number])
        shares = strength_shares(self.hyperparameters, len(self.views.banks), done)
        rows, strength, copy = self.views.draw(rng, int(self.hyperparameters.views_per_image), shares)
        one_hot = np.eye(len(self.class_weights), dtype="float32")
        for start in range(0, self.steps_per_epoch * self.size, self.size):
            part = slice(start, start + self.size)
            labels = self.views.labels[rows[part]]
            images = self.views.gather(rows[part], strength[part], copy[part])
            yield change(Batch(images, one_hot[labels], self.class_weights[labels]), self.hyperparameters, rng)


def strength_shares(hyperparameters: Hyperparameters, banks: int, done: float) -> np.ndarray:
    """How often the original and each of the banks is drawn when the share `done` of the epochs lies behind; sum 1."""
    shares = MIXES[hyperparameters.strength_mix](1 + banks)
    if hyperparameters.curriculum:  # one strength more at each equal step of the way; the first epochs see originals
        shares = shares * (np.arange(1 + banks) <= math.floor(done * (1 + banks)))
    result: np.ndarray = shares / shares.sum()
    return result
