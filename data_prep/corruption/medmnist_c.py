"""MedMNIST-C's list for BloodMNIST (Di Salvo et al. 2024, arXiv 2406.17536): eleven corruptions at five severities.

Use it to compare results with published ones. To score models while choosing among them, use
data_prep/corruption/operations.py.

The list was designed for 224 pixels. Here, radii, sigmas and spot sizes are scaled to the image's shorter side;
factors, qualities and numbers of spots are as published. The original's unseeded draws use a generator here, and its
scanned ink spots are replaced by drawn blots of the same sizes.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from data_prep.corruption.operations import blot_mask
from data_prep.errors import DataError

SEVERITIES = (1, 2, 3, 4, 5)
DESIGN_SIDE = 224  # side in pixels of the images that the list was designed for

REFERENCE_CLEAN_ERROR = 0.0184
"""AlexNet's published balanced error on the clean test set."""


@dataclass(frozen=True)
class PublishedCorruption:
    """A row of CORRUPTIONS_BY_SEVERITY.

    Attributes:
        apply: (image uint8 (h, w, 3) RGB, parameter, generator) -> uint8 (h, w, 3).
        parameters: parameter of `apply` at severities 1 to 5.
        reference_error: AlexNet's published balanced error (1 - balanced accuracy), averaged over the severities.
    """

    apply: Callable[[np.ndarray, Any, np.random.Generator], np.ndarray]
    parameters: tuple[Any, Any, Any, Any, Any]
    reference_error: float


def corrupt(image: np.ndarray, name: str, severity: int, rng: np.random.Generator) -> np.ndarray:
    """Return a corrupted version of one image.

    Args:
        image: uint8 (h, w, 3), RGB, 0..255.
        name: key of CORRUPTIONS_BY_SEVERITY.
        severity: 1 to 5.
        rng: random generator of angles, places and sizes, for corruptions that draw them.

    Returns:
        uint8 (h, w, 3).

    Raises:
        DataError: the corruption or the severity does not exist.
    """
    if name not in CORRUPTIONS_BY_SEVERITY:
        raise DataError(f"corruption must be one of {', '.join(CORRUPTIONS_BY_SEVERITY)}, but is {name}")
    if severity not in SEVERITIES:
        raise DataError(f"severity must be 1 to 5, but is {severity}")
    row = CORRUPTIONS_BY_SEVERITY[name]
    return row.apply(image, row.parameters[severity - 1], rng)


