"""External sets: labelled images of another scanner or hospital, cleaned like the main set and kept apart from it.

They are neither split nor augmented. An image that also stands in the main set tells nothing about other images, so
that copies and near copies of training, validation and test images are left out.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.cleaning import copies, hashing
from data_prep.cleaning.steps import Candidates, Rejection, clean, suspicious
from data_prep.cleaning.user_anomalies import read_anomalies
from data_prep.errors import DataError
from data_prep.progress import Progress
from data_prep.settings import SPLITS, PrepareSettings, level_names
from data_prep.sources.labelled_images import LabelledImages
from data_prep.sources.registry import find_source, read_source
from data_prep.storage import writer
from data_prep.storage.images_csv import KEPT, REJECTED, ImageRow, write_table
from data_prep.storage.reader import bank_folder, external_file

RECURRING = "recurring picture"
_SIDES = ("training", "validation", "test")


@dataclass(frozen=True)
class MainSet:
    """What external images are compared with.

    Attributes:
        data: the images of the main source.
        hashes: uint64 (n,), theirs.
        sides: int8 (n,), place in SPLITS of the images kept, else -1.
        rejections: what cleaning left out.
    """

    data: LabelledImages
    hashes: np.ndarray
    sides: np.ndarray
    rejections: Sequence[Rejection]


@dataclass(frozen=True)
class Twin:
    """Why an external image is left out: it shows what an image of the main set shows.

    Attributes:
        reason: a short name, one for each kind.
        of: index of the image of the main source.
        distance: pHash distance in bits.
    """

    reason: str
    of: int
    distance: int


@dataclass(frozen=True)
class CleanedExternalSet:
    """One external set, with what became of each of its images.

    Attributes:
        name: that the user gave it.
        source: that it was read from.
        data: its images; labels and class names are the main set's.
        hashes: uint64 (n,).
        rejections: by cleaning.
        twins: by index, of what cleaning left.
        warnings: one line each.
    """

    name: str
    source: str
    data: LabelledImages
    hashes: np.ndarray
    rejections: tuple[Rejection, ...]
    twins: Mapping[int, Twin]
    warnings: tuple[str, ...]

    @property
    def kept(self) -> np.ndarray:
        """Indices of the images kept, rising."""
        gone = [rejection.index for rejection in self.rejections] + list(self.twins)
        return np.setdiff1d(np.arange(len(self.hashes)), gone)

    def counts(self) -> dict[str, Any]:
        """As `data_prep.prepare.counts`: images_read, rejected (by reason), kept, and per_class."""
        reasons = Counter(rejection.reason for rejection in self.rejections)
        reasons.update(twin.reason for twin in self.twins.values())
        if self.data.unreadable:
            reasons["unreadable"] = len(self.data.unreadable)
        labels = self.data.labels[self.kept]
        return {
            "images_read": len(self.hashes) + len(self.data.unreadable),
            "rejected": dict(reasons.most_common()),
            "kept": len(labels),
            "per_class": np.bincount(labels, minlength=len(self.data.class_names)).tolist(),
        }


def external_digests(settings: PrepareSettings) -> dict[str, str]:
    """Sha256 of each external set's content, hexadecimal, by name. DataError where there is nothing to read."""
    digests = {}
    for name, source in settings.external_sources.items():
        try:
            digests[name] = find_source(source).digest(source, settings.seed)
        except DataError as error:
            raise DataError(f"external set {name}: {error}") from error
    return digests


def read_external(settings: PrepareSettings, main: MainSet, progress: Progress) -> list[CleanedExternalSet]:
    """Reads, cleans and compares all external sets, in the order they were given.

    Raises:
        DataError: one cannot be read, has other classes or another size than the main set, or keeps no image.
    """
    sets = []
    for name, source in settings.external_sources.items():
        try:
            sets.append(_read_one(name, source, settings, main, progress))
        except DataError as error:
            raise DataError(f"external set {name}: {error}") from error
    return sets


