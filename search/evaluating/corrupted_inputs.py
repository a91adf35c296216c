"""Labelled images that no prepared set holds, scored as the test images of one are: as they are, and under corruptions
that are drawn for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from data_prep.corruption.views import corrupted_views
from data_prep.progress import Progress
from search.evaluating.inputs import CHUNK_BYTES, Labelled
from search.exporting.scored_parts import PARTS

if TYPE_CHECKING:  # scikit-learn and scipy take a second
    from models.scoring.export_figures import Scored

CHUNK_IMAGES = 512
"""At most so many are corrupted and scored at a time, and no more than CHUNK_BYTES of views: those of all images would
take several times the memory of the images."""

Answer = Callable[[np.ndarray], np.ndarray]
"""uint8 (n, h, w, 3) -> raw probabilities float32 (n, classes)."""


def scored_data(answer: Answer, data: Labelled, views: int, progress: Progress) -> dict[str, Scored]:
    """By key, as `score_split` gives the parts of the test set. The same images get the same corruptions each time.

    Args:
        views: corrupted ones of each image, by each table of corruptions; 0: the images alone.
        progress: told of the corrupted views.
    """
    from models.scoring.export_figures import Scored

    result = {"": Scored(data.labels, answer(data.images), groups=data.groups)}
    for part in PARTS if views else ():
        if part.split == "test" and part.used_by:
            progress.start(f"scoring {part.title.removeprefix('test, ')}", views * len(data.images))
            result[part.key] = _corrupted(answer, data, (views, part.used_by), progress)
    return result


def _corrupted(answer: Answer, data: Labelled, what: tuple[int, str], progress: Progress) -> Scored:
    from models.scoring.export_figures import Scored

    images, probabilities, families = data.images, [], []
    step = max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (what[0] * math.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        drawn = corrupted_views(images[start : start + step], *what, seed=start)
        flat = drawn.images.reshape(-1, *images.shape[1:])
        probabilities.append(answer(flat).reshape(*drawn.images.shape[:2], -1))
        families.append(drawn.families)
        progress.advance(len(flat))
    together = {name: np.concatenate([chunk[name] for chunk in families]) for name in families[0]}
    taken = {name: views for name, views in together.items() if views.any()}
    return Scored(data.labels, np.concatenate(probabilities), taken, data.groups)
