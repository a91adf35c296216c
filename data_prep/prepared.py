"""A prepared set on disk, read. Needs numpy and json only, so that readers start quickly."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.settings import SPLITS

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


def recover(folder: Path) -> None:
    """Brings back the old set where a replacement was killed between its two renames."""
    old = previous(folder)
    if old.is_dir() and not folder.exists():
        os.rename(old, folder)


def previous(folder: Path) -> Path:
    """Where the old set waits while a new one takes its place."""
    return folder.with_name(folder.name + ".old")


def bank_folder(generation: int) -> str:
    """Folder of a generation of the bank, relative to the set's."""
    return f"bank/{generation:04d}"


@dataclass(frozen=True)
class PreparedSet:
    """Images, labels and augmented views as `prepare` wrote them; images are memory-mapped and read-only.

    Attributes:
        folder: where it lies.
        manifest: what `manifest.json` says: settings, counts, versions, checksums.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "PreparedSet":
        """Opens a prepared set; reads its manifest only.

        Raises:
            DataError: there is none, it is damaged, or it is of another format version.
        """
        recover(folder)
        path = folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"there is no prepared set in {folder}: run `hpsearch prepare` first") from error
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}): run `hpsearch prepare --force`") from error
        version = manifest.get("format_version") if isinstance(manifest, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path} must have format version {FORMAT_VERSION}, but has {version}: it was written by another "
                "version of hpsearch; use that one, or run `hpsearch prepare --force`"
            )
        missing = sorted(_KEYS - manifest.keys())
        if missing:
            raise DataError(f"{path} is damaged, {', '.join(missing)} missing: run `hpsearch prepare --force`")
        return cls(folder, manifest)

    @property
    def fingerprint(self) -> str:
        """Sha256 over source content, options and versions, 64 hexadecimal digits."""
        return str(self.manifest["fingerprint"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by label."""
        return tuple(self.manifest["class_names"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, 3)."""
        height, width, channels = self.manifest["image_shape"]
        return int(height), int(width), int(channels)

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels of augmentation in the bank, weakest first."""
        return tuple(self.manifest["settings"]["levels"])

    @property
    def source(self) -> str:
        """The SOURCE it was prepared from, as it was given."""
        return str(self.manifest["source"])

    @property
    def class_weights(self) -> tuple[float, ...]:
        """N / (n_k C) over the training originals, by label (scikit-learn's "balanced")."""
        return tuple(self.manifest["class_weights"])

    def images(self, split: str) -> np.ndarray:
        """Originals: uint8 (n, h, w, 3), RGB, 0..255.

        Args:
            split: "train", "validation" or "test".

        Raises:
            DataError: the file is missing or damaged.
        """
        return self._array(f"{_known(split, SPLITS)}_images.npy", np.uint8, (None, *self.image_shape))

    def labels(self, split: str) -> np.ndarray:
        """Labels: int64 (n,), in memory. Arguments and errors as for `images`."""
        return np.array(self._array(f"{_known(split, SPLITS)}_labels.npy", np.int64, (None,)))

    def bank(self, level: str, generation: int = 0) -> np.ndarray:
        """Augmented views: uint8 (n_train, copies, h, w, 3); row i descends from training image i.

        Raises:
            DataError: there is no such level or generation, or the file is damaged.
        """
        name = f"{bank_folder(generation)}/{_known(level, self.levels)}.npy"
        return self._array(name, np.uint8, (None, None, *self.image_shape))

    def _array(self, name: str, dtype: type, shape: tuple[int | None, ...]) -> np.ndarray:
        path = self.folder / name
        try:
            array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} cannot be read ({error}): run `hpsearch prepare --force`") from error
        fits = len(array.shape) == len(shape) and all(
            want in (None, got) for want, got in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise DataError(
                f"{path} must be {np.dtype(dtype)} of shape {shape}, but is {array.dtype} of shape {array.shape}: "
                "run `hpsearch prepare --force`"
            )
        return array


_KEYS = {"fingerprint", "settings", "source", "class_names", "image_shape", "class_weights", "counts", "files"}


def _known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise DataError(f"there is no {name!r} in the prepared set: it has {', '.join(names)}")
    return name
