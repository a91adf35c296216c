"""Find images that a model knows from its prepared set, among those to score it on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from search.errors import SearchError
from search.workspace import Workspace

if TYPE_CHECKING:  # not imported at run time, so that the command line starts quickly
    from search.evaluating.exported_model import ExportedModel

PARTS = {"train": "its training images", "validation": "the validation images that chose it"}
"""Side of a prepared set -> how the model knows it."""
LOCKED = "test"
"""Side that the model does not know; each reading of it is counted."""


def known_images(workspace: Workspace, exported: ExportedModel, images: np.ndarray) -> dict[str, int]:
    """Count the images that are equal, pixel by pixel, to images of the workspace's prepared set.

    Args:
        images: uint8 (n, h, w, 3).

    Returns:
        Side -> number of images found in it: for LOCKED, and for the sides in PARTS if the model was trained on this
        prepared set. Empty if the workspace has no readable prepared set.
    """
    from data_prep.errors import DataError
    from data_prep.storage.reader import PreparedSet

    try:
        prepared = PreparedSet.open(workspace.prepared)
        own = _fingerprint(exported) == prepared.fingerprint
        wanted = (*PARTS, LOCKED) if own else (LOCKED,)
        sides = {side: {_digest(image) for image in prepared.images(side)} for side in wanted}
    except DataError:  # scoring works without the prepared set
        return {}
    asked = [_digest(image) for image in images]
    return {side: sum(one in known for one in asked) for side, known in sides.items()}


def _fingerprint(exported: ExportedModel) -> str | None:
    """Return the fingerprint of the model's prepared set, or None if the export cannot be read."""
    try:
        return exported.facts().get("fingerprint")
    except SearchError:
        return None


def warning_of(known: Mapping[str, int], total: int) -> str | None:
    """Return a warning if the model knows some of the images, else None.

    Args:
        known: Side -> number of images, from `known_images`.
        total: Number of images scored.
    """
    parts = [f"{count:,} are among {PARTS[side]}" for side, count in known.items() if count and side in PARTS]
    if not parts:
        return None
    return f"Warning: the model knows some of these {total:,} images: {', '.join(parts)}; expect less on new ones"


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
