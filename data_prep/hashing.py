"""Which images are the same picture: perceptual hashes suggest, pixels confirm.

A copy has pHash distance 0 and a mean pixel difference under 2 grey levels; a near copy has distance 4 or less and a
mean difference under 12. On the blood cells, distance 4 joins one pair of different cells at most, 8 joins 166.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fftpack
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

from data_prep.progress import Progress, Silent

COPY_DISTANCE = 0
COPY_DIFFERENCE = 2.0
NEAR_DISTANCE = 4
NEAR_DIFFERENCE = 12.0

_BATCH = 256  # images hashed at a time
_COMPARED = 2**19  # pairs of hashes compared at a time: about 20 MB
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def phashes(images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Perceptual hashes (signs of the 8x8 lowest frequencies of a 32x32 cosine transform, against their median).

    Bit for bit those of imagehash.phash, a batch at a time; Pillow's part of the work runs in a thread a core.

    Args:
        images: uint8 (n, h, w, 3).
        progress: advanced by the images done.

    Returns:
        uint64 (n,), 64 bits an image.
    """
    progress = progress or Silent()
    hashes = np.empty(len(images), np.uint64)
    starts = range(0, len(images), _BATCH)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda start: _phashes(images[start : start + _BATCH]), starts)
        for start, batch in zip(starts, done, strict=True):
            hashes[start : start + _BATCH] = batch
            progress.advance(len(batch))
    return hashes


def _phashes(images: np.ndarray) -> np.ndarray:
    small = np.stack([np.asarray(_shrunk(image)) for image in images])
    rows = scipy.fftpack.dct(small, axis=1)[:, :8]
    low = scipy.fftpack.dct(rows, axis=2)[:, :, :8].reshape(-1, 64)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0]


def _shrunk(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).convert("L").resize((32, 32), Image.Resampling.LANCZOS)


def mean_difference(image: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference over pixels and channels, in grey levels 0..255."""
    return float(np.abs(image.astype(np.int16) - other).mean())


def linked(
    images: np.ndarray, hashes: np.ndarray, distance: int, difference: float, among: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Pairs i < j with a hash distance of at most `distance` and a mean difference under `difference`: enough of them
    to join all that are, directly or through others. A thousand frames of a fixed camera are all near one another, and
    to compare each with each would never end.

    Args:
        images: uint8 (n, h, w, 3).
        hashes: uint64 (n,), theirs.
        among: indices (m,) to look at; the pairs are places in it.
    """
    joined = DisjointSet(range(len(among)))
    group = np.arange(len(among))
    for near in _near(hashes[among], hashes[among], distance):
        apart = near[(near[:, 0] < near[:, 1]) & (group[near[:, 0]] != group[near[:, 1]])]
        for first, second in apart.tolist():
            if joined.connected(first, second):
                continue
            if mean_difference(images[among[first]], images[among[second]]) < difference:
                joined.merge(first, second)
                yield first, second
        if len(apart):
            group = np.array([joined[place] for place in range(len(among))])


def matches(
    images: tuple[np.ndarray, np.ndarray], hashes: tuple[np.ndarray, np.ndarray], distance: int, difference: float
) -> Iterator[tuple[int, int]]:
    """Pairs (i in the first, j in the second) of two sets of images, by the same rule as `linked`, all of them.

    Args:
        images: uint8 (n, h, w, 3) and (m, h, w, 3).
        hashes: uint64 (n,) and (m,), theirs.
    """
    for near in _near(*hashes, distance):
        for first, second in near.tolist():
            if mean_difference(images[0][first], images[1][second]) < difference:
                yield first, second


def _near(hashes: np.ndarray, others: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Pairs of places in uint64 (n,) and (m,) at most `distance` bits apart: int64 (k, 2) at a time, in rising order.

    The bits are dealt into distance + 1 parts. Hashes that near are equal in one of them (pigeonhole principle), so
    that only those which share a part are compared.
    """
    parts = [np.bitwise_or.reduce(_BITS[at :: distance + 1]) for at in range(distance + 1)]
    tables = [_sharing(hashes & part, others & part) for part in parts]
    load = np.cumsum(np.sum([stop - start for _, start, stop in tables], axis=0)) // _COMPARED
    for rows in np.split(np.arange(len(hashes)), np.flatnonzero(np.diff(load)) + 1):
        found = []
        for order, start, stop in tables:
            counts = stop[rows] - start[rows]
            ends = np.cumsum(counts)
            first = np.repeat(rows, counts)
            second = order[np.arange(len(first)) + np.repeat(start[rows] - ends + counts, counts)]
            near = np.bitwise_count(hashes[first] ^ others[second]) <= distance
            found.append(np.stack([first[near], second[near]], axis=1))
        yield np.unique(np.concatenate(found), axis=0)


def _sharing(keys: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An order of `others`, and for each key where in that order those equal to it start and stop."""
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    return order, np.searchsorted(ranked, keys, "left"), np.searchsorted(ranked, keys, "right")


def copy_groups(images: np.ndarray, hashes: np.ndarray) -> list[list[int]]:
    """Sets of two or more images that are copies of one another, directly or through others.

    Walks from copy to copy inside each bucket of equal hashes, so 1,600 copies of one picture cost 1,600 comparisons,
    not a million.

    Returns:
        Indices in rising order, the sets by their first index.
    """
    order = np.argsort(hashes, kind="stable")
    edges = np.flatnonzero(np.diff(hashes[order])) + 1
    found = []
    for bucket in np.split(order, edges):
        if len(bucket) > 1:
            found += [group for group in _connected(images, bucket) if len(group) > 1]
    return sorted(found)


def _connected(images: np.ndarray, bucket: np.ndarray) -> Iterator[list[int]]:
    """The bucket's images, parted into sets linked by copies."""
    waiting = [int(index) for index in bucket]
    while waiting:
        group, frontier = [waiting[0]], [waiting.pop(0)]
        while frontier and waiting:
            image = images[frontier.pop()]
            differences = {other: mean_difference(image, images[other]) for other in waiting}
            reached = [other for other, difference in differences.items() if difference < COPY_DIFFERENCE]
            waiting = [other for other, difference in differences.items() if difference >= COPY_DIFFERENCE]
            group += reached
            frontier += [other for other in reached if differences[other]]  # an equal one would reach the same
        yield sorted(group)
