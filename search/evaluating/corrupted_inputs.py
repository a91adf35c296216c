"""Score labelled images from outside a prepared set as its test images are: clean, and under corruptions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from data_prep.corruption.views import corrupted_views
from data_prep.progress import Progress
from search.evaluating.inputs import CHUNK_BYTES, Labelled
from search.exporting.scored_parts import PARTS

if TYPE_CHECKING:  # importing scikit-learn and scipy takes a second
    from models.scoring.export_figures import Scored

CHUNK_IMAGES = 512
"""Maximum number of images to corrupt and score at a time, within CHUNK_BYTES of views. The views of all images at once
would take several times the memory of the images."""

Answer = Callable[[np.ndarray], np.ndarray]
"""Images uint8 (n, h, w, 3) -> raw probabilities float32 (n, classes)."""


def scored_data(answer: Answer, data: Labelled, views: int, progress: Progress) -> dict[str, Scored]:
    """Return the scored parts by key, as `score_split` does for the test set.

    The same images get the same corruptions each time.

    Args:
        views: Number of corrupted views of each image, under the known and under the unseen corruptions each; 0 scores
            the clean images only.
        progress: Receives the progress on corrupted views.
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
