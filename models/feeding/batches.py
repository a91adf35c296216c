"""Batches for training: views of the training images, gathered from memory-mapped arrays, then changed at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models.feeding.batch_changes import Batch, change
from models.feeding.epoch_size import EpochSize
from models.feeding.reading_ahead import read_ahead
from models.hyperparameters import Hyperparameters

READY_STEPS = 8
"""Steps whose input is made ready at once: enough for large batches, few enough for a quick first step."""

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
    names: Sequence[str] = ()
    """Of the strengths of `banks`; needed where what is computed of them is kept."""
    more: TrainingViews | None = None
    """Images that follow, with as many views in as many banks; `labels` holds theirs too."""

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

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None:
        """Views that are soon to be gathered begin to be read."""
        if self.more is not None:
            later = rows >= len(self.originals)
            self.more.ready(rows[later] - len(self.originals), strength[later], copy[later])
            rows, strength, copy = rows[~later], strength[~later], copy[~later]
        read_ahead(self.originals, rows[strength == 0])
        for level, bank in enumerate(self.banks, 1):
            read_ahead(bank, rows[strength == level], copy[strength == level])

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """The chosen views of these rows: uint8 (len(rows), h, w, 3)."""
        images = np.empty((len(rows), *self.originals.shape[1:]), np.uint8)
        for place, (row, level, number) in enumerate(zip(rows, strength, copy, strict=True)):
            images[place] = self._view(row, level, number)
        return images

    def _view(self, row: int, level: int, number: int) -> np.ndarray:
        if self.more is not None and row >= len(self.originals):
            return self.more._view(row - len(self.originals), level, number)
        view: np.ndarray = self.originals[row] if level == 0 else self.banks[level - 1][row, number]
        return view


class ViewSource(Protocol):
    """Where a network's input of a view comes from: the images themselves, or what a frozen prefix made of them."""

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None: ...

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Feed:
    """The batches of a trial, each epoch's determined by seed and number alone."""

    views: TrainingViews
    class_weights: np.ndarray
    """float32 (classes,)"""
    size: EpochSize
    seed: int

    def epoch(
        self, number: int, done: float, hyperparameters: Hyperparameters, source: ViewSource | None = None
    ) -> Iterator[Batch]:
        """The batches of one epoch, when the share `done` of the phase's epochs lies behind.

        Args:
            source: what the views are gathered from, in place of their images.
        """
        rng = np.random.default_rng([self.seed, number])
        shares = strength_shares(hyperparameters, len(self.views.banks), done)
        size = self.size.batch_size
        views = self.views.draw(rng, int(hyperparameters.views_per_image), shares)
        drawn = [part[: self.size.trained_views] for part in views]
        one_hot = np.eye(len(self.class_weights), dtype="float32")
        source = source or self.views
        for step in range(self.size.steps):
            start = step * size
            if step % READY_STEPS == 0:
                source.ready(*(part[start : start + READY_STEPS * size] for part in drawn))
            rows, strength, copy = (part[start : start + size] for part in drawn)
            labels = self.views.labels[rows]
            batch = Batch(source.gather(rows, strength, copy), one_hot[labels], self.class_weights[labels])
            yield change(batch, hyperparameters, rng)


def strength_shares(hyperparameters: Hyperparameters, banks: int, done: float) -> np.ndarray:
    """How often the original and each of the banks is drawn when the share `done` of the epochs lies behind; sum 1."""
    shares = MIXES[hyperparameters.strength_mix](1 + banks)
    if hyperparameters.curriculum:  # one strength more at each equal step of the way; the first epochs see originals
        shares = shares * (np.arange(1 + banks) <= math.floor(done * (1 + banks)))
    result: np.ndarray = shares / shares.sum()
    return result
