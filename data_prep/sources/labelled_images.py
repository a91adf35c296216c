"""Labelled images in memory: what every kind of source returns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Unreadable:
    """A picture that could not be read, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Attributes:
        images: uint8 (n, h, w, 3), RGB, 0..255.
        labels: int64 (n,), 0..len(class_names) - 1.
        class_names: Names of the classes, indexed by label.
        names: Unique name of each image: its path below the folder, or its row number.
        unreadable: Pictures that were found but could not be read.
        sides: int8 (n,), the source's own split: 0 train, 1 validation, 2 test. None if it has no split.
        groups: int64 (n,), group number of each image. Images of a group belong together, such as those of one patient
            or slide. None if no groups are known.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    unreadable: tuple[Unreadable, ...] = ()
    sides: np.ndarray | None = None
    groups: np.ndarray | None = None
