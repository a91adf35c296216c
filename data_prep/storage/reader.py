"""Reading of a prepared set from disk. It imports nothing heavier than numpy, so that readers start quickly."""

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import DataError
from data_prep.settings import EXTERNAL_NAME, SPLITS, level_names
from data_prep.storage.images_csv import KEPT, read_table

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Versions of the format that can be read; version 1 has no corrupted views."""
MANIFEST = "manifest.json"
CORRUPTED_SETS = (("validation", "validation"), ("test", "validation"), ("test", "test"))
"""Pairs (split, used_by): the corrupted split, and which operations corrupt it (see `PreparedSet.corrupted`)."""


def recover(folder: Path) -> None:
    """Restore the old set if a replacement was killed between its two renames."""
    old = previous(folder)
    if old.is_dir() and not folder.exists():
        os.rename(old, folder)


def previous(folder: Path) -> Path:
    """Return the path to which the old set is moved while a new one replaces it."""
    return folder.with_name(folder.name + ".old")


def bank_folder(generation: int) -> str:
    """Return the folder of one generation of augmented views (the bank), relative to the set's folder."""
    return f"bank/{generation:04d}"


def corrupted_file(split: str, used_by: str, suffix: str = ".npy") -> str:
    """Return the file of corrupted views, or (".csv") the list of their corruptions, relative to the set's folder."""
    return f"corrupted/{split}_{used_by}{suffix}"


def external_file(name: str, suffix: str) -> str:
    """Return a file of an external set; `suffix` is "_images.npy", "_labels.npy", or ".csv" for its table."""
    return f"external_{name}{suffix}"


