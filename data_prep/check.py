"""Verify a prepared set from its files alone.

One check compares checksums. The others look at pixels, labels and tables, and so find a changed file even if its
checksum was changed too. To add a check, write a function like the ones below and add it to CHECKS.
"""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np

from data_prep.cleaning import copies, hashing, recheck
from data_prep.errors import DataError
from data_prep.fingerprint import fingerprint
from data_prep.progress import Progress, Silent
from data_prep.settings import SPLITS
from data_prep.storage import writer
from data_prep.storage.images_csv import KEPT, ImageRow, read_table
from data_prep.storage.reader import (
    CORRUPTED_SETS,
    MANIFEST,
    PreparedSet,
    bank_folder,
    corrupted_file,
    external_file,
)

_SHOWN = 20  # problems per check that are listed; the others are counted


@dataclass(frozen=True)
class _Subject:
    """The set under test, with values that several checks share."""

    prepared: PreparedSet
    progress: Progress = field(default_factory=Silent)

    @cached_property
    def table(self) -> list[ImageRow]:
        return read_table(self.prepared.folder / "images.csv")

    @cached_property
    def hashes(self) -> dict[str, np.ndarray]:
        hashes = {}
        for split in SPLITS:
            images = self.prepared.images(split)
            self.progress.start(f"checking {split} images", len(images))
            hashes[split] = hashing.phashes(images, self.progress)
        return hashes

    @cached_property
    def external_hashes(self) -> dict[str, np.ndarray]:
        """Perceptual hashes of each external set's images, by name of the set."""
        hashes = {}
        for name in self.prepared.external_names:
            images, _ = self.prepared.external(name)
            self.progress.start(f"checking images of {name}", len(images))
            hashes[name] = hashing.phashes(images, self.progress)
        return hashes

    @cached_property
    def names(self) -> dict[tuple[str, str], str]:
        with contextlib.suppress(DataError):  # `_table` reports the error; other checks do without names
            return {(row.split, row.row): row.name for row in self.table if row.decision == KEPT}
        return {}

    def image(self, split: str, row: int) -> str:
        """Describe an image by split, row and name."""
        return f"{split} image {row} ({self.names.get((split, str(row)), 'not in images.csv')})"


def check(folder: Path, progress: Progress | None = None) -> list[str]:
    """Check a prepared set for damage, and for leaks between its splits.

    Args:
        folder: folder of the prepared set.
        progress: receiver of progress reports.

    Returns:
        Problems, one line each; empty if the set is sound.

    Raises:
        DataError: `folder` holds no prepared set that can be opened.
    """
    subject = _Subject(PreparedSet.open(folder), progress or Silent())
    problems: list[str] = []
    for one in CHECKS:
        try:
            found = list(one(subject))
        except DataError as error:
            found = [str(error)]
        problems += found[:_SHOWN]
        if len(found) > _SHOWN:
            problems.append(f"and {len(found) - _SHOWN:,} more of this kind")
    return list(dict.fromkeys(problems))


