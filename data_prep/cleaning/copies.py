"""Find images that are copies: perceptual hashes suggest pairs, pixels confirm them.

A copy has pHash distance 0. Its pixels differ by less than 2 grey levels on average over the image, and by less than 20
on average over each 3x3 window: compression does not change more, and a mark of two pixels does. Images that differ in
such a place are near copies, of which neither is left out.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

COPY_DIFFERENCE, LOCAL_SIDE, LOCAL_DIFFERENCE = 2.0, 3, 20.0
_SPOT = 0.125  # of the longer side of an image: the largest small spot
_COMPARED = 2**19  # pairs of hashes compared at a time; they take about 20 MB
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def is_copy(image: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two images, uint8 (h, w, 3) with equal pHash, are copies: no visible difference."""
    apart = _difference(image, other)
    if not apart.any():
        return True
    alike: bool = apart.mean() < COPY_DIFFERENCE
    return alike and bool(_local(apart).max() < LOCAL_DIFFERENCE)


def differ_in_one_spot(image: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two images, uint8 (h, w, 3), would be copies but for one small spot."""
    apart = _difference(image, other)
    rows, columns = np.nonzero(_local(apart) >= LOCAL_DIFFERENCE)
    if apart.mean() >= COPY_DIFFERENCE or not len(rows):
        return False
    return bool(max(np.ptp(rows), np.ptp(columns)) <= max(4, _SPOT * max(apart.shape)))


def _difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the absolute difference, averaged over the channels, in grey levels 0..255: float64 (h, w)."""
    result: np.ndarray = np.abs(image.astype(np.int16) - other).mean(axis=2)
    return result


def _local(apart: np.ndarray) -> np.ndarray:
    local: np.ndarray = uniform_filter(apart, LOCAL_SIDE, mode="nearest")
    return local


@dataclass(frozen=True)
class Likeness:
    """Rule by which two images count as the same picture.

    Attributes:
        distance: largest number of bits by which their hashes may differ.
        holds: test on the pixels of two images whose hashes are that close; True for the same picture.
    """

    distance: int
    holds: Callable[[np.ndarray, np.ndarray], bool]


COPY = Likeness(0, is_copy)


def matches(
    images: tuple[np.ndarray, np.ndarray], hashes: tuple[np.ndarray, np.ndarray], likeness: Likeness
) -> Iterator[tuple[int, int]]:
    """Yield all pairs (i in the first set, j in the second set) of images that are alike.

    Args:
        images: the two sets, uint8 (n, h, w, 3) and (m, h, w, 3).
        hashes: perceptual hashes of the images, uint64 (n,) and (m,).
        likeness: when two images are alike.
    """
    for pairs in near(*hashes, likeness.distance):
        for first, second in pairs.tolist():
            if likeness.holds(images[0][first], images[1][second]):
                yield first, second


def near(hashes: np.ndarray, others: np.ndarray, distance: int) -> Iterator[np.ndarray]:
    """Yield the pairs of positions in uint64 (n,) and (m,) at most `distance` bits apart, in rising order, as int64
    arrays (k, 2).

    The 64 bits are split into distance + 1 parts. Two hashes that close are equal in at least one part (pigeonhole
    principle), so only hashes that share a part are compared.
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
    """Return an order that sorts `others`, and for each key where its equals start and stop in that order."""
    order = np.argsort(others, kind="stable")
    ranked = others[order]
    return order, np.searchsorted(ranked, keys, "left"), np.searchsorted(ranked, keys, "right")


def copy_groups(images: np.ndarray, hashes: np.ndarray) -> list[list[int]]:
    """Return the sets of two or more images that are copies of one another, directly or through others.

    Walks from copy to copy within each bucket of equal hashes, so that 1,600 copies of one picture take 1,600
    comparisons, not a million.

    Returns:
        Indices in rising order; the sets are ordered by their first index.
    """
    order = np.argsort(hashes, kind="stable")
    edges = np.flatnonzero(np.diff(hashes[order])) + 1
    found = []
    for bucket in np.split(order, edges):
        if len(bucket) > 1:
            found += [group for group in _connected(images, bucket) if len(group) > 1]
    return sorted(found)


def _connected(images: np.ndarray, bucket: np.ndarray) -> Iterator[list[int]]:
    """Yield the sets of a bucket's images that are linked by copies."""
    waiting = [int(index) for index in bucket]
    while waiting:
        group, frontier = [waiting[0]], [waiting.pop(0)]
        while frontier and waiting:
            image = images[frontier.pop()]
            alike = [is_copy(image, images[other]) for other in waiting]
            reached = [other for other, is_one in zip(waiting, alike, strict=True) if is_one]
            waiting = [other for other, is_one in zip(waiting, alike, strict=True) if not is_one]
            group += reached
            # An identical image would reach the same copies, so it need not be followed.
            frontier += [other for other in reached if (images[other] != image).any()]
        yield sorted(group)
