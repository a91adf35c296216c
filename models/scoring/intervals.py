"""How far a figure can be trusted: bootstrap intervals over images, and the interval of a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot

import numpy as np
from scipy.sparse import csr_array

RESAMPLES = 1000
LEVEL = 0.95
BOOTSTRAPPED = ("accuracy", "macro_recall", "macro_f1")


@dataclass(frozen=True)
class Resampled:
    """Figures of each resample, float64."""

    accuracy: np.ndarray
    """(resamples,)"""
    macro_recall: np.ndarray
    """(resamples,): balanced accuracy where every class has images"""
    macro_f1: np.ndarray
    """(resamples,)"""
    class_f1: np.ndarray
    """(resamples, classes); NaN where a class that has images is in none that were drawn"""

    def intervals(self) -> dict[str, list[float]]:
        """The interval of each figure of BOOTSTRAPPED."""
        return {name: interval(getattr(self, name)) for name in BOOTSTRAPPED}


@dataclass(frozen=True)
class Resampling:
    """Draws of images with replacement, within each class; the same seed and labels give the same draws.

    Images are drawn, not views: the views of an image resemble each other. So do the images of a group, a patient's or
    near copies, and whole groups are drawn where they are known (Davison & Hinkley 1997, section 3.8), within the class
    of their first image. Within the classes, since the split is stratified too, and a small class is then never absent
    (Efron & Tibshirani 1993, chapters 8 and 13).

    Attributes:
        labels: int (n,), 0 <= label < classes.
        classes: how many there are.
        resamples: how many draws.
        seed: of the draws.
        groups: int (n,): images with the same number belong together.  [default: none do]
    """

    labels: np.ndarray
    classes: int
    resamples: int = RESAMPLES
    seed: int = 0
    groups: np.ndarray | None = None

    @cached_property
    def counts(self) -> np.ndarray:
        """float64 (resamples, n): how often an image is in a resample."""
        rng = np.random.default_rng(self.seed)
        groups = np.arange(len(self.labels)) if self.groups is None else self.groups
        _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
        drawn = np.zeros((self.resamples, len(first)))
        strata = self.labels[first]
        for label in np.unique(strata):
            members = np.flatnonzero(strata == label)
            shares = np.full(len(members), 1 / len(members))
            drawn[:, members] = rng.multinomial(len(members), shares, self.resamples)
        return drawn if self.groups is None else drawn[:, group_of]

    def figures(self, guesses: np.ndarray, views: np.ndarray | None = None, *, present: bool = False) -> Resampled:
        """The figures of each resample, by the conventions of metrics.py: a class without hits has an F1 of 0.

        Args:
            guesses: int (n,) or (n, views), the predicted classes.
            views: bool of the same shape: those to count.  [default: all]
            present: means are over the classes among those counted, not over all.
        """
        guesses = guesses.reshape(len(self.labels), -1)
        taken = np.ones(guesses.shape, bool) if views is None else views.reshape(guesses.shape)
        rows, columns = np.nonzero(taken)
        truth, guess = self.labels[rows], guesses[rows, columns]
        hit = truth == guess
        hits, predicted, true = (
            self._per_class(rows[which], classes[which])
            for which, classes in ((hit, truth), (slice(None), guess), (slice(None), truth))
        )
        recall = _ratio(hits, true)
        class_f1 = _ratio(2 * hits, predicted + true)
        accuracy = _ratio(hits.sum(axis=1), true.sum(axis=1))
        # A class that lies in few groups may be in none that were drawn: it says nothing then.
        missing = (true == 0) & np.isin(np.arange(self.classes), truth)
        counted = ~missing & (np.isin(np.arange(self.classes), truth) if present else True)
        number = np.maximum(1, counted.sum(axis=1))
        macro_recall, macro_f1 = ((values * counted).sum(axis=1) / number for values in (recall, class_f1))
        return Resampled(accuracy, macro_recall, macro_f1, np.where(missing, np.nan, class_f1))

    def _per_class(self, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """(resamples, classes): how many of the views at these rows there are per class."""
        shape = (len(self.labels), self.classes)
        per_image = csr_array((np.ones(len(rows)), (rows, classes)), shape=shape)
        result: np.ndarray = self.counts @ per_image
        return result


def interval(values: np.ndarray, level: float = LEVEL) -> list[float]:
    """[low, high]: the percentile interval of bootstrapped values (resamples,); those that are NaN tell nothing."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def difference_interval(
    first: float, first_interval: Sequence[float], second: float, second_interval: Sequence[float]
) -> list[float]:
    """[low, high] of `first - second`, of two figures on different images.

    From the two intervals alone, as stored figures have them (Zou & Donner 2008, Statistics in Medicine 27, eq. 6).
    """
    difference = first - second
    low = difference - hypot(first - first_interval[0], second_interval[1] - second)
    high = difference + hypot(first_interval[1] - first, second - second_interval[0])
    return [low, high]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result
