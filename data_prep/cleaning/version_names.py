"""Names that tell: what generators of training images and annotation services call the versions of one picture."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

_SURE = (
    r"(?P<name>.+)_(jpe?g|png|bmp|tiff?|webp|gif)\.rf\.[0-9A-Za-z]{16,}",  # Roboflow
    r".*?_original_(?P<name>.+?)(\.\w{3,4})?_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",  # Augmentor
    r"(?P<name>.+)_(new\d+deg)?flip(lr|tb)",  # what a well-known set of plant leaves uses
    r"(?P<name>.+)_(90|180|270)deg(rees)?",
    r"(?P<name>.+?)[_-](aug(mented)?|hflip|vflip|flip(ped)?|mirror(ed)?|rot(ated?)?|copy)[_-]?\d*",
    r"(?P<name>.+) - copy( \(\d+\))?",  # Windows
    r"aug(mented)?[_-]?\d+[_-](?P<name>[^\W\d_].*)",
)
_MAYBE = (r"(?P<name>.*_\d+)_\d{1,7}",)  # Keras: prefix, index of the picture, random number
_SHARE, _MANY, _LARGEST = 0.5, 50, 0.05


@dataclass(frozen=True)
class NamedVersions:
    """Images that their names call versions of one picture.

    Attributes:
        sources: int64 (n,), number of the picture that each image is a version of.
        sure: whether only generators and services write such names; otherwise pixels have to confirm them.
    """

    sources: np.ndarray
    sure: bool

    @property
    def versions(self) -> int:
        """Number of images that share their picture with another."""
        sizes = np.bincount(self.sources)
        return int(sizes[sizes > 1].sum())

    @property
    def pictures(self) -> int:
        """Number of pictures that have two or more versions."""
        return int((np.bincount(self.sources) > 1).sum())


def named_versions(names: Sequence[str], labels: Sequence[int]) -> NamedVersions | None:
    """Return which images are versions of one picture by their names, or None if names do not tell.

    Args:
        names: names of the images.
        labels: their labels, since equal names in two class folders are two pictures.
    """
    for patterns, sure in ((_SURE, True), (_MAYBE, False)):
        told = [_picture(name, patterns) for name in names]
        # An original lies beside its versions; other names say nothing, and are pictures of their own.
        known = {(label, picture) for label, (picture, is_version) in zip(labels, told, strict=True) if is_version}
        keys = [
            (label, picture) if (label, picture) in known else (label, f"/{name}")
            for label, name, (picture, _) in zip(labels, names, told, strict=True)
        ]
        sizes = Counter(keys)
        several = sum(size for size in sizes.values() if size > 1)
        few = max(sizes.values(), default=0) <= max(_MANY, _LARGEST * len(names))
        if few and several >= (2 if sure else _SHARE * len(names)):
            numbers = {key: place for place, key in enumerate(sizes)}
            return NamedVersions(np.array([numbers[key] for key in keys], np.int64), sure)
    return None


def _picture(name: str, patterns: Sequence[str]) -> tuple[str, bool]:
    """Return the name of the picture, without what a generator added, and whether a generator added anything."""
    path = PurePosixPath(name.replace("\\", "/"))
    stem = path.stem if path.suffix.lower() in _ENDINGS else path.name
    for pattern in patterns:
        found = re.fullmatch(pattern, stem, re.IGNORECASE)
        if found:
            return found["name"].lower(), True
    return stem.lower(), False


_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
