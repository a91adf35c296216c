"""Align two pictures, and judge whether what overlaps is the same.

Keypoints that agree on one way to move a picture onto another propose an affine map. Pictures with few keypoints are
tried in all eight orientations. Proof is what overlaps, measured relative to the pictures' own contrast: a number of
grey levels means little on dark or sparse pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.cleaning.keypoints import MIRRORED
from data_prep.cleaning.pictures import Picture

Points = tuple[np.ndarray, np.ndarray]
"""Places float32 (k, 4) and descriptors float32 (k, 128) of one picture's keypoints."""

RATIO = 0.8  # a match must be this much nearer than the second best
FEWEST = 8  # keypoints that agree
_TURN, _ZOOM, _NEAR = 0.35, 0.4, 5.0  # agreement: radians, natural logarithm of sizes, pixels
_CLOSE = 3.0  # pixels between a place and where the affine map puts its match
_STRETCH = (0.55, 1.8)  # least and most by which an affine map may stretch
MARGIN = 6  # a sixth of each side is not compared: frames, scale bars and smeared edges lie there
_BORDER = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True)
class Agreement:
    """How well what overlaps of two aligned pictures agrees.

    Attributes:
        matrix: float64 (2, 3), maps the second picture onto the first.
        correlation: of brightness, -1 to 1.
        share: overlap as a share of the compared part of the first picture.
        odd: share of the overlap that differs by more than half the contrast.
        tint: largest difference of mean colour apart from brightness, in grey levels.
    """

    matrix: np.ndarray
    correlation: float
    share: float
    odd: float
    tint: float


def by_keypoints(first: Points, second: Points, width: int) -> tuple[np.ndarray, int] | None:
    """Return the affine map of the second picture onto the first on which most keypoints agree, and how many do.

    Args:
        first: keypoints of the first picture.
        second: keypoints of the second picture.
        width: width of the second picture in pixels.

    Returns:
        float64 (2, 3), which may mirror, and the number of keypoints; None if fewer than FEWEST agree.
    """
    if min(len(first[0]), len(second[0])) < FEWEST:
        return None
    best, most = None, FEWEST - 1
    for flipped in (False, True):
        places, descriptors = second
        if flipped:
            mirror = np.array([[-1, 1, -1, 1], [width - 1, 0, np.pi, 0]], np.float32)
            places = places * mirror[0] + mirror[1]
            descriptors = descriptors[:, MIRRORED]
        ours, theirs = _matches(first[1], descriptors)
        if len(ours) <= most:
            continue
        matrix, agreeing = _affine(first[0][ours], places[theirs])
        if agreeing > most and matrix is not None:
            turned = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
            best, most = matrix @ turned if flipped else matrix, agreeing
    return None if best is None else (best, most)


