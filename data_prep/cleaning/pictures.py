"""Pictures made comparable: without their even borders, small, and with all of their contrast."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

SIDE = 72  # longest side of a comparable picture, in pixels
_EVEN, _STEP = 12, 6  # grey levels within a line of an even border, and from line to line
_LEAST = 0.25  # of each side that is left of a picture without its border
_STRETCHED = 3.0  # most by which contrast is stretched, since more would stretch noise
_BLANK = 2.0  # grey levels (standard deviation) below which a picture shows nothing


@dataclass(frozen=True)
class Picture:
    """A picture without its even border, shrunk or enlarged to SIDE: uint8 (h, w, 3)."""

    colour: np.ndarray

    @cached_property
    def grey(self) -> np.ndarray:
        """Brightness, uint8 (h, w), stretched to the whole range."""
        grey = cv2.cvtColor(self.colour, cv2.COLOR_RGB2GRAY)
        low, high = np.percentile(grey, (1, 99))
        gain = min(255 / max(high - low, 1.0), _STRETCHED)
        lit: np.ndarray = cv2.convertScaleAbs(np.maximum(grey, np.uint8(low)), alpha=gain, beta=-gain * int(low))
        return lit

    @cached_property
    def smooth(self) -> np.ndarray:
        """Brightness as float32 (h, w), smoothed so that resampling and compression matter little."""
        return cv2.GaussianBlur(self.grey.astype(np.float32), (0, 0), 1)

    @cached_property
    def is_blank(self) -> bool:
        """Whether the picture shows nothing: one colour, with noise."""
        return bool(cv2.GaussianBlur(self.colour, (0, 0), 1).astype(np.float32).std(axis=(0, 1)).max() < _BLANK)


def comparable(image: np.ndarray) -> Picture:
    """Return an image, uint8 (h, w, 3), as a comparable picture."""
    top, bottom = _border(image)
    left, right = _border(image.transpose(1, 0, 2))
    inner = image[top : len(image) - bottom, left : image.shape[1] - right]
    factor = SIDE / max(inner.shape[:2])
    size = tuple(max(8, round(side * factor)) for side in inner.shape[1::-1])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return Picture(cv2.resize(np.ascontiguousarray(inner), size, interpolation=way))


def _border(image: np.ndarray) -> tuple[int, int]:
    """Return the number of even lines at the top and at the bottom: a frame, or the ground around a lone object."""
    grey = image.astype(np.int16).sum(axis=2) // 3
    even = grey.max(axis=1) - grey.min(axis=1) <= _EVEN
    level = grey.mean(axis=1)
    most = len(image) - max(1, round(_LEAST * len(image)))
    ends = []
    for flags, levels in ((even, level), (even[::-1], level[::-1])):
        same = flags & (np.abs(levels - levels[0]) <= _STEP)
        ends.append(len(same) if same.all() else int(np.argmin(same)))
    return (0, 0) if sum(ends) > most else (ends[0], ends[1])
