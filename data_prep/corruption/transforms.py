"""Apply transforms of albumentations with a given random generator."""

import os
from functools import cache
from typing import Any

import numpy as np


def transformed(image: np.ndarray, rng: np.random.Generator, name: str, **options: Any) -> np.ndarray:
    """Return the image changed by a transform, which is always applied, with a seed drawn from `rng`.

    Args:
        image: uint8 (h, w, 3), RGB; not changed.
        rng: random generator, from which one number is drawn.
        name: name of a transform class in albumentations.
        options: arguments of the class, hashable.

    Returns:
        uint8 (h, w, 3).
    """
    transform = _transform(name, tuple(options.items()))
    transform.set_random_seed(int(rng.integers(2**32)))
    changed: np.ndarray = transform(image=image)["image"]
    return changed


@cache
def _transform(name: str, options: tuple[tuple[str, Any], ...]) -> Any:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise the import looks for a newer version online
    import albumentations

    return getattr(albumentations, name)(**dict(options), p=1)
