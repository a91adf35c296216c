"""Confidence intervals of metrics by bootstrapping images, and the confidence interval of a difference."""

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
    """Metrics of each bootstrap resample, float64."""

    accuracy: np.ndarray
    """(resamples,)."""
    macro_recall: np.ndarray
    """(resamples,). Equals balanced accuracy if every class has images."""
    macro_f1: np.ndarray
    """(resamples,)."""
    class_f1: np.ndarray
    """(resamples, classes). NaN where a class has images but none of them was drawn."""

    def intervals(self) -> dict[str, list[float]]:
        """Return the confidence interval [low, high] of each metric in BOOTSTRAPPED."""
        return {name: interval(getattr(self, name)) for name in BOOTSTRAPPED}


@dataclass(frozen=True)
class Resampling:
    """Bootstrap resamples of images, drawn with replacement within each class.

    The same seed, labels and groups give the same resamples. Images are drawn, not views, because views of an image
    resemble each other. Images of a group, such as near copies or images of one patient, resemble each other too: where
    groups are known, whole groups are drawn (Davison & Hinkley 1997, section 3.8), each within the class of its first
    image. Resampling is done within classes because the split is stratified too, and so that a small class is never
    absent (Efron & Tibshirani 1993, chapters 8 and 13).

    Attributes:
        labels: int (n,), 0 <= label < classes.
        classes: Number of classes.
        resamples: Number of resamples.
        seed: Seed of the random draws.
        groups: int (n,): images with the same number belong together.  [default: no groups]
    """

    labels: np.ndarray
    classes: int
    resamples: int = RESAMPLES
    seed: int = 0
    groups: np.ndarray | None = None

    @cached_property
    def counts(self) -> np.ndarray:
        """float64 (resamples, n): how often each image was drawn for each resample."""
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
        """Return the metrics of each resample, as metrics.py defines them: a class without hits has an F1 of 0.

        Args:
            guesses: int (n,) or (n, views), the predicted classes.
            views: bool of the same shape, True for the views to count.  [default: all]
            present: Average over the classes of the counted views only, not over all classes.
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
        # A class that occurs in few groups may be absent from a resample, which then leaves it out of the means.
        missing = (true == 0) & np.isin(np.arange(self.classes), truth)
        counted = ~missing & (np.isin(np.arange(self.classes), truth) if present else True)
        number = np.maximum(1, counted.sum(axis=1))
        macro_recall, macro_f1 = ((values * counted).sum(axis=1) / number for values in (recall, class_f1))
        return Resampled(accuracy, macro_recall, macro_f1, np.where(missing, np.nan, class_f1))

    def _per_class(self, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Count the views of each class, (resamples, classes): view i is of image rows[i] and class classes[i]."""
        shape = (len(self.labels), self.classes)
        per_image = csr_array((np.ones(len(rows)), (rows, classes)), shape=shape)
        result: np.ndarray = self.counts @ per_image
        return result


def interval(values: np.ndarray, level: float = LEVEL) -> list[float]:
    """Return the percentile interval [low, high] of bootstrapped values (resamples,). NaN values are ignored."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def difference_interval(
    first: float, first_interval: Sequence[float], second: float, second_interval: Sequence[float]
) -> list[float]:
    """Return the confidence interval [low, high] of `first - second`, for metrics measured on different images.

    Needs only the two values and their intervals, which are stored with the metrics (Zou & Donner 2008, Statistics in
    Medicine 27, eq. 6).
    """
    difference = first - second
    low = difference - hypot(first - first_interval[0], second_interval[1] - second)
    high = difference + hypot(first_interval[1] - first, second - second_interval[0])
    return [low, high]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return result
