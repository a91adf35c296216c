"""Transforms of albumentations as functions of an image and a random generator."""

import os
from functools import cache
from typing import Any

import numpy as np


def transformed(image: np.ndarray, rng: np.random.Generator, name: str, **options: Any) -> np.ndarray:
    """The image changed by a transform, always, with a seed that `rng` gives.

    Args:
        image: uint8 (h, w, 3), RGB; stays as it is.
        rng: one number is drawn from it.
        name: of the transform's class in albumentations.
        options: of the class; hashable.

    Returns:
        uint8 (h, w, 3).
    """
    transform = _transform(name, tuple(options.items()))
    transform.set_random_seed(int(rng.integers(2**32)))
    changed: np.ndarray = transform(image=image)["image"]
    return changed


@cache
def _transform(name: str, options: tuple[tuple[str, Any], ...]) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import would ask the network for a newer version
    import albumentations

    return getattr(albumentations, name)(**dict(options), p=1)
