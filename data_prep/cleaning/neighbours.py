"""Which pictures to compare: nearest neighbours by averaged features, which turning and mirroring do not change."""

from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.cleaning.keypoints import MIRRORED, Keypoints

_WORDS, _VALUES, _KEPT = 32, 24, 192  # clusters, values per cluster, values of a picture's features
_SAMPLE = 20_000  # descriptors from which clusters are learnt
_ROWS = 1024  # pictures whose neighbours are found at a time
_UPPER_HALF = np.arange(64)


def features(found: Keypoints) -> np.ndarray:
    """Return the averaged features of each picture, float32 (n, values) of length 1, or 0 without keypoints.

    Descriptors are made indifferent to mirroring, and each counts for the nearest of the set's own clusters, by what it
    differs from the cluster's centre (VLAD: Jégou and others, 2010).
    """
    if not len(found.places):
        return np.zeros((len(found.sizes), 1), np.float32)
    generator = np.random.default_rng(0)
    drawn = np.sort(generator.permutation(len(found.descriptors))[:_SAMPLE])
    sample = _indifferent(found.descriptors[drawn])
    mean = sample.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((sample - mean).T) if len(sample) > 1 else np.eye(sample.shape[1]))
    axes = np.ascontiguousarray(axes[:, ::-1][:, :_VALUES], np.float32)
    centres = _clusters((sample - mean) @ axes)
    counts = found.counts
    rows = np.zeros((len(counts), len(centres) * _VALUES), np.float32)
    for start in range(0, len(counts), _ROWS):
        part = slice(found.starts[start], found.starts[min(start + _ROWS, len(counts))])
        low = (_indifferent(found.descriptors[part]) - mean) @ axes
        rows[start : start + _ROWS] = _averaged(low, counts[start : start + _ROWS], centres)
    rows -= rows[counts > 0].mean(axis=0)
    if rows.shape[1] > _KEPT:
        _, axes = np.linalg.eigh(rows.T @ rows)
        rows = rows @ np.ascontiguousarray(axes[:, ::-1][:, :_KEPT])
    rows[counts == 0] = 0
    return _of_length_one(rows)


def nearest(rows: np.ndarray, others: np.ndarray, count: int, least: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the indices of each row's nearest neighbours among `others`, nearest first, as (row, int64 (count,)).

    Args:
        rows: float32 (n, values) of length 1.
        others: float32 (m, values) of length 1. A row may be its own neighbour.
        count: number of neighbours.
        least: least cosine of a neighbour, so that there may be fewer.
    """
    count = min(count, len(others))
    for start in range(0, len(rows), _ROWS):
        likeness = rows[start : start + _ROWS] @ others.T
        near = np.argpartition(-likeness, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(likeness, near, axis=1), axis=1, kind="stable")
        sorted_near = np.take_along_axis(near, order, axis=1)
        alike = np.take_along_axis(likeness, sorted_near, axis=1) >= least
        for place, (found, good) in enumerate(zip(sorted_near, alike, strict=True)):
            yield start + place, found[good]


def _indifferent(descriptors: np.ndarray) -> np.ndarray:
    """Return descriptors, uint8 (k, 128), as float32 (k, 128) that are the same for a place and its mirror image."""
    own = descriptors[:, _UPPER_HALF].astype(np.float32)
    mirrored = descriptors[:, MIRRORED[_UPPER_HALF]].astype(np.float32)
    return np.concatenate([own + mirrored, np.abs(own - mirrored)], axis=1)


def _clusters(sample: np.ndarray) -> np.ndarray:
    cv2.setRNGSeed(0)
    rules = (cv2.TERM_CRITERIA_MAX_ITER + cv2.TERM_CRITERIA_EPS, 10, 1e-3)
    count = max(1, min(_WORDS, len(sample) // 8))
    labels = np.zeros((len(sample), 1), np.int32)
    return np.asarray(cv2.kmeans(sample.astype(np.float32), count, labels, rules, 1, cv2.KMEANS_PP_CENTERS)[2])


def _averaged(low: np.ndarray, counts: np.ndarray, centres: np.ndarray) -> np.ndarray:
    words = (low @ centres.T - 0.5 * (centres**2).sum(axis=1)).argmax(axis=1)
    cells = np.repeat(np.arange(len(counts)), counts) * len(centres) + words
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    sums = np.zeros((len(counts) * len(centres), low.shape[1]), np.float32)
    if len(starts):
        sums[cells[order][starts]] = np.add.reduceat((low - centres[words])[order], starts, axis=0)
    return _of_length_one(_of_length_one(sums).reshape(len(counts), -1))


def _of_length_one(rows: np.ndarray) -> np.ndarray:
    result: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return result
