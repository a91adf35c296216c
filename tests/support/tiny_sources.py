"""Tiny sources of the kinds that are known by name: files as MedMNIST publishes them, a set of TensorFlow Datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_images import CLASSES, tiny_images

from data_prep.sources import medmnist

COUNTS = {"train": 30, "val": 12, "test": 9}
TFDS_NAME = "hpsearch_tiny_cells"


def medmnist_arrays() -> dict[str, np.ndarray]:
    """Images (n, 32, 32, 3) and labels (n, 1), as in a file of MedMNIST, all images different."""
    images, labels = tiny_images(sum(COUNTS.values()))
    ends = np.cumsum(list(COUNTS.values()))[:-1]
    arrays = {f"{side}_images": part for side, part in zip(COUNTS, np.split(images, ends), strict=True)}
    parts = zip(COUNTS, np.split(labels.astype(np.uint8)[:, None], ends), strict=True)
    return arrays | {f"{side}_labels": part for side, part in parts}


def publish_medmnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of `bloodmnist` at 64 pixels, of tiny images of three classes, and the table that knows its checksum."""
    path = folder / "bloodmnist_64.npz"
    np.savez(path, **medmnist_arrays())  # type: ignore[arg-type]
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    names = ("basophil", "monocyte", "platelet")
    assert len(names) == CLASSES
    sets: Mapping[str, Any] = {"bloodmnist": medmnist.MedMnistSet(names, ("0" * 32, md5, "0" * 32, "0" * 32))}
    monkeypatch.setattr(medmnist, "SETS", sets)
    return path


def negatives(images: np.ndarray, views: dict[str, np.ndarray], *_: Any) -> None:
    """In place of augmentation: TensorFlow is slow to start."""
    for array in views.values():
        array[:] = 255 - images[:, None]


def build_tfds(folder: Path, splits: tuple[str, ...] = ("train", "validation", "test")) -> None:
    """The set of `tfds_builder`, in a folder; its code is known to nobody, so that it is opened from its files."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():
        builder = tfds_builder(TFDS_NAME, splits)
    tfds.disable_progress_bar()
    builder(data_dir=folder).download_and_prepare()


def tfds_builder(name: str, splits: tuple[str, ...]) -> Any:
    """Code of a set of two classes with 12 pictures of 20 x 24 to 20 x 35 a split; `tfds.builder` knows it."""
    import tensorflow_datasets as tfds

    pictures = np.random.default_rng(0).integers(0, 256, (len(splits), 12, 20, 36, 3), dtype=np.uint8)

    def info(self: Any) -> Any:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["round", "long"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def split_generators(self: Any, manager: Any) -> Any:
        return {split: self._generate_examples(place) for place, split in enumerate(splits)}

    def generate_examples(self: Any, place: int) -> Any:
        for row in range(12):
            yield row, {"image": pictures[place, row, :, : 24 + row], "label": row % 2}

    methods = {"_info": info, "_split_generators": split_generators, "_generate_examples": generate_examples}
    members = {"name": name, "VERSION": tfds.core.Version("1.0.0"), "__module__": __name__, **methods}
    return type("Builder", (tfds.core.GeneratorBasedBuilder,), members)
