"""Pictures of many formats to RGB arrays. To read a further format, add a row to FORMATS.

Rules: the camera's orientation is applied. Transparency is dropped: the colours beneath are shown, not a background.
16 bits a channel are scaled to 8 by dividing by 257 (65535 becomes 255), rounded; a 16-bit picture whose values all
stay below 4096 is taken for one of a 12-bit camera and scaled so that 4095 becomes 255. Moving pictures and files of
several pages are refused, as nobody knows which picture is meant.
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

MAX_PIXELS = 100_000_000
LARGE_PIXELS = 25_000_000  # such pictures are decoded one at a time: each takes some hundred MB meanwhile
TWELVE_BITS = 4095
TIFF_BITS = 258  # the tag BitsPerSample
_AHEAD = 64  # pictures read before they are asked for, at most
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # 8 bits or fewer a channel
_SWAPPED = {"L": "B", "B": "L", "N": "B" if np.little_endian else "L"}  # byte orders, as Pillow's raw modes have them
_one_large = threading.Lock()


@dataclass(frozen=True)
class PictureFormat:
    """A format of pictures.

    Attributes:
        name: as people call it.
        pillow: Pillow's name for it.
        suffixes: of files, lower case. They tell what a file is meant to be; what it is, its content tells.
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
    """`read_picture` of each, in order, by several threads, few of them ahead of what is asked for."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what matters comes as an error
        waiting: deque[Future[np.ndarray | str]] = deque()
        for path in paths:
            waiting.append(pool.submit(read_picture, path, image_size))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_picture(path: Path, image_size: int) -> np.ndarray | str:
    """One picture as uint8 (image_size, image_size, 3), or the reason why it cannot be read.

    The central square is cropped, then resized (Lanczos, aspect kept).
    """
    picture = open_picture(path)
    if isinstance(picture, str):
        return picture
    return fit(picture, (image_size, image_size))


def fit(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The middle of an RGB picture, as large as its aspect allows, at (width, height) pixels: uint8 (h, w, 3)."""
    return np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS))


def open_picture(path: Path) -> Image.Image | str:
    """One picture in RGB, by the rules above, or the reason why it cannot be read."""
    # Pillow gets a file and not a path: it maps the pixels of a path into memory, and turns such TIFFs wrongly.
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
    except Exception as error:  # Pillow raises many kinds on broken files; each is the picture's fault
        return f"damaged ({' '.join(str(error).split()) or type(error).__name__})"


def not_a_file(path: Path) -> str:
    """Why there is no file to be opened at a path, which might even wait for ever; empty where there is one."""
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
    """Why a picture that Pillow recognised is not decoded; empty where it is."""
    if picture.width * picture.height > MAX_PIXELS:
        return f"{picture.width}x{picture.height} is more than {MAX_PIXELS:,} pixels"
    # A camera's MPO is a JPEG with further views behind it: Pillow shows the first, as every viewer does.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        return "several pages" if picture.format == "TIFF" else "animated"
    if picture.mode not in _MODES and not _sixteen_bits_grey(picture):
        return f"neither 8 nor 16 bits a channel, or unknown colours (mode {picture.mode})"
    if _unread_sixteen_bits(picture):
        return "16 bits a channel in an unusual layout: save it as RGB, RGBA or grey, channels beside each other"
    return ""


def _converted(picture: Image.Image, file: IO[bytes]) -> Image.Image:
    if _sixteen_bits_grey(picture):
        return Image.fromarray(_eight_bits(np.asarray(_upright(picture)))).convert("RGB")
    swapped = [_swapped(tile.args) for tile in getattr(picture, "tile", ())]
    upright = _upright(picture)
    if swapped and all(swapped):  # Pillow gives the upper bytes alone; read with bytes swapped, the lower ones
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
    """Whether Pillow would give the upper bytes alone, or worse, and there is no way to the lower ones."""
    tiles = [tile.args for tile in getattr(picture, "tile", ())]
    bits = getattr(picture, "tag_v2", {}).get(TIFF_BITS, ())
    deep = 16 in (bits if isinstance(bits, tuple) else (bits,)) or any(";16" in str(args) for args in tiles)
    return deep and not _sixteen_bits_grey(picture) and not all(_swapped(args) for args in tiles)


def _swapped(args: Any) -> Any:
    """A tile's arguments with the other byte order of its 16-bit RGB or RGBA values; None where it has no such."""
    raw, rest = (args, None) if isinstance(args, str) else (args[0], args[1:]) if isinstance(args, tuple) else ("", ())
    layout, _, order = str(raw).partition(";16")
    if layout not in ("RGB", "RGBA", "RGBX") or order not in _SWAPPED:
        return None
    other = f"{layout};16{_SWAPPED[order]}"
    return other if rest is None else (other, *rest)


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Values of 16 bits as uint8, those of 12 bits by their own scale."""
    top = TWELVE_BITS if values.max(initial=0) <= TWELVE_BITS else 65535
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