@dataclass(frozen=True)
class CorruptedViews:
    """Corrupted views of a split.

    Attributes:
        images: uint8 (n, views, h, w, 3); row i is made from image i of the split.
        families: Family of corruptions -> bool (n, views): whether the view has one of them, alone or in a pair.
    """

    images: np.ndarray
    families: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class PreparedSet:
    """Images, labels and augmented views as `prepare` wrote them; images are memory-mapped and read-only.

    Attributes:
        folder: Folder of the prepared set.
        manifest: Content of `manifest.json`: settings, counts, versions, checksums.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "PreparedSet":
        """Open a prepared set; only its manifest is read.

        Raises:
            DataError: There is no prepared set, its manifest is damaged, or its format version cannot be read.
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
        if version not in READABLE_VERSIONS:
            readable = " or ".join(map(str, READABLE_VERSIONS))
            raise DataError(
                f"{path} must have format version {readable}, but has {version}: it was written by another "
                "version of hpsearch; use that one, or run `hpsearch prepare --force`"
            )
        if problem := _problem(manifest):
            raise DataError(f"{path} is damaged ({problem}): run `hpsearch prepare --force`")
        return cls(folder, manifest)

    @property
    def fingerprint(self) -> str:
        """Sha256 over the source's content, options and versions, 64 hexadecimal digits."""
        return str(self.manifest["fingerprint"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, indexed by label."""
        return tuple(self.manifest["class_names"])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (h, w, 3)."""
        height, width, channels = self.manifest["image_shape"]
        return int(height), int(width), int(channels)

    @property
    def levels(self) -> tuple[str, ...]:
        """Augmentation levels for which there are views, in the order given to `prepare`."""
        return level_names(self.manifest["settings"]["levels"])

    @property
    def source(self) -> str:
        """SOURCE from which the set was prepared, as the user gave it."""
        return str(self.manifest["source"])

    @property
    def class_weights(self) -> tuple[float, ...]:
        """Weights N / (n_k C) over the training originals, indexed by label k (scikit-learn's "balanced")."""
        return tuple(self.manifest["class_weights"])

    def images(self, split: str) -> np.ndarray:
        """Return the original images of a split, uint8 (n, h, w, 3), RGB, 0..255.

        Args:
            split: "train", "validation" or "test".

        Raises:
            DataError: The file is missing or damaged.
        """
        return self._array(f"{_known(split, SPLITS)}_images.npy", np.uint8, (None, *self.image_shape))

    def labels(self, split: str) -> np.ndarray:
        """Return the labels of a split, int64 (n,), in memory. Arguments and errors are those of `images`."""
        return np.array(self._array(f"{_known(split, SPLITS)}_labels.npy", np.int64, (None,)))

    def groups(self, split: str) -> np.ndarray:
        """Return the group number of each image, int64 (n,).

        A group holds near copies and images known to belong together, such as those of one patient.

        Raises:
            DataError: images.csv is missing or damaged.
        """
        groups = np.zeros(len(self.labels(split)), np.int64)
        for row in read_table(self.folder / "images.csv"):
            if row.decision == KEPT and row.split == split:
                groups[int(row.row)] = int(row.group)
        return groups

    def bank(self, level: str, generation: int = 0) -> np.ndarray:
        """Return augmented views, uint8 (n_train, copies, h, w, 3); row i is made from training image i.

        Raises:
            DataError: There is no such level or generation, or the file is damaged.
        """
        name = f"{bank_folder(generation)}/{_known(level, self.levels)}.npy"
        return self._array(name, np.uint8, (None, None, *self.image_shape))

    def corrupted(self, split: str, used_by: str = "validation") -> CorruptedViews | None:
        """Return the corrupted views of a split, memory-mapped, or None if the set was prepared without them.

        Args:
            split: "validation" or "test".
            used_by: "validation" for the operations that score trials, "test" for the ones reserved for the test set.

        Raises:
            DataError: The pair is not in CORRUPTED_SETS, or a file is missing or damaged.
        """
        made = self.manifest.get("corrupted", {"views": 0})
        name = f"{split}_{used_by}"
        _known(name, tuple("_".join(pair) for pair in CORRUPTED_SETS))
        if not made["views"]:
            return None
        shape = (len(self.images(split)), made["views"], *self.image_shape)
        images = self._array(corrupted_file(split, used_by), np.uint8, shape)
        of = {name: row["family"] for name, row in made["operations"].items() if row["used_by"] == used_by}
        families = {family: np.zeros(shape[:2], bool) for family in of.values()}
        path = self.folder / corrupted_file(split, used_by, ".csv")
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    for name in filter(None, (row["first"], row["second"])):
                        families[of[name]][int(row["row"]), int(row["view"])] = True
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read ({error}): run `hpsearch prepare --force`") from error
        return CorruptedViews(images, families)

    @property
    def external_names(self) -> tuple[str, ...]:
        """Names of the external sets, in the order given; empty for a set written before external sets existed."""
        return tuple(self.manifest.get("external", {}))

    def external(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images uint8 (n, h, w, 3), memory-mapped, and labels int64 (n,) of an external set. It has no split.

        Raises:
            DataError: There is no such set, or a file is missing or damaged.
        """
        _known(name, self.external_names)
        images = self._array(external_file(name, "_images.npy"), np.uint8, (None, *self.image_shape))
        return images, np.array(self._array(external_file(name, "_labels.npy"), np.int64, (len(images),)))

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
                f"{path} must be {np.dtype(dtype)} of shape {str(shape).replace('None', 'any')}, "
                f"but is {array.dtype} of shape {array.shape}: "
                "run `hpsearch prepare --force`"
            )
        return array


_KINDS: dict[str, type] = {
    "fingerprint": str,
    "settings": dict,
    "source": str,
    "class_names": list,
    "image_shape": list,
    "class_weights": list,
    "counts": dict,
    "files": dict,
}
_JSON_TYPES: dict[type, str] = {str: "text", dict: "an object", list: "a list"}


def _problem(manifest: Mapping[str, Any]) -> str | None:
    """Return a description of what is wrong with a manifest; None if it is valid."""
    missing = sorted(_KINDS.keys() - manifest.keys())
    if missing:
        return f"it lacks {', '.join(missing)}"
    for key, kind in _KINDS.items():
        if not isinstance(manifest[key], kind):
            return f"{key} must be {_JSON_TYPES[kind]}, but is {str(manifest[key])[:60]!r}"
    names, shape, weights = manifest["class_names"], manifest["image_shape"], manifest["class_weights"]
    if not all(isinstance(name, str) for name in names) or len(names) < 2:
        return "class_names must be two names or more"
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        return "image_shape must be three numbers"
    if len(weights) != len(names) or not all(isinstance(weight, int | float) for weight in weights):
        return "class_weights must be a number for each class"
    levels = manifest["settings"].get("levels")
    if not isinstance(levels, list) or not all(isinstance(level, str) for level in levels):
        return "settings.levels must be a list of names"
    return _problem_of_files(manifest)


def _problem_of_files(manifest: Mapping[str, Any]) -> str | None:
    corrupted = manifest.get("corrupted", {"views": 0})
    if not isinstance(corrupted, dict) or not isinstance(corrupted.get("views"), int):
        return "corrupted.views must be a number"
    rows = corrupted.get("operations", {}) if corrupted["views"] else {}
    if not isinstance(rows, dict) or not all(_tells_of_use(row) for row in rows.values()):
        return "each of corrupted.operations must have a family and used_by"
    external = manifest.get("external", {})
    if not isinstance(external, dict) or not all(EXTERNAL_NAME.fullmatch(name) for name in external):
        return "external must be an object whose keys are letters, digits, - and _"
    if not all(isinstance(row, dict) and isinstance(row.get("counts"), dict) for row in external.values()):
        return "each set in external must have counts"
    outside = [name for name in manifest["files"] if Path(name).is_absolute() or ".." in Path(name).parts]
    return f"the file {outside[0]} would lie outside the set's folder" if outside else None


def _tells_of_use(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("family", "used_by"))


def _known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise DataError(f"there is no {name!r} in the prepared set: it has {', '.join(names) or 'none'}")
    return name
