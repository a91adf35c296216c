"""Labelled images that no prepared set holds, scored as the test images of one are: as they are, and under corruptions
that are drawn for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from data_prep.corrupted import corrupted_views
from data_prep.progress import Progress
from search.scored_parts import PARTS

if TYPE_CHECKING:  # scikit-learn and scipy take a second
    from models.reporting import Scored

CHUNK_IMAGES = 512
"""Corrupted and scored at a time: the views of all would take several times the memory of the images."""

Answer = Callable[[np.ndarray], np.ndarray]
"""uint8 (n, h, w, 3) -> raw probabilities float32 (n, classes)."""


def scored_data(
    answer: Answer, images: np.ndarray, labels: np.ndarray, views: int, progress: Progress
) -> dict[str, Scored]:
    """By key, as `score_split` gives the parts of the test set. The same images get the same corruptions each time.

    Args:
        images: uint8 (n, h, w, 3).
        labels: int (n,).
        views: corrupted ones of each image, by each table of corruptions; 0: the images alone.
        progress: told of the corrupted views.
    """
    from models.reporting import Scored

    result = {"": Scored(labels, answer(images))}
    for part in PARTS if views else ():
        if part.split == "test" and part.used_by:
            progress.start(f"scoring {part.title.removeprefix('test, ')}", views * len(images))
            result[part.key] = _corrupted(answer, images, labels, (views, part.used_by), progress)
    return result


def _corrupted(
    answer: Answer, images: np.ndarray, labels: np.ndarray, what: tuple[int, str], progress: Progress
) -> Scored:
    from models.reporting import Scored

    probabilities, families = [], []
    for start in range(0, len(images), CHUNK_IMAGES):
        drawn = corrupted_views(images[start : start + CHUNK_IMAGES], *what, seed=start)
        flat = drawn.images.reshape(-1, *images.shape[1:])
        probabilities.append(answer(flat).reshape(*drawn.images.shape[:2], -1))
        families.append(drawn.families)
        progress.advance(len(flat))
    together = {name: np.concatenate([chunk[name] for chunk in families]) for name in families[0]}
    taken = {name: views for name, views in together.items() if views.any()}
    return Scored(labels, np.concatenate(probabilities), taken)
