"""Read the pictures that the user gives as anomalies, at the size of the set's images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data_prep.cleaning import hashing
from data_prep.cleaning.steps import GivenAnomaly
from data_prep.errors import DataError
from data_prep.sources.picture_files import FORMAT_NAMES, open_picture


def read_anomalies(paths: Sequence[str], shape: tuple[int, ...]) -> tuple[GivenAnomaly, ...]:
    """Read each picture in two versions: cropped to the shape, and squashed into it.

    Both are needed, because it is not known which way the set's images were made.

    Args:
        paths: paths of the pictures.
        shape: (h, w) in pixels.

    Raises:
        DataError: a picture cannot be read.
    """
    size = (shape[1], shape[0])
    pictures = []
    for path in paths:
        whole = open_picture(Path(path))
        if isinstance(whole, str):
            raise DataError(f"anomaly picture {path} cannot be read ({whole}): give a {FORMAT_NAMES} picture")
        versions = (
            ImageOps.fit(whole, size, Image.Resampling.LANCZOS),
            whole.resize(size, Image.Resampling.LANCZOS),
        )
        images = np.stack([np.asarray(version) for version in versions])
        hashes = np.array([hashing.phash(version) for version in versions])
        pictures.append(GivenAnomaly(Path(path).name, images, hashes))
    return tuple(pictures)
