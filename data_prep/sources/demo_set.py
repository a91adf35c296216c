"""The built-in demo set: drawn cells with planted copies, contradicting labels and anomalies, and a list of them."""

from dataclasses import dataclass

import numpy as np

from data_prep.progress import Progress, Silent
from data_prep.sources.demo_drawing import KINDS, SIDE, draw_cell, draw_scene
from data_prep.sources.labelled_images import LabelledImages

VERSION = 1
"""Version of the drawings. Raise it whenever the same seed draws different pictures."""

_SPREAD_COPIES = 5  # of the first scene, in every class
_MONOCYTE_COPIES = 15  # of the second scene, all labelled monocyte
_COPIES, _NEAR_COPIES, _CONFLICTS = 12, 10, 3
_SCENES = (
    ((120, 170, 60), (60, 80, 40), (150, 120, 80)),
    ((235, 195, 170), (120, 140, 170), (40, 40, 60)),
)


@dataclass(frozen=True)
class DemoTruth:
    """Planted problems, as indices of images. The indices of a pair or of an anomaly are in ascending order.

    Attributes:
        recurring: All copies of each anomaly (a picture that recurs too often).
        copies: Pairs of identical images with the same label.
        near_copies: Pairs of images that differ in noise and brightness, with the same label.
        conflicts: Pairs of identical images with different labels.
    """

    recurring: tuple[tuple[int, ...], ...]
    copies: tuple[tuple[int, int], ...]
    near_copies: tuple[tuple[int, int], ...]
    conflicts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class DemoSet:
    """Images of the demo set, uint8 (n, 96, 96, 3), and the problems planted among them."""

    data: LabelledImages
    truth: DemoTruth


def demo_images(seed: int, progress: Progress | None = None) -> DemoSet:
    """Draw about 1,500 cells in eight classes, as imbalanced as BloodMNIST.

    Args:
        seed: Seed of all drawings; the same seed always returns the same set.
        progress: Receives the number of cells drawn; None reports nothing.
    """
    progress = progress or Silent()
    rng = np.random.default_rng(seed)
    names = tuple(kind.name for kind in KINDS)
    images, labels = [], []
    progress.start("drawing cells", sum(kind.count for kind in KINDS))
    for label, kind in enumerate(KINDS):
        images += [draw_cell(kind, rng) for _ in range(kind.count)]
        labels += [label] * kind.count
        progress.advance(kind.count)
    cells = len(images)
    originals = [int(i) for i in rng.choice(cells, _COPIES + _NEAR_COPIES + _CONFLICTS, replace=False)]
    for number, original in enumerate(originals):
        near = _COPIES <= number < _COPIES + _NEAR_COPIES
        conflict = number >= _COPIES + _NEAR_COPIES
        images.append(_nearly(images[original], rng) if near else images[original])
        labels.append((labels[original] + conflict) % len(names))
    spread = [label for label in range(len(names)) for _ in range(_SPREAD_COPIES)]
    for colours, where in zip(_SCENES, (spread, [names.index("monocyte")] * _MONOCYTE_COPIES), strict=True):
        scene = draw_scene(colours, rng)
        images += [scene] * len(where)
        labels += where
    return _shuffled(images, labels, (cells, originals, len(spread)), rng)


def _nearly(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a near copy of a picture: a little brighter or darker, with noise."""
    again = image + rng.choice([-4.0, 4.0]) + rng.normal(0, 2, image.shape)
    return np.asarray(np.clip(np.round(again), 0, 255), np.uint8)


def _shuffled(
    images: list[np.ndarray], labels: list[int], planted: tuple[int, list[int], int], rng: np.random.Generator
) -> DemoSet:
    """Shuffle the set, and record the planted problems by their new indices.

    Args:
        images: The cells, then the second image of each pair, then the copies of the anomalies.
        planted: Number of cells, indices of the first image of each pair, number of copies of the first anomaly.
    """
    cells, originals, spread = planted
    order = rng.permutation(len(images))
    place = np.argsort(order)
    pairs = []
    for number, original in enumerate(originals):
        first, second = sorted((int(place[original]), int(place[cells + number])))
        pairs.append((first, second))
    scenes = place[cells + len(originals) :]
    recurring = tuple(tuple(sorted(int(i) for i in part)) for part in (scenes[:spread], scenes[spread:]))
    near, conflicts = _COPIES, _COPIES + _NEAR_COPIES
    truth = DemoTruth(recurring, tuple(pairs[:near]), tuple(pairs[near:conflicts]), tuple(pairs[conflicts:]))
    stacked = np.empty((len(images), SIDE, SIDE, 3), np.uint8)
    for row, index in enumerate(order):
        stacked[row] = images[index]
    data = LabelledImages(
        stacked,
        np.array(labels, np.int64)[order],
        tuple(kind.name for kind in KINDS),
        tuple(str(row) for row in range(len(images))),
    )
    return DemoSet(data, truth)