def _matches(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of descriptors that are much nearer to each other than to the second best."""
    likeness = first @ second.T
    rows = np.arange(len(first))
    best = likeness.argmax(axis=1)
    top = likeness[rows, best]
    likeness[rows, best] = -1
    apart, next_apart = (np.sqrt(np.maximum(2 - 2 * near, 0)) for near in (top, likeness.max(axis=1)))
    good = np.flatnonzero(apart < RATIO * next_apart)
    return good, best[good]


def _affine(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray | None, int]:
    """Return the affine map on which most matches agree, and how many do.

    Each match proposes a turn, a zoom and a shift by its two angles and sizes; the one that most others agree with is
    refined by least squares.
    """
    turns = ours[:, 2] - theirs[:, 2]
    zooms = np.log(ours[:, 3] / theirs[:, 3])
    cos, sin = (np.exp(zooms) * trig(turns) for trig in (np.cos, np.sin))
    x, y = theirs[:, 0], theirs[:, 1]
    shift_x, shift_y = ours[:, 0] - cos * x + sin * y, ours[:, 1] - sin * x - cos * y
    off_x = cos[:, None] * x - sin[:, None] * y + shift_x[:, None] - ours[:, 0]
    off_y = sin[:, None] * x + cos[:, None] * y + shift_y[:, None] - ours[:, 1]
    # Far places move more with a small error of the angle.
    reach = np.hypot(x[:, None] - x, y[:, None] - y)
    agree = np.hypot(off_x, off_y) < _NEAR + 0.15 * reach
    agree &= np.abs((turns[:, None] - turns + np.pi) % (2 * np.pi) - np.pi) < _TURN
    agree &= np.abs(zooms[:, None] - zooms) < _ZOOM
    chosen = agree[int(agree.sum(axis=1).argmax())]
    spread = np.column_stack([theirs[:, :2], np.ones(len(theirs))]).astype(np.float64)
    for _ in range(3):
        if len(np.unique(np.rint(theirs[chosen, :2]), axis=0)) < FEWEST:
            return None, 0
        solved = np.linalg.lstsq(spread[chosen], ours[chosen, :2].astype(np.float64), rcond=None)[0]
        chosen = np.hypot(*(spread @ solved - ours[:, :2]).T) < _CLOSE
    matrix = solved.T
    return (matrix, int(chosen.sum())) if _is_modest(matrix) else (None, 0)


def _is_modest(matrix: np.ndarray) -> bool:
    least, most = sorted(np.linalg.svd(matrix[:, :2], compute_uv=False))
    return bool(least >= _STRETCH[0] and most <= _STRETCH[1])


def orientations(first: tuple[int, int], second: tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the maps of the second picture onto the first in all eight orientations, float64 (2, 3), centred.

    Args:
        first: height and width of the first picture.
        second: height and width of the second picture.
    """
    ends, starts = (np.array([(width - 1) / 2, (height - 1) / 2]) for height, width in (first, second))
    for turn in range(4):
        cos, sin = (1, 0, -1, 0)[turn], (0, 1, 0, -1)[turn]
        for mirror in (1, -1):
            part = np.array([[cos * mirror, -sin], [sin * mirror, cos]], np.float64)
            yield np.column_stack([part, ends - part @ starts])


def compared(first: Picture, second: Picture, matrix: np.ndarray, margin: int = MARGIN) -> Agreement:
    """Measure how well what overlaps agrees.

    Args:
        first: a picture.
        second: another picture.
        matrix: maps the second onto the first, float64 (2, 3).
        margin: one part in this many of each side is not compared; 0 compares everything.
    """
    inverse = cv2.invertAffineTransform(matrix)
    size = first.smooth.shape[::-1]
    own, other = _inside(first.smooth.shape, margin), _inside(second.smooth.shape, margin)
    overlap = own & (cv2.warpAffine(other.astype(np.float32), inverse, size, flags=_BORDER) > 0.99)
    if overlap.sum() < 64:
        return Agreement(matrix, 0.0, 0.0, 1.0, 255.0)
    moved = cv2.warpAffine(second.smooth, inverse, size, flags=_BORDER, borderMode=cv2.BORDER_REPLICATE)
    x, y = first.smooth[overlap], moved[overlap]
    x, y = x - x.mean(), y - y.mean()
    strength = float(np.sqrt((x * x).mean() * (y * y).mean()))
    correlation = float((x * y).mean()) / max(strength, 1e-6)
    # What differs, with both contrasts brought to 1.
    rest = np.zeros(first.smooth.shape, np.float32)
    rest[overlap] = x / max(float(x.std()), 1e-6) - y / max(float(y.std()), 1e-6)
    odd = float((np.abs(cv2.blur(rest, (3, 3)))[overlap] > 0.75).mean())
    colours = cv2.warpAffine(second.colour, inverse, size, flags=_BORDER)[overlap].astype(np.float32).mean(axis=0)
    apart = colours - first.colour[overlap].astype(np.float32).mean(axis=0)
    tint = float(np.abs(apart - apart.mean()).max())
    return Agreement(matrix, correlation, float(overlap.sum() / own.sum()), odd, tint)


def refined(first: Picture, second: Picture, matrix: np.ndarray, motion: int = cv2.MOTION_AFFINE) -> np.ndarray:
    """Return the map that makes brightness agree best near the one given (ECC: Evangelidis and Psarakis, 2008)."""
    start = cv2.invertAffineTransform(matrix).astype(np.float32)
    mask = _inside(first.smooth.shape, MARGIN).astype(np.uint8)
    try:
        _, found = cv2.findTransformECC(first.smooth, second.smooth, start, motion, (3, 20, 1e-3), mask, 3)
    except cv2.error:  # no overlap, or no contrast
        return matrix
    better: np.ndarray = cv2.invertAffineTransform(found.astype(np.float64))
    return better


def _inside(shape: tuple[int, ...], margin: int) -> np.ndarray:
    inside = np.zeros(shape[:2], bool)
    rows, columns = (side // margin if margin else 0 for side in shape[:2])
    inside[rows : shape[0] - rows, columns : shape[1] - columns] = True
    return inside
