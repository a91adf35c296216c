"""Find images that show the same picture: perceptual hashes suggest pairs, pixels confirm them.

A copy has pHash distance 0. Its pixels differ by less than 2 grey levels on average over the image, and by less than 12
on average over each 8x8 window, because a scratch on a part seen by a fixed camera is small. Blood cells that were
saved as JPEG or resized, and that differ by less than 2 on average, differ by at most 12 in any place.

A near copy has pHash distance 4 or less and differs by less than 12 grey levels on average, either directly or after
brightness and contrast of each channel are fitted to the other image. These are pictures that were taken twice, or
augmented before they came here. On the blood cells, distance 4 joins at most one pair of different cells; distance 8
joins 166.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from scipy.ndimage import uniform_filter

_COMPARED = 2**19  # pairs of hashes compared at a time; they take about 20 MB
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)


def is_copy(image: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two images, uint8 (h, w, 3) with equal pHash, are copies: no visible difference."""
    apart = _difference(image, other)
    if not apart.any():
        return True
    alike: bool = apart.mean() < COPY_DIFFERENCE
    return alike and bool(uniform_filter(apart, LOCAL_SIDE, mode="nearest").max() < LOCAL_DIFFERENCE)


def is_near_copy(image: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two images, uint8 (h, w, 3) with similar pHash, are near copies: one may come from the other."""
    if _difference(image, other).mean() < NEAR_DIFFERENCE:
        return True
    return max(_refitted(image, other), _refitted(other, image)) < NEAR_DIFFERENCE


def _difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the absolute difference, averaged over the channels, in grey levels 0..255: float64 (h, w)."""
    result: np.ndarray = np.abs(image.astype(np.int16) - other).mean(axis=2)
    return result


def _refitted(image: np.ndarray, other: np.ndarray) -> float:
    """Return the mean absolute difference after a least-squares fit of the first image's gain and offset, per channel.

    Gains are clipped to GAINS, because a larger change is hardly a change of light.
    """
    x, y = (each.reshape(-1, each.shape[-1]).astype(np.float32) for each in (image, other))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    gain = np.clip((x * y).sum(axis=0) / np.maximum((x * x).sum(axis=0), 1e-9), *GAINS)
    return float(np.abs(y - gain * x).mean())


@dataclass(frozen=True)
class Likeness:
    """Rule by which two images count as the same picture.

    Attributes:
        distance: largest number of bits by which their hashes may differ.
        holds: test on the pixels of two images whose hashes are that close; True for the same picture.
    """

    distance: int
    holds: Callable[[np.ndarray, np.ndarray], bool]


COPY_DIFFERENCE, LOCAL_SIDE, LOCAL_DIFFERENCE = 2.0, 8, 12.0
NEAR_DIFFERENCE, GAINS = 12.0, (0.5, 2.0)
COPY, NEAR_COPY = Likeness(0, is_copy), Likeness(4, is_near_copy)


def linked(images: np.ndarray, hashes: np.ndarray, likeness: Likeness, among: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs i < j of alike images, enough to connect all images that are alike, directly or through others.

    Not all pairs are tested: a thousand frames of a fixed camera are all alike, and testing each pair would never end.

    Args:
        images: uint8 (n, h, w, 3).
        hashes: perceptual hashes of the images, uint64 (n,).
        likeness: COPY or NEAR_COPY.
        among: indices (m,) of the images to compare; the pairs are positions in this array.
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
    """Yield all pairs (i in the first set, j in the second set) of images that are alike.

    Args:
        images: the two sets, uint8 (n, h, w, 3) and (m, h, w, 3).
        hashes: perceptual hashes of the images, uint64 (n,) and (m,).
        likeness: COPY or NEAR_COPY.
    """
    for near in _near(*hashes, likeness.distance):
        for first, second in near.tolist():
            if likeness.holds(images[0][first], images[1][second]):
                yield first, second


def _near(hashes: np.ndarray, others: np.ndarray, distance: int) -> Iterator[np.ndarray]:
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
