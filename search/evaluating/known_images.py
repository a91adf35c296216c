"""Images of the prepared set that a model is of, among those it is to be scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from search.errors import SearchError
from search.workspace import Workspace

if TYPE_CHECKING:  # the command line starts without them
    from search.evaluating.exported_model import ExportedModel

PARTS = {"train": "trained on", "validation": "was chosen by"}
"""Side of a prepared set -> what the model did with it."""
LOCKED = "test"
"""The side of which the model knows nothing, and each reading counts."""


def known_images(workspace: Workspace, exported: ExportedModel, images: np.ndarray) -> dict[str, int]:
    """How many of `images`, uint8 (n, h, w, 3), are in each side of PARTS and in LOCKED, pixel by pixel; of PARTS where
    the workspace holds the prepared set that the model is of."""
    from data_prep.errors import DataError
    from data_prep.storage.reader import PreparedSet

    try:
        prepared = PreparedSet.open(workspace.prepared)
        own = _fingerprint(exported) == prepared.fingerprint
        wanted = (*PARTS, LOCKED) if own else (LOCKED,)
        sides = {side: {_digest(image) for image in prepared.images(side)} for side in wanted}
    except DataError:  # scoring does not need that set
        return {}
    asked = [_digest(image) for image in images]
    return {side: sum(one in known for one in asked) for side, known in sides.items()}


def _fingerprint(exported: ExportedModel) -> str | None:
    """None where the export no longer says what it is of."""
    try:
        return exported.facts().get("fingerprint")
    except SearchError:
        return None


def warning_of(known: Mapping[str, int], total: int) -> str | None:
    """A line where there are any."""
    parts = [f"{count:,} are images that it {PARTS[side]}" for side, count in known.items() if count and side in PARTS]
    if not parts:
        return None
    return f"Warning: the model knows some of these {total:,} images: {', '.join(parts)}; expect less on new ones"


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
