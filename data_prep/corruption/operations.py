"""The corruptions on which models are scored.

To add one, add a row to CORRUPTIONS and a function like the ones below. A model must not be scored on changes that it
was trained on: no row's kind is one of TRAINING_KINDS, and no two rows share a kind, name or function. Rows used by the
test set are never used while a model is chosen.

Lengths are shares of the image's shorter side. Blurs are about as strong as severities 2, 3-4 and 5 of ImageNet-C
(Hendrycks and Dietterich 2019, arXiv 1903.12261; 224 pixels). Noise, JPEG and pixelation are weaker than there, because
they hurt small images more. A cell's outline and nucleus are visible at every strength.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from data_prep.corruption.transforms import transformed

VALIDATION, TEST = "validation", "test"

TRAINING_KINDS = (
    *("autocontrast", "equalize", "posterize", "solarize", "brightness", "contrast", "saturation", "gaussian noise"),
    *("shear", "translation", "rotation", "scale", "flip", "mask", "channel shift", "colour temperature", "grey"),
    *("inversion", "mixing of images"),
)
"""Kinds of change that training may apply to images."""


@dataclass(frozen=True)
class Corruption:
    """A row of CORRUPTIONS.

    Attributes:
        name: name in tables and files.
        family: name of the family, whose corruptions are reported together.
        kind: kind of change; it is in no other row and not in TRAINING_KINDS.
        used_by: "validation" (corrupts validation images, to score trials, and test images) or "test" (corrupts test
            images only, at export and evaluation).
        strengths: three strengths, rising.
        apply: (image uint8 (h, w, 3) RGB 0..255, strength, generator) -> uint8 (h, w, 3). The same generator state
            gives the same picture, and random draws do not depend on the strength.
    """

    name: str
    family: str
    kind: str
    used_by: str
    strengths: tuple[float, float, float]
    apply: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def impulse_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Turn pixels white or black, in equal parts; strength: share of all pixels."""
    return transformed(image, rng, "SaltAndPepper", amount=(strength, strength), salt_vs_pepper=(0.5, 0.5))


def gaussian_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian; strength: standard deviation as a share of the shorter side.

    0.4 pixels are added to it, so that small images change too.
    """
    return _uint8(cv2.GaussianBlur(image, (0, 0), 0.4 + strength * _side(image)))


def jpeg(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Compress as JPEG; strength: 100 - quality."""
    quality = round(100 - strength)
    return transformed(image, rng, "ImageCompression", compression_type="jpeg", quality_range=(quality, quality))


