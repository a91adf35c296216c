"""Labelled images from TensorFlow Datasets: `tfds:NAME`, with NAME as in `tfds.builder(NAME)`."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from data_prep.errors import DataError
from data_prep.progress import Progress
from data_prep.settings import SPLITS
from data_prep.sources.labelled_images import LabelledImages, Unreadable
from data_prep.storage.spilled_arrays import room_for

PREFIX = "tfds:"
_NAME = re.compile(r"[a-z]\w*(/[\w.-]+)?(:[\d.*]+)?")  # NAME, NAME/CONFIG, NAME:VERSION; no community namespaces


def fetch_set(source: str, progress: Progress) -> None:
    """Download and build the set in $TFDS_DATA_DIR or ~/tensorflow_datasets, unless it is there.

    Raises:
        DataError: The set does not exist, there is no network, a package that the set's code needs is not installed, or
            the set must be downloaded by hand. The message is one line.
    """
    builder = _builder(source)
    if builder.is_prepared():
        return
    progress.start(f"downloading and building {source}", 1, "sets")
    _tfds().disable_progress_bar()
    try:
        builder.download_and_prepare()
    except ImportError as error:
        name = error.name or str(error)
        raise DataError(f"{source} needs the package {name}, which is not installed: pip install {name}") from error
    except Exception as error:  # builders may raise any class of error
        raise DataError(
            f"{source} cannot be downloaded and built ({_first_line(error)}): build it on a machine with a network, "
            f"and copy its folder to {builder.data_path}"
        ) from error
    progress.advance(1)


def set_digest(source: str) -> str:
    """Return a sha256 over class names and record files of a set that is already built, hexadecimal.

    Raises:
        DataError: The set is not built, or one of its files cannot be read.
    """
    builder = _builder(source)
    digest = hashlib.sha256("\0".join(builder.info.features["label"].names).encode())
    try:
        for split in _splits(builder, source):
            for path in builder.info.splits[split].filepaths:
                with Path(os.fspath(path)).open("rb") as file:
                    digest.update(f"\n{split} {hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}): remove {builder.data_path}") from error
    return digest.hexdigest()


def brings_split(source: str) -> bool:
    """Return whether a set that is already built has the split train, and validation or test."""
    return _keeps_split(set(_builder(source).info.splits))


def _keeps_split(there: set[str]) -> bool:
    return SPLITS[0] in there and len(there & set(SPLITS)) > 1


def read_set(source: str, image_size: int, progress: Progress) -> LabelledImages:
    """Read the pictures, crop each to its central square and resize it; download and build the set first if needed.

    Train, validation and test are the set's own split. A set without train, or with neither validation nor test, is
    read whole and has no split of its own. Pictures without a label are listed in `unreadable`.

    Returns:
        Images uint8 (n, image_size, image_size, 3), one split after the other.

    Raises:
        DataError: The set cannot be fetched, does not consist of images with a class label, or is damaged.
    """
    fetch_set(source, progress)
    builder = _builder(source)
    splits = _splits(builder, source)
    counts = [int(builder.info.splits[split].num_examples) for split in splits]
    progress.start("reading pictures", sum(counts))
    shape = (sum(counts), image_size, image_size, 3)
    images = room_for(shape, f"the pictures of {source}")
    labels: list[int] = []
    names: list[str] = []
    sides: list[int] = []
    unreadable: list[Unreadable] = []
    own = _keeps_split(set(splits))
    for split in splits:
        for row, example in enumerate(_examples(builder, split, source)):
            progress.advance(1)
            if example["label"] < 0:
                unreadable.append(Unreadable(f"{split}/{row}", "no label"))
                continue
            images[len(names)] = _fitted(example["image"], image_size)
            labels.append(int(example["label"]))
            names.append(f"{split}/{row}")
            sides.append(SPLITS.index(split) if own else 0)
    return LabelledImages(
        images[: len(names)],
        np.array(labels, np.int64),
        tuple(builder.info.features["label"].names),
        tuple(names),
        tuple(unreadable),
        np.array(sides, np.int8) if own else None,
    )


def _builder(source: str) -> Any:
    """Return the set's builder after checking that its features are images and class labels."""
    name = source.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise DataError(f"{source} must be tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION, as in tfds:cifar10")
    tfds = _tfds()
    try:
        builder = tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
        features = dict(builder.info.features)
    except Exception as error:  # builders may raise any class of error
        raise DataError(
            f"{source} cannot be opened ({_first_line(error)}): names are listed at tensorflow.org/datasets"
        ) from error
    image, label = features.get("image"), features.get("label")
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        raise DataError(f"{source} must have an `image` and a class `label`, but has {', '.join(features)}")
    if image.np_dtype != np.uint8:
        raise DataError(f"{source} must have images of uint8, but has {np.dtype(image.np_dtype)}: convert them first")
    return builder


def _splits(builder: Any, source: str) -> tuple[str, ...]:
    there = tuple(sorted(builder.info.splits))
    if not there:
        raise DataError(f"{source} is not in {builder.data_dir} yet: `hpsearch prepare {source}` builds it there")
    return tuple(split for split in SPLITS if split in there) if _keeps_split(set(there)) else there


def _examples(builder: Any, split: str, source: str) -> Iterator[dict[str, Any]]:
    """Yield the examples of a split in stored order, as arrays."""
    try:
        yield from _tfds().as_numpy(builder.as_dataset(split=split, shuffle_files=False))
    except Exception as error:  # TensorFlow has no common class for read and decode errors
        raise DataError(
            f"{source}: {split} cannot be read ({_first_line(error)}): remove {builder.data_path} to build it again"
        ) from error


def _fitted(image: np.ndarray, image_size: int) -> np.ndarray:
    """Crop and resize uint8 (h, w, 1, 3 or 4) to (image_size, image_size, 3), the same way as pictures in folders."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).convert("RGB")
    return np.asarray(ImageOps.fit(picture, (image_size, image_size), Image.Resampling.LANCZOS))


def _tfds() -> Any:
    """Import the package late, because that takes seconds."""
    import tensorflow_datasets

    return tensorflow_datasets


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