def _pixelate(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    picture = Image.fromarray(image)
    small = picture.resize((int(picture.width * factor), int(picture.height * factor)), Image.Resampling.BOX)
    return np.array(small.resize(picture.size, Image.Resampling.BOX))


def _jpeg(image: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def _defocus(image: np.ndarray, parameter: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Blur with a disc; parameter: radius in pixels at 224, and sigma of the blur that smooths the disc's edge."""
    radius, sigma = parameter[0] * _scale(image), parameter[1]
    reach = int(np.ceil(radius)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = cv2.GaussianBlur(np.clip(radius + 0.5 - np.hypot(x, y), 0, 1), (3, 3), sigma)
    return cv2.filter2D(image, -1, disc / disc.sum()).astype(np.uint8)


def _motion_blur(image: np.ndarray, parameter: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Blur as ImageMagick does, to one side only: 2 radius + 1 samples with Gaussian weights, in a direction within 45
    degrees of the horizontal; parameter: radius and sigma in pixels at 224.
    """
    radius, sigma = parameter
    angle = np.deg2rad(rng.uniform(-45, 45))
    steps = np.arange(2 * int(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    across, down = (steps * _scale(image) * part for part in (np.cos(angle), np.sin(angle)))
    reach = int(np.ceil(steps[-1] * _scale(image)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = np.clip(1 - np.abs(x[..., None] - across), 0, 1) * np.clip(1 - np.abs(y[..., None] - down), 0, 1)
    kernel = near @ weights
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE).astype(np.uint8)


def _brightness(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return np.array(ImageEnhance.Brightness(Image.fromarray(image)).enhance(factor))


def _contrast(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return np.array(ImageEnhance.Contrast(Image.fromarray(image)).enhance(factor))


def _saturate(image: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = np.clip(hsv[..., 1] + added, 0, 1)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


_BLOT_RADIUS = 0.4  # share of the square's side; a blot then covers 0.6 of the square, as the original's ink spots do


def _stain_deposit(image: np.ndarray, parameter: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Draw one or more black blots; parameter: largest number, and side of a blot's square in pixels at 224."""
    most, side = parameter
    out = image.astype(np.float32)
    size, height, width = side * _scale(image), *image.shape[:2]
    margin = size / 2 + 10 * _scale(image)
    for _ in range(rng.integers(1, most + 1)):
        centre = rng.uniform((margin, margin), (width - margin, height - margin))
        out *= 1 - blot_mask(image.shape[:2], centre, _BLOT_RADIUS * size, rng)[..., None]
    return np.rint(out).astype(np.uint8)


def _bubble(image: np.ndarray, parameter: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw 7 or more white discs that let 61 % of the image through, with rims that let 49 % through.

    Parameter: largest radius in pixels at 224, and largest number of discs.
    """
    largest, most = parameter
    height, width = (round(side / _scale(image)) for side in image.shape[:2])
    veil = Image.new("L", (width, height))
    draw = ImageDraw.Draw(veil)
    for _ in range(rng.integers(7, most + 1)):
        radius = int(rng.integers(3, largest + 1))
        x, y = int(rng.integers(radius, width - radius + 1)), int(rng.integers(radius, height - radius + 1))
        for reach, alpha in ((radius + 2, 130), (radius, 100)):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=alpha)
    opaque = np.asarray(veil.resize(image.shape[1::-1], Image.Resampling.BOX), np.float32)[..., None] / 255
    return np.rint(image + opaque * (255.0 - image)).astype(np.uint8)


def _scale(image: np.ndarray) -> float:
    """Return the factor from pixels at 224 to pixels of this image."""
    return float(min(image.shape[:2]) / DESIGN_SIDE)


CORRUPTIONS_BY_SEVERITY: Mapping[str, PublishedCorruption] = MappingProxyType(
    {
        "pixelate": PublishedCorruption(_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), 0.0598),
        "jpeg_compression": PublishedCorruption(_jpeg, (50, 30, 15, 10, 7), 0.1398),
        "defocus_blur": PublishedCorruption(_defocus, ((2, 0.01), (3, 0.1), (4, 0.1), (5, 0.1), (6, 0.1)), 0.2240),
        "motion_blur": PublishedCorruption(_motion_blur, ((3, 3), (5, 5), (10, 5), (10, 7), (10, 9)), 0.1845),
        "brightness_up": PublishedCorruption(_brightness, (1.1, 1.2, 1.3, 1.35, 1.4), 0.0695),
        "brightness_down": PublishedCorruption(_brightness, (0.9, 0.8, 0.7, 0.6, 0.5), 0.0790),
        "contrast_up": PublishedCorruption(_contrast, (1.1, 1.15, 1.2, 1.25, 1.3), 0.0522),
        "contrast_down": PublishedCorruption(_contrast, (0.9, 0.8, 0.7, 0.6, 0.5), 0.0797),
        "saturate": PublishedCorruption(_saturate, (0.05, 0.10, 0.15, 0.17, 0.20), 0.0348),
        "stain_deposit": PublishedCorruption(_stain_deposit, ((1, 24), (2, 24), (3, 24), (3, 24), (3, 32)), 0.1854),
        "bubble": PublishedCorruption(_bubble, ((5, 10), (7, 10), (10, 10), (12, 12), (15, 12)), 0.1290),
    }
)
"""The list, by name of the corruption: function, parameters (lengths in pixels at 224) and reference error."""

REFERENCE_ERRORS: Mapping[str, float] = MappingProxyType(
    {name: row.reference_error for name, row in CORRUPTIONS_BY_SEVERITY.items()}
)
"""AlexNet's balanced error by name of the corruption, the reference of relative errors."""
