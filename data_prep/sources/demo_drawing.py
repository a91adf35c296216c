"""Drawings of stained blood cells for the demo set, one cell per picture.

Colours overlap between the classes. What tells them apart is the shape of the nucleus, the size of the cell and its
granules. Orientation, stain, light and focus vary from picture to picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 96  # pixels
_SCALE = 2  # cells are drawn at twice the size, then shrunk, for smooth edges
_CANVAS = SIDE * _SCALE
_Circle = tuple[float, float, float]  # x, y and radius, in units of the cell's radius
_Colour = tuple[float, float, float]


@dataclass(frozen=True)
class CellKind:
    """Appearance of the cells of one class. A pair is a range from which values are drawn uniformly.

    Attributes:
        name: Name of the class.
        count: Number of cells in the demo set (BloodMNIST's class counts, scaled down).
        radius: Radius of the cell, in pixels.
        lobes: Number of lobes of the nucleus; 0 for a cell without a nucleus.
        lobe_radius: Radius of a lobe, in units of the cell's radius.
        arc: Angle in radians over which the lobes are spread; a wider arc sets them further apart.
        granules: Number of granules.
        granule_radius: Radius of a granule, in pixels.
        granule_colour: RGB, 0..255.
        smooth: Whether the lobes merge into one band, shaped like a kidney, instead of beads on a thread.
    """

    name: str
    count: int
    radius: tuple[float, float]
    lobes: tuple[int, int]
    lobe_radius: tuple[float, float]
    arc: tuple[float, float]
    granules: tuple[int, int]
    granule_radius: tuple[float, float]
    granule_colour: _Colour
    smooth: bool = False


_DARK, _ORANGE, _FINE, _VIOLET = (88, 52, 120), (205, 112, 104), (178, 118, 160), (132, 72, 140)

KINDS = (
    CellKind("basophil", 100, (18, 24), (2, 3), (0.42, 0.52), (1.2, 2.6), (18, 46), (1.0, 1.9), _DARK),
    CellKind("eosinophil", 255, (19, 25), (2, 3), (0.32, 0.44), (2.0, 3.2), (30, 70), (0.9, 1.6), _ORANGE),
    CellKind("erythroblast", 127, (12, 19), (1, 1), (0.45, 0.64), (0, 0), (0, 4), (0.5, 0.9), _FINE),
    CellKind("immature granulocyte", 237, (20, 28), (1, 3), (0.48, 0.64), (0.2, 1.3), (6, 40), (0.6, 1.1), _FINE, True),
    CellKind("lymphocyte", 99, (13, 20), (1, 1), (0.64, 0.84), (0, 0), (0, 5), (0.5, 0.9), _FINE),
    CellKind("monocyte", 116, (20, 28), (5, 8), (0.30, 0.42), (1.9, 3.6), (0, 10), (0.5, 0.9), _FINE, True),
    CellKind("neutrophil", 273, (18, 24), (3, 5), (0.24, 0.34), (2.6, 4.6), (10, 44), (0.6, 1.0), _FINE),
    CellKind("platelet", 192, (5, 10), (0, 0), (0, 0), (0, 0), (4, 12), (0.6, 1.3), _VIOLET),
)
"""Classes of the demo set. To add a class, add a row."""


def draw_cell(kind: CellKind, rng: np.random.Generator) -> np.ndarray:
    """Draw one cell.

    Args:
        kind: Class of the cell.
        rng: Source of all variation.

    Returns:
        uint8 (96, 96, 3), RGB.
    """
    image = Image.new("RGB", (_CANVAS, _CANVAS), _colour((232, 222, 216), rng, 8))
    draw = ImageDraw.Draw(image)
    _draw_red_cells(draw, rng)
    centre = _CANVAS / 2 + rng.normal(0, 5 * _SCALE, 2)
    radius = rng.uniform(*kind.radius) * rng.uniform(0.85, 1.15) * _SCALE
    turn = rng.uniform(0, 2 * np.pi)
    body = _colour((200, 188, 214), rng, 14) if kind.lobes[1] else _colour((176, 140, 186), rng, 14)
    _blob(draw, centre, radius, body, rng)
    nucleus = _colour((98, 62, 138), rng, 16)
    for x, y, size in _lobes(kind, rng):
        place = centre + radius * _turned(x, y, turn)
        _blob(draw, place, radius * size, nucleus, rng, wobble=0.06)
    _draw_granules(draw, kind, (centre, radius), rng)
    return _photographed(image, rng)


def draw_scene(colours: Sequence[_Colour], rng: np.random.Generator) -> np.ndarray:
    """Draw a picture that shows a face instead of a cell.

    Args:
        colours: RGB of skin, background and shirt, 0..255.

    Returns:
        uint8 (96, 96, 3), RGB.
    """
    skin, background, shirt = colours
    image = Image.new("RGB", (_CANVAS, _CANVAS), _colour(background, rng, 0))
    draw = ImageDraw.Draw(image)
    middle, unit = _CANVAS / 2, _CANVAS / 24
    draw.ellipse((middle - 9 * unit, 17 * unit, middle + 9 * unit, 34 * unit), fill=_colour(shirt, rng, 0))
    draw.ellipse((middle - 6 * unit, 4 * unit, middle + 6 * unit, 20 * unit), fill=_colour(skin, rng, 0))
    for sign in (-1, 1):
        eye = middle + sign * 2.4 * unit
        draw.ellipse((eye - unit, 9 * unit, eye + unit, 11 * unit), fill=(250, 250, 250))
        draw.ellipse((eye - unit / 2, 9.6 * unit, eye + unit / 2, 10.8 * unit), fill=(30, 30, 30))
    mouth = (middle - 3 * unit, 12 * unit, middle + 3 * unit, 17 * unit)
    draw.chord(mouth, 10, 170, fill=(120, 40, 40))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _draw_red_cells(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    """Draw red blood cells with pale centres at random places."""
    colour = np.array(_colour((222, 172, 168), rng, 12))
    for _ in range(rng.integers(3, 10)):
        place, size = rng.uniform(0, _CANVAS, 2), rng.uniform(13, 18) * _SCALE
        _blob(draw, place, size, _colour(colour, rng, 5), rng)
        _blob(draw, place, size * rng.uniform(0.3, 0.5), _colour(colour + 18, rng, 5), rng)


def _lobes(kind: CellKind, rng: np.random.Generator) -> list[_Circle]:
    """Return the nucleus as circles along an arc, in units of the cell's radius."""
    count = int(rng.integers(kind.lobes[0], kind.lobes[1] + 1))
    if count == 0:
        return []
    sizes = rng.uniform(*kind.lobe_radius, 1 if kind.smooth else count) * np.ones(count)
    if count == 1:
        away = rng.uniform(0, 0.9 - sizes[0])
        return [(away, 0.0, float(sizes[0]))]
    span = rng.uniform(*kind.arc)
    angles = np.linspace(-span / 2, span / 2, count)
    if not kind.smooth:
        angles = angles + rng.normal(0, 0.08, count)
    bend = 0.95 - sizes.max() if kind.smooth else 0.9 - sizes
    places = np.stack([bend * np.cos(angles), bend * np.sin(angles)], axis=1)
    circles = [(float(x), float(y), float(size)) for (x, y), size in zip(places, sizes, strict=True)]
    for (x0, y0), (x1, y1) in pairwise(places):  # small circles that join neighbouring lobes
        circles += [(x0 + part * (x1 - x0), y0 + part * (y1 - y0), 0.1) for part in (0.25, 0.5, 0.75)]
    return circles


def _draw_granules(
    draw: ImageDraw.ImageDraw, kind: CellKind, cell: tuple[np.ndarray, float], rng: np.random.Generator
) -> None:
    centre, radius = cell
    base = _colour(kind.granule_colour, rng, 18)
    for _ in range(int(rng.integers(kind.granules[0], kind.granules[1] + 1))):
        away, angle = radius * 0.92 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        x, y = centre + away * np.array([np.cos(angle), np.sin(angle)])
        size = rng.uniform(*kind.granule_radius) * _SCALE
        draw.ellipse((x - size, y - size, x + size, y + size), fill=_colour(base, rng, 10))


def _photographed(image: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Imitate a microscope photograph: shrink to SIDE pixels, and vary focus, stain, light and noise."""
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.4)))
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.55, 1.5) + rng.normal(0, 5, 3)
    pixels = (pixels - 128) * rng.uniform(0.75, 1.2) + 128
    slope, at = rng.normal(0, 0.08, 2), np.linspace(-1, 1, SIDE)
    pixels *= rng.uniform(0.85, 1.12) * (1 + slope[0] * at[:, None] + slope[1] * at[None, :])[..., None]
    pixels += rng.normal(0, rng.uniform(1.5, 6), pixels.shape)
    return np.asarray(np.clip(np.round(pixels), 0, 255), np.uint8)


def _blob(
    draw: ImageDraw.ImageDraw,
    centre: np.ndarray,
    radius: float,
    colour: tuple[int, int, int],
    rng: np.random.Generator,
    wobble: float = 0.05,
) -> None:
    """Draw a round shape with an uneven edge."""
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    edge = np.ones(36)
    for wave in (2, 3, 4):
        edge += rng.normal(0, wobble / wave) * np.cos(wave * angles + rng.uniform(0, 2 * np.pi))
    points = centre + radius * edge[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    draw.polygon([(float(x), float(y)) for x, y in points], fill=colour)


def _turned(x: float, y: float, angle: float) -> np.ndarray:
    return np.array([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)])


def _colour(base: Sequence[float] | np.ndarray, rng: np.random.Generator, spread: float) -> tuple[int, int, int]:
    red, green, blue = np.clip(np.asarray(base) + rng.normal(0, spread, 3), 0, 255).astype(int)
    return int(red), int(green), int(blue)