def _read_one(
    name: str, source: str, settings: PrepareSettings, main: MainSet, progress: Progress
) -> CleanedExternalSet:
    options: dict[str, Any] = (
        {"value_range": settings.value_range} if "value_range" in find_source(source).options else {}
    )
    found = read_source(source, main.data.images.shape[1], seed=settings.seed, progress=progress, **options)
    if found.images.shape[1:] != main.data.images.shape[1:]:
        shapes = [f"{shape[1]}x{shape[0]}" for shape in (found.images.shape[1:], main.data.images.shape[1:])]
        raise DataError(
            f"{source} has images of {shapes[0]} pixels, and the main set has {shapes[1]}: give images of that size, "
            "or a folder of pictures, which are resized"
        )
    labels = class_order(found, source, main.data.class_names)[found.labels]
    data = replace(found, labels=labels, class_names=main.data.class_names)
    progress.start(f"comparing images of {name}", len(data.images))
    hashes = hashing.phashes(data.images, progress)
    candidates = Candidates(
        data.images,
        data.labels,
        hashes,
        data.class_names,
        tuple(tuple(group) for group in copies.copy_groups(data.images, hashes)),
        settings.recurrence_limit,
        read_anomalies(settings.anomalies, data.images.shape[1:3]),
    )
    rejections = tuple(clean(candidates))
    warnings = tuple(f"external set {name}: {line}" for line in suspicious(candidates, rejections))
    cleaned = CleanedExternalSet(name, source, data, hashes, rejections, {}, warnings)
    return _not_empty(replace(cleaned, twins=_twins(cleaned, main)))


def class_order(found: LabelledImages, source: str, class_names: Sequence[str], owner: str = "main set") -> np.ndarray:
    """The label that another set, or a model, has for each class of a source, int64 (classes,); -1 for one without
    images that it does not know.

    By name where it knows all names that images have; else number k of a source that has numbers only is its class k,
    unless it has numbers of its own.

    Raises:
        DataError: a class that the `owner` of `class_names` lacks.
    """
    count, places = len(found.class_names), {name: label for label, name in enumerate(class_names)}
    by_name = np.array([places.get(name, -1) for name in found.class_names], np.int64)
    strangers = [found.class_names[label] for label in np.unique(found.labels) if by_name[label] < 0]
    if not strangers:
        return by_name
    numbered = found.class_names == tuple(str(number) for number in range(count))
    if numbered and count <= len(class_names) and not any(name.isdecimal() for name in class_names):
        return np.arange(count)
    raise DataError(
        f"{source} has the class {strangers[-1]!r}, which the {owner} lacks, whose classes are "
        f"{', '.join(class_names)}: rename it, or leave its images out"
    )


def _not_empty(found: CleanedExternalSet) -> CleanedExternalSet:
    if len(found.kept) == 0:
        reasons = ", ".join(f"{reason}: {number:,}" for reason, number in found.counts()["rejected"].items())
        raise DataError(f"no image of {found.source} is left ({reasons}): give images that the main set does not have")
    return found


def _twins(found: CleanedExternalSet, main: MainSet) -> dict[int, Twin]:
    """Of images that look like one of the main set's splits, or like a picture that recurs there; the nearest one in
    the training images goes before those in the others."""
    recurring = {rejection.index for rejection in main.rejections if rejection.reason == RECURRING}
    kept = set(found.kept.tolist())
    ranks: dict[int, tuple[int, int, int]] = {}
    images, hashes = (found.data.images, main.data.images), (found.hashes, main.hashes)
    for index, of in copies.matches(images, hashes, copies.NEAR_COPY):
        if index in kept and (main.sides[of] >= 0 or of in recurring):
            side = int(main.sides[of]) if main.sides[of] >= 0 else len(SPLITS)
            rank = (side, int(np.bitwise_count(hashes[0][index] ^ hashes[1][of])), of)
            ranks[index] = min(ranks.get(index, rank), rank)
    return {index: _twin(found, main, index, *rank) for index, rank in ranks.items()}


