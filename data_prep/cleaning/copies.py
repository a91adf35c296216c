"""Which images are the same picture: perceptual hashes suggest, pixels confirm.

A copy has pHash distance 0 and differs by less than 2 grey levels in the mean of all pixels, and by less than 12 in any
8x8 of them: a scratch on a part that a fixed camera looks at is small. Blood cells written as JPEG or resized, so that
they differ by less than 2, differ by at most 12 in any place. A near copy has distance 4 or less and differs by less
than 12 in the mean, as it is or once it is as bright and as rich in contrast as the other, channel by channel: pictures
that were taken twice, or augmented before they came here. On the blood cells, distance 4 joins one pair of different
cells at most, 8 joins 166.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import uniform_filter

_COMPARED = 2**19  # pairs of hashes compared at a time: about 20 MB
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def is_copy(image: np.ndarray, other: np.ndarray) -> bool:
    """Of images uint8 (h, w, 3) with one hash: whether nothing is to be seen between them."""
    apart = _difference(image, other)
    if not apart.any():
        return True
    alike: bool = apart.mean() < COPY_DIFFERENCE
    return alike and bool(uniform_filter(apart, LOCAL_SIDE, mode="nearest").max() < LOCAL_DIFFERENCE)


def is_near_copy(image: np.ndarray, other: np.ndarray) -> bool:
    """Of images uint8 (h, w, 3) with hashes that are near: whether one may be made of the other."""
    if _difference(image, other).mean() < NEAR_DIFFERENCE:
        return True
    return max(_refitted(image, other), _refitted(other, image)) < NEAR_DIFFERENCE


def _difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean over the channels of the absolute difference, in grey levels 0..255: float64 (h, w)."""
    result: np.ndarray = np.abs(image.astype(np.int16) - other).mean(axis=2)
    return result


def _refitted(image: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference once the first has, in each channel, the gain and offset that bring it nearest to the
    other by least squares; gains beyond GAINS are not taken for a change of light."""
    x, y = (each.reshape(-1, each.shape[-1]).astype(np.float32) for each in (image, other))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    gain = np.clip((x * y).sum(axis=0) / np.maximum((x * x).sum(axis=0), 1e-9), *GAINS)
    return float(np.abs(y - gain * x).mean())


@dataclass(frozen=True)
class Likeness:
    """When two images count as one picture.

    Attributes:
        distance: bits by which their hashes may differ, at most.
        holds: whether it is so, of two images whose hashes differ by no more.
    """

    distance: int
    holds: Callable[[np.ndarray, np.ndarray], bool]


COPY_DIFFERENCE, LOCAL_SIDE, LOCAL_DIFFERENCE = 2.0, 8, 12.0
NEAR_DIFFERENCE, GAINS = 12.0, (0.5, 2.0)
COPY, NEAR_COPY = Likeness(0, is_copy), Likeness(4, is_near_copy)


def linked(images: np.ndarray, hashes: np.ndarray, likeness: Likeness, among: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs i < j of that likeness: enough of them to join all that are, directly or through others. A thousand frames
    of a fixed camera are all near one another, and to compare each with each would never end.

    Args:
        images: uint8 (n, h, w, 3).
        hashes: uint64 (n,), theirs.
        among: indices (m,) to look at; the pairs are places in it.
    """
    joined = DisjointSet(range(len(among)))
    group = np.arange(len(among))
    for near in _near(hashes[among], hashes[among], likeness.distance):
        apart = near[(near[:, 0] < near[:, 1]) & (group[near[:, 0]] != group[near[:, 1]])]
        for first, second in apart.tolist():
            if joined.connected(first, second):
                continue
            if likeness.holds(images[among[first]], images[among[second]]):
                joined.merge(first, second)
                yield first, second
        if len(apart):
            group = np.array([joined[place] for place in range(len(among))])


def matches(
    images: tuple[np.ndarray, np.ndarray], hashes: tuple[np.ndarray, np.ndarray], likeness: Likeness
) -> Iterator[tuple[int, int]]:
    """Pairs (i in the first, j in the second) of two sets of images that have that likeness, all of them.

    Args:
        images: uint8 (n, h, w, 3) and (m, h, w, 3).
        hashes: uint64 (n,) and (m,), theirs.
    """
    for near in _near(*hashes, likeness.distance):
        for first, second in near.tolist():
            if likeness.holds(images[0][first], images[1][second]):
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
            alike = [is_copy(image, images[other]) for other in waiting]
            reached = [other for other, is_one in zip(waiting, alike, strict=True) if is_one]
            waiting = [other for other, is_one in zip(waiting, alike, strict=True) if not is_one]
            group += reached
            # An equal one would reach the same.
            frontier += [other for other in reached if (images[other] != image).any()]
        yield sorted(group)
