"""Labelled images from a folder with a folder of pictures per class."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_prep.errors import DataError
from data_prep.images import LabelledImages, Unreadable
from data_prep.progress import Progress
from data_prep.spill import spilled

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 100_000_000
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits or fewer a channel


def pictures(folder: Path) -> list[tuple[str, Path]]:
    """(class/file, path) of every file in the class folders, sorted. Hidden files and folders are left out.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        return [(f"{path.parent.name}/{path.name}", path) for kind in class_folders(folder) for path in _visible(kind)]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error


def class_folders(folder: Path) -> list[Path]:
    """The folders of the classes, sorted by name. DataError for a name that is no text: no file could tell of it."""
    folders = [path for path in _visible(folder) if path.is_dir()]
    for path in folders:
        if any("\ud800" <= sign <= "\udfff" for sign in path.name):
            raise DataError(f"the folder name {path.name!r} in {folder} is no readable text: rename the folder")
    return folders


def _visible(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: path.name)


def read_folder(folder: Path, image_size: int, progress: Progress) -> LabelledImages:
    """Pictures, cropped to the central square and resized; classes are the folders' names.

    Unreadable pictures are listed with the reason, the rest goes on.

    Returns:
        Images (n, image_size, image_size, 3).

    Raises:
        DataError: no class folders, or a folder that cannot be listed.
    """
    found = pictures(folder)
    class_names = tuple(path.name for path in class_folders(folder))
    if not class_names:
        raise DataError(f"{folder} has no folders in it: put the pictures into a folder per class, named as the class")
    progress.start("reading pictures", len(found))
    shape = (len(found), image_size, image_size, 3)
    images = spilled(shape)
    images = np.empty(shape, np.uint8) if images is None else images
    names: list[str] = []
    labels: list[int] = []
    unreadable: list[Unreadable] = []
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; what matters comes as an error
        read = pool.map(lambda item: read_picture(item[1], image_size), found)
        for (name, path), picture in zip(found, read, strict=True):
            progress.advance(1)
            if isinstance(picture, str):
                unreadable.append(Unreadable(name, picture))
                continue
            images[len(names)] = picture
            names.append(name)
            labels.append(class_names.index(path.parent.name))
    return LabelledImages(
        images[: len(names)], np.array(labels, np.int64), class_names, tuple(names), tuple(unreadable)
    )


def read_picture(path: Path, image_size: int) -> np.ndarray | str:
    """One picture as uint8 (image_size, image_size, 3), or the reason why it cannot be read.

    The central square is cropped, then resized (Lanczos, aspect kept).
    """
    picture = open_picture(path)
    if isinstance(picture, str):
        return picture
    return np.asarray(ImageOps.fit(picture, (image_size, image_size), Image.Resampling.LANCZOS))


def open_picture(path: Path) -> Image.Image | str:
    """One JPEG or PNG picture in RGB, the camera's orientation applied, or the reason why it cannot be read."""
    if path.is_dir():
        return "a folder, not a picture"
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return f"{picture.width}x{picture.height} is more than {MAX_PIXELS:,} pixels"
            if getattr(picture, "n_frames", 1) > 1:
                return "animated"
            if picture.mode not in _MODES:
                return f"more than 8 bits a channel (mode {picture.mode})"
            upright = ImageOps.exif_transpose(picture)
            return (upright.convert("RGBA") if upright.mode == "P" else upright).convert("RGB")
    except FileNotFoundError:
        return "no such file"
    except Image.DecompressionBombError:
        return f"more than {MAX_PIXELS:,} pixels"
    except UnidentifiedImageError:
        return "not a JPEG or PNG picture" if path.stat().st_size else "empty file"
    except Exception as error:  # Pillow raises many kinds on broken files; each is the picture's fault
        return f"damaged ({' '.join(str(error).split()) or type(error).__name__})"