def _checksums(subject: _Subject) -> Iterator[str]:
    folder = subject.prepared.folder
    yield from _altered(folder, subject.prepared.manifest["files"])
    for place in _generations(folder):
        try:
            manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
            files, mark = dict(manifest["files"]), manifest["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            yield f"{place / MANIFEST} cannot be read ({error})"
            continue
        if mark != subject.prepared.fingerprint:
            own = subject.prepared.fingerprint[:8]
            yield f"{place} belongs to another prepared set: its fingerprint is {mark[:8]}, not {own}"
        yield from _altered(place, files)


def _altered(folder: Path, files: dict[str, str]) -> Iterator[str]:
    for name, expected in files.items():
        try:
            if writer.checksums(folder, [name])[name] != expected:
                yield f"{folder / name} was altered: its checksum differs from the manifest's"
        except OSError as error:
            yield f"{folder / name} cannot be read ({error.strerror})"


def _fingerprint(subject: _Subject) -> Iterator[str]:
    try:
        right = fingerprint(subject.prepared.manifest) == subject.prepared.fingerprint
    except KeyError as error:
        right = False
        yield f"{MANIFEST} lacks {error}"
    if not right:
        yield f"{MANIFEST} was altered: its fingerprint does not match its source, settings and versions"


def _labels(subject: _Subject) -> Iterator[str]:
    names = subject.prepared.class_names
    for split in SPLITS:
        labels, images = subject.prepared.labels(split), subject.prepared.images(split)
        if len(labels) != len(images):
            yield f"{split} must have a label for each image, but has {len(images)} images and {len(labels)} labels"
        if len(labels) and not (labels.min() >= 0 and labels.max() < len(names)):
            yield f"{split} labels must be 0 to {len(names) - 1}, but are {labels.min()} to {labels.max()}"
            continue
        counts = np.bincount(labels, minlength=len(names)).tolist()
        yield from (f"{split} has no image of class {name}" for name, n in zip(names, counts, strict=True) if not n)
        stated = subject.prepared.manifest["counts"]["per_split"][split]
        if counts != stated:
            yield f"{split} has {counts} images by class, but the manifest says {stated}"


def _table(subject: _Subject) -> Iterator[str]:
    """Compare images.csv with the arrays and class names: rows, labels, perceptual hashes."""
    names = dict(enumerate(subject.prepared.class_names))
    rows = {split: [row for row in subject.table if row.split == split and row.decision == KEPT] for split in SPLITS}
    for split in SPLITS:
        labels = subject.prepared.labels(split)
        if sorted(row.row for row in rows[split]) != sorted(str(place) for place in range(len(labels))):
            yield f"images.csv must list each of the {len(labels)} {split} images exactly once, but does not"
            continue
        if len(subject.hashes[split]) != len(labels):
            continue  # `_labels` reports this
        for row in rows[split]:
            place = int(row.row)
            if row.label != str(labels[place]):
                yield f"{subject.image(split, place)} has label {labels[place]}, but images.csv says {row.label}"
            elif row.class_name != names.get(int(labels[place])):
                named = names.get(int(labels[place]), "none")
                yield (
                    f"{subject.image(split, place)} has class {row.class_name} in images.csv, but {named} in {MANIFEST}"
                )
            if row.phash != f"{int(subject.hashes[split][place]):016x}":
                yield f"{subject.image(split, place)} is not the picture that images.csv describes (its pHash differs)"


def _groups(subject: _Subject) -> Iterator[str]:
    """Find groups that lie in more than one split, and images that images.csv names more than once."""
    sides: dict[str, set[str]] = defaultdict(set)
    for row in subject.table:
        if row.decision == KEPT:
            sides[row.group].add(row.split)
    for group, splits in sides.items():
        if len(splits) > 1:
            yield f"group {group} must be in one split, but is in {' and '.join(sorted(splits))}"
    repeated = [name for name, count in Counter(row.name for row in subject.table).items() if count > 1]
    yield from (f"images.csv names {name} more than once" for name in repeated)


def _leaks(subject: _Subject) -> Iterator[str]:
    """Find images in one split that are copies or near copies of images in another."""
    for first, second in combinations(SPLITS, 2):
        # The later side is smaller, and each of its images is compared with its nearest in the other.
        found = recheck.same_pictures(subject.prepared.images(second), subject.prepared.images(first))
        for j, i in found:
            yield f"{subject.image(first, i)} and {subject.image(second, j)} show the same picture"


def _bank(subject: _Subject) -> Iterator[str]:
    """Check that the bank has a row per training image, and that no view is a validation, test or external image."""
    prepared = subject.prepared
    trained = len(prepared.images("train"))
    if not (prepared.folder / bank_folder(0)).is_dir():
        yield f"{prepared.folder / bank_folder(0)} is missing"
    for place in _generations(prepared.folder):
        generation = int(place.name)
        for level in prepared.levels:
            views = prepared.bank(level, generation)
            if len(views) != trained:
                yield f"{place / level}.npy must have {trained} rows, one per training image, but has {len(views)}"
            flat = views.reshape(-1, *views.shape[2:])
            subject.progress.start(f"checking views, level {level}", len(flat))
            hashes = hashing.phashes(flat, subject.progress)
            for split in SPLITS[1:]:
                sets = (prepared.images(split), flat), (subject.hashes[split], hashes)
                for i, j in copies.matches(*sets, copies.COPY):
                    parent = subject.image("train", j // views.shape[1])
                    yield f"{subject.image(split, i)} is an augmented view (level {level}) of {parent}"
            for name, own in subject.external_hashes.items():
                sets = (prepared.external(name)[0], flat), (own, hashes)
                for i, j in copies.matches(*sets, copies.COPY):
                    parent = subject.image("train", j // views.shape[1])
                    yield f"image {i} of external set {name} is an augmented view (level {level}) of {parent}"


def _corrupted(subject: _Subject) -> Iterator[str]:
    """Check that all corrupted views in the manifest exist, and that the .csv files name a corruption for each.

    Their pixels are not compared with training images: they resemble their originals, which `_leaks` and `_bank` check.
    """
    views = subject.prepared.manifest.get("corrupted", {"views": 0})["views"]
    for split, used_by in CORRUPTED_SETS if views else ():
        try:
            made = subject.prepared.corrupted(split, used_by)
        except DataError as error:
            yield str(error)
            continue
        if made is not None and not np.any(list(made.families.values()), axis=0).all():
            yield f"{corrupted_file(split, used_by, '.csv')} must name a corruption for each view, but does not"


def _external(subject: _Subject) -> Iterator[str]:
    """Compare external sets with their tables, and find images that the main set has too."""
    prepared = subject.prepared
    for name, hashes in subject.external_hashes.items():
        images, labels = prepared.external(name)
        rows = [row for row in read_table(prepared.folder / external_file(name, ".csv")) if row.decision == KEPT]
        pairs = enumerate(zip(labels, hashes, strict=True))
        known = [(str(place), str(label), f"{int(own):016x}") for place, (label, own) in pairs]
        if [(row.row, row.label, row.phash) for row in rows] != known:
            yield f"{external_file(name, '.csv')} must give row, label and pHash of each image of {name}, but does not"
        counts = np.bincount(np.maximum(labels, 0), minlength=len(prepared.class_names)).tolist()
        stated = prepared.manifest["external"][name]["counts"].get("per_class")
        if counts != stated:
            yield f"external set {name} has {counts} images by class, but the manifest says {stated}"
        for split in SPLITS:
            for i, j in recheck.same_pictures(images, prepared.images(split)):
                yield f"image {i} of external set {name} and {subject.image(split, j)} show the same picture"


def _generations(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "bank").glob("[0-9][0-9][0-9][0-9]") if path.is_dir())


CHECKS: tuple[Callable[[_Subject], Iterator[str]], ...] = (
    _checksums,
    _fingerprint,
    _labels,
    _table,
    _groups,
    _leaks,
    _bank,
    _corrupted,
    _external,
)
