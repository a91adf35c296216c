"""Find near copies by another way than near_copies.py: overall texture suggests pairs, whole pictures are laid over
each other by phase correlation, and brightness is aligned without keypoints.

`check` uses it, so that what one way overlooks the other may find. It asks for more than near_copies.py does, so that
it finds no fault with a set that is sound.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from data_prep.cleaning import alignment
from data_prep.cleaning.near_copies import Sameness
from data_prep.cleaning.pictures import Picture

_SIDE, _NEIGHBOURS, _ROWS = 48, 12, 1024
_SURE = Sameness(0.97, 0.3, 0.02, 32.0)
_WHOLE = Sameness(0.99, 0.8, 0.005, 24.0)
_STRONG_EDGES = 12.0  # mean gradient in grey levels per pixel below which a picture has little to go by
_WINDOW = np.outer(np.hanning(_SIDE), np.hanning(_SIDE)).astype(np.float32)


def same_pictures(images: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs (i in `images`, j in `others`) that show the same picture; both are uint8 (n, h, w, 3)."""
    if not len(images) or not len(others):
        return
    ours, theirs = _textures(images), _textures(others)
    both = np.concatenate([ours, theirs])
    mean, spread = both.mean(axis=0), both.std(axis=0) + 1e-6
    ours, theirs = (ours - mean) / spread, (theirs - mean) / spread
    count = min(_NEIGHBOURS, len(others))
    length = (theirs**2).sum(axis=1)
    for start in range(0, len(ours), _ROWS):
        apart = length - 2 * ours[start : start + _ROWS] @ theirs.T
        near = np.argpartition(apart, count - 1, axis=1)[:, :count]
        for place, those in enumerate(near, start):
            picture = _small(images[place])
            if picture.is_blank:
                continue
            yield from ((place, int(other)) for other in np.sort(those) if _same(picture, _small(others[other])))


def _small(image: np.ndarray) -> Picture:
    return Picture(cv2.resize(np.ascontiguousarray(image), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))


def _textures(images: np.ndarray) -> np.ndarray:
    """Return numbers that mirroring and right angles do not change, and shifts and light change little."""
    return np.array([_texture(_small(image).grey.astype(np.float32)) for image in images], np.float32)


def _texture(grey: np.ndarray) -> np.ndarray:
    grey = (grey - grey.mean()) / max(float(grey.std()), 1.0)
    layers = [grey]
    for width in (1.0, 2.0, 4.0):
        soft = cv2.GaussianBlur(grey, (0, 0), width)
        layers.append(np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)))
        layers.append(soft - cv2.GaussianBlur(soft, (0, 0), 1.6 * width))
    inner = slice(_SIDE // 4, -_SIDE // 4)
    numbers = [number for layer in layers for number in (layer.mean(), layer.std(), layer[inner, inner].mean())]
    shares = np.quantile(grey, np.linspace(0.05, 0.95, 10))
    return np.array([*numbers, *shares], np.float32)


def _same(first: Picture, second: Picture) -> bool:
    if second.is_blank:
        return False
    target = np.fft.rfft2((first.smooth - first.smooth.mean()) * _WINDOW)
    best = max(
        (_laid_over(target, second, way) for way in alignment.orientations(first.smooth.shape, second.smooth.shape)),
        key=lambda found: found[0],
    )[1]
    agreement = alignment.compared(first, second, best)
    if agreement.correlation < 0.5:
        return False
    matrix = alignment.refined(first, second, best)
    plain = float(np.abs(np.diff(first.smooth, axis=0)).mean()) < _STRONG_EDGES
    rule, margin = (_WHOLE, 0) if plain else (_SURE, alignment.MARGIN)
    return any(rule.holds(alignment.compared(first, second, one, margin)) for one in (best, matrix))


def _laid_over(target: np.ndarray, second: Picture, way: np.ndarray) -> tuple[float, np.ndarray]:
    """Return how well a turned picture fits where it fits best, and the map that puts it there."""
    turned = cv2.warpAffine(second.smooth, way, (_SIDE, _SIDE))
    spectrum = target * np.conj(np.fft.rfft2((turned - turned.mean()) * _WINDOW))
    response = np.fft.irfft2(spectrum / np.sqrt(np.abs(spectrum) + 1e-6), (_SIDE, _SIDE))
    y, x = (int(at) for at in np.unravel_index(int(response.argmax()), response.shape))
    shift = [at - _SIDE if at > _SIDE // 2 else at for at in (x, y)]
    return float(response[y, x]), way + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
