"""Reading of picture files of several formats into RGB arrays. To read another format, add a row to FORMATS.

- The camera's orientation is applied.
- Transparency is dropped: the colours beneath are shown, not a background.
- 16 bits a channel are scaled to 8 by dividing by 257 (65535 becomes 255), rounded.
- If all values of a 16-bit picture are below 4096, it is assumed to come from a 12-bit camera and is scaled so that
  4095 becomes 255.
- Animated pictures and files of several pages are rejected, because it is unclear which picture is meant.
"""

import contextlib
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_prep.storage.machine import processors

MAX_PIXELS = 100_000_000
LARGE_PIXELS = 25_000_000  # larger pictures are decoded one at a time, since each takes some hundred MB meanwhile
TWELVE_BITS = 4095
TIFF_BITS = 258  # number of the tag BitsPerSample
_AHEAD = 64  # pictures read ahead of the caller, at most
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # at most 8 bits a channel
_SWAPPED = {"L": "B", "B": "L", "N": "B" if np.little_endian else "L"}  # Pillow's byte-order letter -> the other order
_one_large = threading.Lock()


@dataclass(frozen=True)
class PictureFormat:
    """A format of picture files.

    Attributes:
        name: Common name, for messages.
        pillow: Pillow's name.
        suffixes: Suffixes of its files, lower case. They mark a file as a picture; its content decides the format.
    """

    name: str
    pillow: str
    suffixes: tuple[str, ...]


FORMATS = (
    PictureFormat("JPEG", "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    PictureFormat("PNG", "PNG", (".png",)),
    PictureFormat("BMP", "BMP", (".bmp",)),
    PictureFormat("TIFF", "TIFF", (".tif", ".tiff")),
    PictureFormat("WebP", "WEBP", (".webp",)),
)
FORMAT_NAMES = ", ".join(row.name for row in FORMATS[:-1]) + f" or {FORMATS[-1].name}"
SUFFIXES = frozenset(suffix for row in FORMATS for suffix in row.suffixes)
_PILLOW = tuple(row.pillow for row in FORMATS)


def read_pictures(paths: Iterable[Path], image_size: int) -> Iterator[np.ndarray | str]:
    """Yield the result of `read_picture` for each path, in order.

    Several threads read at most _AHEAD pictures ahead of the caller.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(processors() + 4) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; real problems are raised as errors
        waiting: deque[Future[np.ndarray | str]] = deque()
        for path in paths:
            waiting.append(pool.submit(read_picture, path, image_size))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_picture(path: Path, image_size: int) -> np.ndarray | str:
    """Read a picture, crop it to its central square and resize it (Lanczos, aspect kept).

    Returns:
        uint8 (image_size, image_size, 3), or the reason why the picture cannot be read.
    """
    picture = open_picture(path)
    if isinstance(picture, str):
        return picture
    return fit(picture, (image_size, image_size))


def fit(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Crop the largest central part of an RGB picture that has the aspect of `size`, and resize it.

    Args:
        picture: RGB.
        size: (width, height) in pixels.

    Returns:
        uint8 (h, w, 3).
    """
    return np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS))


def open_picture(path: Path) -> Image.Image | str:
    """Open a picture as RGB by the rules at the top of this file.

    Returns:
        The picture, or the reason why it cannot be read.
    """
    # Pillow gets an open file, not a path: from a path it memory-maps the pixels, and then rotates TIFFs wrongly.
    try:
        if reason := not_a_file(path):
            return reason
        with path.open("rb") as file, Image.open(file, formats=_PILLOW) as picture:
            if reason := _refused(picture):
                return reason
            large = picture.width * picture.height > LARGE_PIXELS
            with _one_large if large else contextlib.nullcontext():
                return _converted(picture, file)
    except FileNotFoundError:
        return "no such file"
    except Image.DecompressionBombError:
        return f"more than {MAX_PIXELS:,} pixels"
    except UnidentifiedImageError:
        return f"not a {FORMAT_NAMES} picture" if path.stat().st_size else "empty file"
    except Exception as error:  # Pillow raises errors of many classes for damaged files
        return f"damaged ({' '.join(str(error).split()) or type(error).__name__})"


def not_a_file(path: Path) -> str:
    """Return why a path is not a file that can be opened; empty if it is one.

    Pipes and devices are rejected without opening them, because that could block for ever.
    """
    try:
        if path.is_file():
            with path.open("rb"):
                return ""
        if path.is_symlink() and not path.exists():
            return f"a link to what is not there ({path.readlink()})"
        if path.is_dir():
            return "a folder, not a picture"
        return "neither a file nor a folder" if path.exists() else "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def _refused(picture: Image.Image) -> str:
    """Return why a picture that Pillow recognised is rejected; empty if it is not."""
    if picture.width * picture.height > MAX_PIXELS:
        return f"{picture.width}x{picture.height} is more than {MAX_PIXELS:,} pixels"
    # An MPO of a camera is a JPEG followed by further views. Pillow reads the first, as every viewer does.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        return "several pages" if picture.format == "TIFF" else "animated"
    if picture.mode not in _MODES and not _sixteen_bits_grey(picture):
        return f"neither 8 nor 16 bits per channel, or unknown colours (mode {picture.mode})"
    if _unread_sixteen_bits(picture):
        return "16 bits per channel in an unusual layout: save it as RGB, RGBA or grey, with interleaved channels"
    return ""


def _converted(picture: Image.Image, file: IO[bytes]) -> Image.Image:
    if _sixteen_bits_grey(picture):
        return Image.fromarray(_eight_bits(np.asarray(_upright(picture)))).convert("RGB")
    swapped = [_swapped(tile.args) for tile in getattr(picture, "tile", ())]
    upright = _upright(picture)
    if swapped and all(swapped):  # Pillow keeps only upper bytes; with swapped byte order it keeps the lower ones
        with Image.open(file, formats=_PILLOW) as again:
            tiles = zip(again.tile, swapped, strict=True)
            again.tile = [tile._replace(args=args) for tile, args in tiles]
            lower = np.asarray(_upright(again).convert("RGB"), np.uint16)
        upper = np.asarray(upright.convert("RGB"), np.uint16)
        return Image.fromarray(_eight_bits(upper << 8 | lower))
    return (upright.convert("RGBA") if upright.mode in ("P", "PA") else upright).convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(picture)


def _sixteen_bits_grey(picture: Image.Image) -> bool:
    return picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")


def _unread_sixteen_bits(picture: Image.Image) -> bool:
    """Return whether a picture has 16 bits per channel in a layout that this module cannot read."""
    tiles = [tile.args for tile in getattr(picture, "tile", ())]
    bits = getattr(picture, "tag_v2", {}).get(TIFF_BITS, ())
    deep = 16 in (bits if isinstance(bits, tuple) else (bits,)) or any(";16" in str(args) for args in tiles)
    return deep and not _sixteen_bits_grey(picture) and not all(_swapped(args) for args in tiles)


def _swapped(args: Any) -> Any:
    """Return a tile's arguments with the byte order of its 16-bit RGB or RGBA values swapped; None if it has none."""
    raw, rest = (args, None) if isinstance(args, str) else (args[0], args[1:]) if isinstance(args, tuple) else ("", ())
    layout, _, order = str(raw).partition(";16")
    if layout not in ("RGB", "RGBA", "RGBX") or order not in _SWAPPED:
        return None
    other = f"{layout};16{_SWAPPED[order]}"
    return other if rest is None else (other, *rest)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit values to uint8; if all of them fit into 12 bits, scale from 12 bits."""
    top = TWELVE_BITS if values.max(initial=0) <= TWELVE_BITS else 65535
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