def _twin(found: CleanedExternalSet, main: MainSet, index: int, side: int, distance: int, of: int) -> Twin:
    if side == len(SPLITS):
        return Twin(f"{RECURRING} of the main set", of, distance)
    same = distance <= copies.COPY.distance and copies.is_copy(found.data.images[index], main.data.images[of])
    return Twin(f"{'copy' if same else 'near copy'} of a {_SIDES[side]} image", of, distance)


def write_external(
    folder: Path, settings: PrepareSettings, sets: Sequence[CleanedExternalSet], main: MainSet, progress: Progress
) -> tuple[list[CleanedExternalSet], dict[str, Any]]:
    """Writes images, labels and table of each external set, less what an augmented training image shows.

    Args:
        folder: of the set; its bank is read.
        settings: levels are used.
        sets: as `read_external` gave them.
        main: whose training images the bank descends from.
        progress: told of stages and images.

    Returns:
        The sets as they were written, and what the manifest says of them, by name.

    Raises:
        DataError: a set keeps no image.
    """
    written = _without_views(folder, settings, sets, main, progress)
    entries = {}
    for one in written:
        writer.write_rows(folder / external_file(one.name, "_images.npy"), one.data.images, one.kept)
        np.save(folder / external_file(one.name, "_labels.npy"), one.data.labels[one.kept])
        write_table(folder / external_file(one.name, ".csv"), _rows(one, main))
        kind = find_source(one.source).kind
        entries[one.name] = {"source": one.source, "source_kind": kind, "counts": one.counts()}
    return written, entries


def _without_views(
    folder: Path, settings: PrepareSettings, sets: Sequence[CleanedExternalSet], main: MainSet, progress: Progress
) -> list[CleanedExternalSet]:
    parents = np.flatnonzero(main.sides == 0)
    left = list(sets)
    for level in level_names(settings.levels) if left else ():
        views = np.load(folder / bank_folder(0) / f"{level}.npy", mmap_mode="r", allow_pickle=False)
        flat = views.reshape(-1, *views.shape[2:])
        progress.start(f"comparing views, level {level}", len(flat))
        hashes = hashing.phashes(flat, progress)
        for place, one in enumerate(left):
            kept, found = set(one.kept.tolist()), dict(one.twins)
            both = (one.data.images, flat), (one.hashes, hashes)
            for index, view in copies.matches(*both, copies.COPY):
                if index in kept and index not in found:
                    found[index] = Twin("copy of an augmented training image", int(parents[view // views.shape[1]]), 0)
            left[place] = replace(one, twins=found)
    return [_not_empty(one) for one in left]


def _rows(found: CleanedExternalSet, main: MainSet) -> Iterator[ImageRow]:
    """In the order of the source, unreadable pictures last. A twin in the main set is named as images.csv names it."""
    data, gone = found.data, {rejection.index: rejection for rejection in found.rejections}
    places = {int(index): place for place, index in enumerate(found.kept)}
    for index, name in enumerate(data.names):
        label = int(data.labels[index])
        known = {"name": name, "label": str(label), "class_name": data.class_names[label]}
        known["phash"] = f"{int(found.hashes[index]):016x}"
        if index in places:
            yield ImageRow(**known, decision=KEPT, row=str(places[index]))
        elif index in gone:
            why = gone[index]
            distance = "" if why.distance is None else str(why.distance)
            twin = "" if why.twin is None else data.names[why.twin]
            yield ImageRow(
                **known, decision=REJECTED, reason=why.reason, detail=why.detail, distance=distance, twin=twin
            )
        else:
            other = found.twins[index]
            twin, distance = main.data.names[other.of], str(other.distance)
            detail = f"the main set's {twin}"
            yield ImageRow(**known, decision=REJECTED, reason=other.reason, detail=detail, distance=distance, twin=twin)
    for bad in data.unreadable:
        yield ImageRow(name=bad.name, decision=REJECTED, reason="unreadable", detail=bad.reason)
