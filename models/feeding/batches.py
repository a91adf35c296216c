"""Training batches: views of the training images, read from memory-mapped arrays and augmented at random."""

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
"""Steps whose input is prepared together: enough to fill large batches, few enough for a quick first step."""

# Name -> function from the number of augmentation strengths (the original included) to one draw weight for each.
# To add one: a row here, and its name in models/hyperparameters.py.
MIXES: dict[str, Callable[[int], np.ndarray]] = {
    "equal": lambda count: np.ones(count),
    "mostly-original": lambda count: np.array([max(1, count - 1), *[1] * (count - 1)], float),
    "mostly-strong": lambda count: 2.0 ** np.arange(count),
}


@dataclass(frozen=True)
class TrainingViews:
    """The training images and the stored augmented views that a trial may draw from. Nothing is copied."""

    originals: np.ndarray
    """uint8 (n, h, w, 3)."""
    banks: Sequence[np.ndarray]
    """Augmented views: one array per augmentation strength, uint8 (n, copies, h, w, 3). Row i shows image i."""
    labels: np.ndarray
    """int (n,), followed by the labels of `more`."""
    rows: np.ndarray | None = None
    """int (k,): indices of the images to train on.  [default: all]"""
    names: Sequence[str] = ()
    """Names of the strengths of `banks`; required when features of the views are cached."""
    more: TrainingViews | None = None
    """Further images, counted after these, with the same number of banks and of copies in each."""

    def __len__(self) -> int:
        return len(self.labels if self.rows is None else self.rows)

    def draw(
        self, rng: np.random.Generator, views_per_image: int = 1, shares: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the views of an epoch, in training order.

        Args:
            rng: Source of the random draws.
            views_per_image: Views drawn of each image.
            shares: float (1 + banks,), the probability of each strength, sums to 1.  [default: all equal]

        Returns:
            Three int arrays with one entry per view: the image's row, the strength (0: the original, k: banks[k - 1])
            and the number of the copy in that bank.
        """
        n = len(self) * views_per_image
        places = rng.permutation(n) % len(self)
        rows = places if self.rows is None else self.rows[places]
        strength = rng.choice(1 + len(self.banks), n, p=shares)
        copies = np.array([1, *(bank.shape[1] for bank in self.banks)])
        return rows, strength, (rng.random(n) * copies[strength]).astype(np.int64)

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None:
        """Start reading views from disk that will be gathered soon. Arguments as `draw` returns them."""
        if self.more is not None:
            later = rows >= len(self.originals)
            self.more.ready(rows[later] - len(self.originals), strength[later], copy[later])
            rows, strength, copy = rows[~later], strength[~later], copy[~later]
        read_ahead(self.originals, rows[strength == 0])
        for level, bank in enumerate(self.banks, 1):
            read_ahead(bank, rows[strength == level], copy[strength == level])

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray:
        """Return the images of these views, uint8 (len(rows), h, w, 3). Arguments as `draw` returns them."""
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
    """Source of a network's input for each view: the images, or the output of the frozen layers for them.

    Arguments of both methods as `TrainingViews.draw` returns them.
    """

    def ready(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> None: ...

    def gather(self, rows: np.ndarray, strength: np.ndarray, copy: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Feed:
    """The batches of a trial. Seed and epoch number alone determine the batches of an epoch."""

    views: TrainingViews
    class_weights: np.ndarray
    """float32 (classes,): weight of each class in the loss."""
    size: EpochSize
    seed: int

    def epoch(
        self, number: int, done: float, hyperparameters: Hyperparameters, source: ViewSource | None = None
    ) -> Iterator[Batch]:
        """Yield the batches of one epoch.

        Args:
            number: Number of the epoch in the trial, from 0.
            done: Share of the phase's epochs that are finished, 0..1.
            hyperparameters: Augmentations of the batches.
            source: Source of the views.  [default: their images]
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
    """Return the probability that a view is the original or comes from each bank, float (1 + banks,), sums to 1.

    Args:
        hyperparameters: Decide the mix and whether there is a curriculum.
        banks: Number of augmentation strengths besides the original.
        done: Share of the phase's epochs that are finished, 0..1.
    """
    shares = MIXES[hyperparameters.strength_mix](1 + banks)
    if hyperparameters.curriculum:  # originals only at first, then one more strength after each equal part of the phase
        shares = shares * (np.arange(1 + banks) <= math.floor(done * (1 + banks)))
    result: np.ndarray = shares / shares.sum()
    return result
