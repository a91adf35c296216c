"""Keypoints of pictures (SIFT): places that are found again when a picture is turned, shifted, cropped or relit.

The descriptor of a mirrored place is the descriptor with its rows reversed and its directions negated, so that a
picture and its mirror image need one detection.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.cleaning.pictures import comparable
from data_prep.progress import Progress, Silent

_BATCH = 128  # images at a time
_MOST = 80  # keypoints of a picture
_CONTRAST = 0.02
_QUANTA = 400.0  # steps per unit of a descriptor's root
_CELLS = np.arange(128).reshape(4, 4, 8)
MIRRORED = _CELLS[::-1][:, :, -np.arange(8) % 8].reshape(-1)
"""Order of a descriptor's values in which it describes the same place of the mirror image."""


@dataclass(frozen=True)
class Keypoints:
    """Keypoints of n pictures, in one array.

    Attributes:
        places: float32 (k, 4): x, y in pixels of the comparable picture, angle in radians, size in pixels.
        descriptors: uint8 (k, 128), roots of the shares of SIFT's histograms.
        starts: int64 (n + 1,), where each picture's keypoints start.
        sizes: int64 (n, 2), height and width of each comparable picture.
    """

    places: np.ndarray
    descriptors: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places and descriptors (float32, nearly of length 1) of a picture."""
        part = slice(self.starts[index], self.starts[index + 1])
        return self.places[part], self.descriptors[part].astype(np.float32) / _QUANTA

    @property
    def counts(self) -> np.ndarray:
        """Number of keypoints of each picture, int64 (n,)."""
        return np.diff(self.starts)


def detect(images: np.ndarray, among: np.ndarray, progress: Progress | None = None) -> Keypoints:
    """Return the keypoints of the images at the indices `among`; images are uint8 (n, h, w, 3)."""
    progress = progress or Silent()
    batches = [among[start : start + _BATCH] for start in range(0, len(among), _BATCH)]
    places, descriptors, counts, sizes = [np.empty((0, 4), np.float32)], [np.empty((0, 128), np.uint8)], [0], []
    with _one_thread_each(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda batch: [_detect(images[index]) for index in batch], batches):
            for place, descriptor, size in found:
                places.append(place)
                descriptors.append(descriptor)
                counts.append(len(place))
                sizes.append(size)
            progress.advance(len(found))
    return Keypoints(
        np.concatenate(places),
        np.concatenate(descriptors),
        np.cumsum(counts),
        np.array(sizes, np.int64).reshape(-1, 2),
    )


def together(first: Keypoints, second: Keypoints) -> Keypoints:
    """Return the keypoints of two sets of pictures as those of one set."""
    return Keypoints(
        np.concatenate([first.places, second.places]),
        np.concatenate([first.descriptors, second.descriptors]),
        np.concatenate([first.starts, second.starts[1:] + first.starts[-1]]),
        np.concatenate([first.sizes, second.sizes]),
    )


def _detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    grey = comparable(image).grey
    finder = cv2.SIFT.create(nfeatures=_MOST, contrastThreshold=_CONTRAST)
    points, raw = finder.detectAndCompute(grey, None)
    if raw is None:
        return np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), grey.shape
    places = np.array([(*point.pt, np.deg2rad(point.angle), point.size) for point in points], np.float32)
    roots = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
    return places, np.minimum(np.rint(roots * _QUANTA), 255).astype(np.uint8), grey.shape


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Keep OpenCV from starting threads inside each of ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
