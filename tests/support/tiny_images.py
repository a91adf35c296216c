"""Tiny pictures that many tests share."""

from __future__ import annotations

import numpy as np

CLASSES = 3


def tiny_images(count: int, seed: int = 0, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures whose colour tells the class, all different: uint8 (count, size, size, 3), labels (count,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    images = rng.integers(0, 160, (count, size, size, 3))
    images[np.arange(count), :, :, labels] += 80
    return images.astype(np.uint8), labels