def pixelate(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Replace blocks of pixels by their mean; strength: block side as a share of the shorter side, plus one pixel."""
    height, width = image.shape[:2]
    block = 1 + strength * _side(image)
    blocks = max(1, round(width / block)), max(1, round(height / block))
    small = cv2.resize(image, blocks, interpolation=cv2.INTER_AREA)
    return _uint8(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def gamma(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Apply a gamma curve; strength: the exponent, or with probability 0.5 its reciprocal."""
    exponent = strength if rng.random() < 0.5 else 1 / strength
    return _uint8(cv2.LUT(image, _uint8(255 * (np.arange(256) / 255) ** exponent)))


def hue_rotation(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate the hue in either direction; strength: degrees, 0..180."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    steps = round(strength / 2) * int(rng.choice((-1, 1)))  # steps of 2 degrees, as OpenCV's hue is 0..179
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + steps) % 180
    return _uint8(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def channel_swap(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Mix the image with a copy whose colour channels are reordered; strength: share of that copy, 0..1."""
    orders = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    swapped = image[..., list(orders[rng.integers(len(orders))])].astype(np.float32)
    return _uint8(image + strength * (swapped - image))


def perspective(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Show the image at a slant; strength: largest shift of the visible part's corners, as a share of each side."""
    height, width = image.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    shown = corners + rng.uniform(-1, 1, (4, 2)) * strength * (width, height)
    matrix = cv2.getPerspectiveTransform(shown.astype(np.float32), corners)
    return _uint8(cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101))


def shot_noise(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add Poisson noise; strength: 1 / number of photons of a white pixel."""
    return _uint8(rng.poisson(image / (255 * strength)) * (255 * strength))


def speckle(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise in proportion to brightness; strength: standard deviation as a share of the brightness."""
    return _uint8(image * (1 + strength * rng.standard_normal(image.shape, np.float32)))


def defocus(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a disc; strength: its radius as a share of the shorter side, plus half a pixel."""
    radius = 0.5 + strength * _side(image)
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return _filtered(image, disc)


def motion_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Blur along a line of random direction; strength: its length as a share of the shorter side."""
    angle, half = rng.uniform(0, np.pi), strength * _side(image) / 2
    reach = int(np.ceil(half))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    line = np.clip(half + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return _filtered(image, line)


def zoom_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Average the image with enlargements of it; strength: largest magnification, less 1."""
    height, width = image.shape[:2]
    total = np.zeros(image.shape, np.float32)
    factors = 1 + strength * np.linspace(0, 1, 12)
    for factor in factors:
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factor)
        total += cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return _uint8(total / len(factors))


def elastic(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Move pixels by smooth noise; strength: standard deviation of the displacement, as a share of the shorter side."""
    sigma = max(1.0, 0.05 * _side(image))
    smoothed = 1 / (np.sqrt(3) * 2 * np.sqrt(np.pi) * sigma)  # standard deviation of uniform noise -1..1 after the blur
    alpha = strength * _side(image) / smoothed
    return transformed(
        image, rng, "ElasticTransform", alpha=alpha, sigma=sigma, border_mode=cv2.BORDER_REFLECT_101, approximate=False
    )


def uneven_illumination(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Darken one side and brighten the other; strength: the factor goes from 1 - strength to 1 + strength."""
    height, width = image.shape[:2]
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = (x * np.cos(angle) + y * np.sin(angle)) / (abs(np.cos(angle)) + abs(np.sin(angle)))
    return _uint8(image * (1 + strength * slope)[..., None])


def stain_deposit(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Draw three dark blots of dye; strength: their mean radius as a share of the shorter side."""
    height, width = image.shape[:2]
    out = image.astype(np.float32)
    for _ in range(3):
        centre = rng.uniform(0.15, 0.85, 2) * (width, height)
        blot = blot_mask(image.shape[:2], centre, strength * _side(image), rng)[..., None]
        out += blot * (rng.uniform((40, 0, 50), (90, 40, 110)).astype(np.float32) - out)
    return _uint8(out)


def bubble(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Draw eight air bubbles, bright with a dark rim; strength: largest radius as a share of the shorter side."""
    height, width = image.shape[:2]
    y, x = np.ogrid[:height, :width]
    veil, rims = np.ones((2, height, width, 1), np.float32)
    for _ in range(8):
        across, down = rng.uniform(0, 1, 2) * (width, height)
        radius = strength * _side(image) * rng.uniform(0.5, 1)
        distance = np.sqrt((x - across) ** 2 + (y - down) ** 2, dtype=np.float32)[..., None]
        veil *= 1 - 0.5 * np.clip(radius + 0.5 - distance, 0, 1)
        rims *= 1 - 0.6 * np.clip(1 - np.abs(distance - radius) / (0.012 * _side(image) + 0.5), 0, 1)
    return _uint8((255 - (255 - image) * veil) * rims)


def blot_mask(shape: tuple[int, ...], centre: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return a filled shape with an irregular outline: float32 (h, w), 0..1.

    Args:
        shape: (h, w).
        centre: (x, y) in pixels.
        radius: mean distance of the outline from the centre, in pixels.
        rng: random generator of the three waves around the outline.
    """
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves, heights = np.array([2, 3, 5])[:, None], np.array([0.25, 0.2, 0.12])[:, None]
    outline = radius * (1 + (heights * np.cos(waves * angles + rng.uniform(0, 2 * np.pi, (3, 1)))).sum(0))
    points = np.stack([centre[0] + outline * np.cos(angles), centre[1] + outline * np.sin(angles)], axis=1)
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)  # in sixteenths of pixels
    return mask / np.float32(255)


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("impulse noise", "noise", "replaced pixels", VALIDATION, (0.03, 0.08, 0.2), impulse_noise),
    Corruption("Gaussian blur", "blur", "bell-shaped blur", VALIDATION, (0.006, 0.012, 0.021), gaussian_blur),
    Corruption("JPEG", "compression", "block coding", VALIDATION, (75, 85, 91), jpeg),
    Corruption("pixelation", "compression", "coarse pixels", VALIDATION, (0.006, 0.02, 0.036), pixelate),
    Corruption("gamma", "colour", "tone curve", VALIDATION, (1.5, 2.2, 3.2), gamma),
    Corruption("hue rotation", "colour", "hue", VALIDATION, (30, 70, 140), hue_rotation),
    Corruption("channel swap", "colour", "channel order", VALIDATION, (1 / 3, 2 / 3, 1), channel_swap),
    Corruption("perspective", "geometry", "perspective", VALIDATION, (0.1, 0.19, 0.28), perspective),
    Corruption("shot noise", "noise", "photon noise", TEST, (0.02, 0.07, 0.2), shot_noise),
    Corruption("speckle", "noise", "multiplied noise", TEST, (0.12, 0.25, 0.45), speckle),
    Corruption("defocus", "blur", "disc-shaped blur", TEST, (0.013, 0.026, 0.04), defocus),
    Corruption("motion blur", "blur", "line-shaped blur", TEST, (0.06, 0.1, 0.15), motion_blur),
    Corruption("zoom blur", "blur", "radial blur", TEST, (0.1, 0.2, 0.32), zoom_blur),
    Corruption("elastic deformation", "geometry", "smooth displacement", TEST, (0.018, 0.03, 0.045), elastic),
    Corruption("uneven illumination", "lighting", "slope of light", TEST, (0.35, 0.6, 0.9), uneven_illumination),
    Corruption("stain deposit", "occlusion", "dark blots", TEST, (0.06, 0.1, 0.14), stain_deposit),
    Corruption("bubble", "occlusion", "bright discs", TEST, (0.06, 0.1, 0.15), bubble),
)


def used(used_by: str) -> tuple[Corruption, ...]:
    """Return the rows of CORRUPTIONS used by "validation" or "test", in order."""
    return tuple(row for row in CORRUPTIONS if row.used_by == used_by)


def families(used_by: str) -> tuple[str, ...]:
    """Return the family names of the rows used by "validation" or "test", each once, in order."""
    return tuple(dict.fromkeys(row.family for row in used(used_by)))


def _side(image: np.ndarray) -> int:
    return int(min(image.shape[:2]))


def _uint8(values: Any) -> np.ndarray:
    """Round and clip values to 0..255."""
    array = np.asarray(values)
    return array if array.dtype == np.uint8 else np.clip(np.rint(array), 0, 255).astype(np.uint8)


def _filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return _uint8(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101))
