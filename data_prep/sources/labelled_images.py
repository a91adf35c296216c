"""Labelled images in memory, as every source gives them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Attributes:
        images: uint8 (n, h, w, 3), RGB, 0..255.
        labels: int64 (n,), 0..len(class_names) - 1.
        class_names: one a class.
        names: one an image, unique: the path below the folder, or the row number.
        unreadable: what was found and could not be read.
        sides: int8 (n,), the source's own split, 0 train, 1 validation, 2 test; None where it brings none.
        groups: int64 (n,), numbers of what belongs together (patient, slide); None where nothing is known.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()
    sides: np.ndarray | None = None
    groups: np.ndarray | None = None
