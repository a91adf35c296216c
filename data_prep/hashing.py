"""Which images are the same picture: perceptual hashes suggest, pixels confirm.

A copy has pHash distance 0 and a mean pixel difference under 2 grey levels; a near copy has distance 4 or less and a
mean difference under 12. On the blood cells, distance 4 joins one pair of different cells at most, 8 joins 166.
"""

from collections.abc import Iterator

import imagehash
import numpy as np
from PIL import Image

from data_prep.progress import Progress, Silent

COPY_DISTANCE = 0
COPY_DIFFERENCE = 2.0
NEAR_DISTANCE = 4
NEAR_DIFFERENCE = 12.0

_BLOCK = 256  # rows of the distance matrix at a time: 100,000 columns of them take 200 MB
_REPORT_EVERY = 256


def phashes(images: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """Perceptual hashes (imagehash.phash: signs of the 8x8 lowest frequencies of a 32x32 cosine transform).

    Args:
        images: uint8 (n, h, w, 3).
        progress: advanced by the images done.

    Returns:
        uint64 (n,), 64 bits an image.
    """
    progress = progress or Silent()
    hashes = np.empty(len(images), np.uint64)
    for index in range(len(images)):
        bits = imagehash.phash(Image.fromarray(np.asarray(images[index]))).hash
        hashes[index] = np.packbits(bits).view(">u8")[0]
        if (index + 1) % _REPORT_EVERY == 0 or index + 1 == len(images):
            progress.advance(index % _REPORT_EVERY + 1)
    return hashes


def distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Number of differing bits: uint64 (n,) and (m,) -> uint8 (n, m)."""
    count: np.ndarray = np.bitwise_count(hashes[:, None] ^ others[None, :])
    return count


def mean_difference(image: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference over pixels and channels, in grey levels 0..255."""
    return float(np.abs(image.astype(np.int16) - other).mean())


def pairs(
    images: np.ndarray, hashes: np.ndarray, distance: int, difference: float, among: np.ndarray | None = None
) -> Iterator[tuple[int, int]]:
    """Pairs i < j with a hash distance of at most `distance` and a mean difference under `difference`.

    Args:
        images: uint8 (n, h, w, 3).
        hashes: uint64 (n,), theirs.
        among: indices (m,) to look at; the pairs are then places in it. None looks at all.
    """
    among = np.arange(len(hashes)) if among is None else among
    chosen = hashes[among]
    for start in range(0, len(chosen), _BLOCK):
        near = distances(chosen[start : start + _BLOCK], chosen[start:]) <= distance
        for row, column in np.argwhere(np.triu(near, k=1)):
            first, second = start + int(row), start + int(column)
            if mean_difference(images[among[first]], images[among[second]]) < difference:
                yield first, second


def matches(
    images: tuple[np.ndarray, np.ndarray], hashes: tuple[np.ndarray, np.ndarray], distance: int, difference: float
) -> Iterator[tuple[int, int]]:
    """Pairs (i in the first, j in the second) of two sets of images, by the same rule as `pairs`.

    Args:
        images: uint8 (n, h, w, 3) and (m, h, w, 3).
        hashes: uint64 (n,) and (m,), theirs.
    """
    for start in range(0, len(hashes[0]), _BLOCK):
        near = distances(hashes[0][start : start + _BLOCK], hashes[1]) <= distance
        for row, second in np.argwhere(near):
            first = start + int(row)
            if mean_difference(images[0][first], images[1][second]) < difference:
                yield first, int(second)


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
            reached = [other for other in waiting if mean_difference(image, images[other]) < COPY_DIFFERENCE]
            waiting = [other for other in waiting if other not in set(reached)] if reached else waiting
            group += reached
            frontier += reached
        yield sorted(group)
