"""Strong augmented views, by albumentations: a random flip and affine transform, then two changes of colour or masks.

To add a change, add a row to CHANGES.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_prep.corruption.transforms import transformed

_ROWS = 32  # images between two progress reports


@dataclass(frozen=True)
class Change:
    """A row of CHANGES.

    Attributes:
        transform: name of a transform class of albumentations.
        kind: one of TRAINING_KINDS in data_prep/corruption/operations.py; no corruption that scores models has one.
        options: function from the strength to the arguments of the transform.
    """

    transform: str
    kind: str
    options: Callable[[float], dict[str, Any]] = lambda s: {}


def _cut_out(s: float) -> dict[str, Any]:
    sides = (0.1, 0.4 * s)
    return {"num_holes_range": (1, 4), "hole_height_range": sides, "hole_width_range": sides, "fill": "random_uniform"}


CHANGES: tuple[Change, ...] = (
    Change(
        "RandomBrightnessContrast", "brightness", lambda s: {"brightness_limit": 0.4 * s, "contrast_limit": 0.4 * s}
    ),
    Change(
        "HueSaturationValue",
        "saturation",
        lambda s: {"hue_shift_limit": 0, "sat_shift_limit": 90 * s, "val_shift_limit": 0},
    ),
    Change("Solarize", "solarize", lambda s: {"threshold_range": (1 - 0.7 * s, 1.0)}),
    Change("Equalize", "equalize"),
    Change("Posterize", "posterize", lambda s: {"num_bits": (2, 5)}),
    Change("AutoContrast", "autocontrast"),
    Change("CoarseDropout", "mask", _cut_out),
    Change(
        "GridDropout",
        "mask",
        lambda s: {"ratio": 0.45 * s, "holes_number_xy": (5, 5), "random_offset": True, "fill": 114},
    ),
    Change("RGBShift", "channel shift", lambda s: {f"{channel}_shift_limit": 60 * s for channel in "rgb"}),
    Change("PlanckianJitter", "colour temperature"),
    Change("ToGray", "grey"),
    Change("InvertImg", "inversion"),
    Change("GaussNoise", "gaussian noise", lambda s: {"std_range": (0.01, 0.06 * s)}),
)


def fill(images: np.ndarray, views: np.ndarray, strength: float, seed: int) -> Iterator[int]:
    """Fill `views` with strong views of `images`, and yield the number made, a few images at a time.

    Args:
        images: uint8 (n, h, w, 3).
        views: array to fill, uint8 (n, copies, h, w, 3); row i is made from image i.
        strength: factor on the ranges of the changes, above 0.3 and up to 1.
        seed: random seed; each view is drawn from (seed, row, copy).
    """
    count, copies = views.shape[:2]
    for start in range(0, count, _ROWS):
        rows = range(start, min(start + _ROWS, count))
        for row, copy in itertools.product(rows, range(copies)):
            views[row, copy] = strong_view(np.asarray(images[row]), strength, np.random.default_rng((seed, row, copy)))
        yield len(rows) * copies


def strong_view(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Return one view: a random flip, rotation, shift, shear and scaling, then two different CHANGES in turn.

    Args:
        image: uint8 (h, w, 3), RGB.
        strength: as in `fill`.
        rng: random generator, whose state determines the view.

    Returns:
        uint8 (h, w, 3).
    """
    view = np.ascontiguousarray(image[:, ::-1]) if rng.random() < 0.5 else image
    view = transformed(view, rng, "Affine", **_moves(strength))
    for at in rng.choice(len(CHANGES), 2, replace=False):
        view = transformed(view, rng, CHANGES[at].transform, **CHANGES[at].options(strength))
    return view


def _moves(strength: float) -> dict[str, Any]:
    shift, shear = 0.12 * strength, 15 * strength
    return {
        "rotate": (-180, 180),
        "translate_percent": (-shift, shift),
        "shear": (-shear, shear),
        "scale": (1 - 0.2 * strength, 1 + 0.25 * strength),
        "border_mode": cv2.BORDER_REFLECT_101,
    }
