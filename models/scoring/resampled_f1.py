"""Macro-F1 of bootstrap resamples for the many trials of a study: as Resampling.figures, but many times faster."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from models.scoring.intervals import Resampling


class ResampledF1:
    """Macro-F1 of each bootstrap resample, on several sets of views at once.

    Only a trial's wrong predictions are counted: the right ones follow from them, and most are right. Counts are exact,
    in the smallest integers that hold them, because most of the time is spent on moving them through memory.

    Args:
        resampling: The resamples, and the labels (n,) of the images.
        sets: One bool (n, views) per set, True for its views. Sets may overlap.
        resamples: Number of resamples to use, from the first.  [default: all]
    """

    def __init__(self, resampling: Resampling, sets: Sequence[np.ndarray], resamples: int | None = None) -> None:
        self.labels, self.classes = resampling.labels, resampling.classes
        most = int(resampling.counts.sum(axis=1).max()) * sets[0].shape[1]
        largest = 3 * most  # limit of `below` in `of`: the views of a class twice, and the views mistaken for it
        self._dtype = np.min_scalar_type(-largest)
        self._counts = np.ascontiguousarray(resampling.counts[:resamples].T, self._dtype)
        # Views that belong to the same sets form one kind, so that each view is counted once and not per set.
        kinds, kind_of = np.unique(np.stack([taken.ravel() for taken in sets]), axis=1, return_inverse=True)
        self._kinds_in_set = csr_array(kinds.astype(self._dtype))
        self._kind_of = kind_of.reshape(sets[0].shape)
        every = np.ones((1, *sets[0].shape), bool)
        self._true = self._drawn(every, self._truth((1, *every.shape)))[:, 0]
        self._present = np.maximum(1, (self._true > 0).sum(axis=2))

    def of(self, guesses: np.ndarray) -> np.ndarray:
        """Return macro-F1, float64 (sets, trials, resamples), averaged over the classes present in each resample.

        A class without hits has an F1 of 0, as in `Resampling.figures`.

        Args:
            guesses: int (trials, n, views), the predicted classes. Pass a few trials at a time: one matrix product per
                trial takes as long to set up as to compute, and one for all trials needs much memory.
        """
        truth = self._truth(guesses.shape)
        wrong = self._drawn(guesses != truth, np.stack([truth, guesses]))
        missed, taken_for_it = wrong[:, 0], wrong[:, 1]
        hits = self._true - missed
        below = hits + taken_for_it + self._true
        class_f1 = np.divide(2 * hits, below, out=np.zeros(hits.shape), where=below > 0, dtype=np.float64)
        class_f1[np.broadcast_to(self._true == 0, class_f1.shape)] = 0.0
        result: np.ndarray = class_f1.sum(axis=2) / self._present
        return result

    def _truth(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(self.labels[:, None], shape)

    def _drawn(self, which: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Count how often each resample draws the views `which`, bool (trials, n, views), in each class.

        `classes` (m, trials, n, views) are m ways to assign the views to classes.
        Returns (sets, m, trials, classes, resamples).
        """
        trials, images, views = np.nonzero(which)
        bins = (self._kinds_in_set.shape[1], *classes.shape[:2], self.classes)
        ways = np.arange(len(classes))[:, None]
        indices: Any = (self._kind_of[images, views], ways, trials, classes[:, which])
        places: np.ndarray = np.ravel_multi_index(indices, bins)
        columns = np.broadcast_to(images, places.shape)
        ones = np.ones(places.size, self._dtype)
        views_in_bin = csr_array((ones, (places.ravel(), columns.ravel())), shape=(prod(bins), len(self.labels)))
        by_kind = (views_in_bin @ self._counts).reshape(bins[0], -1)
        result: np.ndarray = self._kinds_in_set @ by_kind
        return result.reshape(-1, *bins[1:], self._counts.shape[1])
