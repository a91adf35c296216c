"""External sets: labelled images from another scanner or hospital, cleaned like the main set and kept apart from it.

They are neither split nor augmented. Copies and near copies of training, validation and test images are left out,
because a score on them says nothing about other images.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.cleaning import copies, hashing, near_copies
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
    """The cleaned and split main set, with which external images are compared.

    Attributes:
        data: images of the main source.
        hashes: perceptual hashes of the images, uint64 (n,).
        sides: int8 (n,), split of each kept image as an index into SPLITS, -1 for the others.
        rejections: images that cleaning rejected.
    """

    data: LabelledImages
    hashes: np.ndarray
    sides: np.ndarray
    rejections: Sequence[Rejection]


@dataclass(frozen=True)
class Twin:
    """Match that leaves an external image out: an image of the main set that shows the same picture.

    Attributes:
        reason: short name of the kind of match.
        of: index of the matching image in the main source.
        distance: pHash distance in bits.
    """

    reason: str
    of: int
    distance: int


@dataclass(frozen=True)
class CleanedExternalSet:
    """An external set, with what was decided about each of its n images.

    Attributes:
        name: name that the user gave it.
        source: path or name that it was read from.
        data: its images, with the labels and class names of the main set.
        hashes: perceptual hashes, uint64 (n,).
        rejections: images that cleaning rejected.
        twins: matches in the main set, by index of the external image; only for images that cleaning kept.
        warnings: findings that the user should check, one line each.
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
        """Indices of the images kept, in rising order."""
        gone = [rejection.index for rejection in self.rejections] + list(self.twins)
        return np.setdiff1d(np.arange(len(self.hashes)), gone)

    def counts(self) -> dict[str, Any]:
        """Return the manifest's counts: images_read, rejected (by reason), kept, and per_class (images by label)."""
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
    """Return the SHA-256 of each external set's content (hexadecimal), by name.

    Raises:
        DataError: a set cannot be found or read.
    """
    digests = {}
    for name, source in settings.external_sources.items():
        try:
            digests[name] = find_source(source).digest(source, settings.seed)
        except DataError as error:
            raise DataError(f"external set {name}: {error}") from error
    return digests


def read_external(settings: PrepareSettings, main: MainSet, progress: Progress) -> list[CleanedExternalSet]:
    """Read and clean all external sets, in the order given, and compare them with the main set.

    Raises:
        DataError: a set cannot be read, has other classes or another image size than the main set, or keeps no image.
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
            f"{source} must have images of {shapes[1]} pixels like the main set, but has {shapes[0]}: resize them, "
            "or give a folder of pictures, which hpsearch resizes"
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
    return _not_empty(replace(cleaned, twins=_twins(cleaned, main, settings.near_copies == "off")))


def class_order(found: LabelledImages, source: str, class_names: Sequence[str], owner: str = "main set") -> np.ndarray:
    """Map the labels of a source to the labels of another set, or of a model.

    Classes are matched by name. If a class with images has no match, but the source merely numbers its classes and
    `class_names` has no numbers, class k of the source gets label k.

    Args:
        found: images of the source.
        source: path or name of the source, for the error message.
        class_names: class names of the other set or model, by label.
        owner: what `class_names` belongs to, for the error message.

    Returns:
        int64 (classes,), the new label of each class of the source; -1 for a class without match and images.

    Raises:
        DataError: the source has images of a class that is not in `class_names`.
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
        f"{source} must only have classes of the {owner} ({', '.join(class_names)}), but has {strangers[-1]!r}: "
        "rename that class, or remove its images"
    )


def _not_empty(found: CleanedExternalSet) -> CleanedExternalSet:
    if len(found.kept) == 0:
        reasons = ", ".join(f"{reason}: {number:,}" for reason, number in found.counts()["rejected"].items())
        raise DataError(
            f"no image of {found.source} is left after cleaning ({reasons}): "
            "give images that the main set does not have"
        )
    return found


def _twins(found: CleanedExternalSet, main: MainSet, copies_alone: bool) -> dict[int, Twin]:
    """Match external images with images in the main set's splits, and with recurring pictures rejected from it.

    Of several matches, the earliest split counts (train, validation, test, rejected), then the smallest pHash distance.
    """
    recurring = {rejection.index for rejection in main.rejections if rejection.reason == RECURRING}
    of_main = np.union1d(np.flatnonzero(main.sides >= 0), np.array(sorted(recurring), np.int64)).astype(np.int64)
    ranks: dict[int, tuple[int, int, int]] = {}
    for place, at in _pairs(found, main, of_main, copies_alone):
        index, of = int(found.kept[place]), int(of_main[at])
        side = int(main.sides[of]) if main.sides[of] >= 0 else len(SPLITS)
        rank = (side, int(np.bitwise_count(found.hashes[index] ^ main.hashes[of])), of)
        ranks[index] = min(ranks.get(index, rank), rank)
    return {index: _twin(found, main, index, *rank) for index, rank in ranks.items()}


def _pairs(
    found: CleanedExternalSet, main: MainSet, of_main: np.ndarray, copies_alone: bool
) -> Iterator[tuple[int, int]]:
    """Yield copies and, unless told otherwise, near copies: places among the images kept of both sets."""
    sets = (found.data.images, found.hashes, found.kept), (main.data.images, main.hashes, of_main)
    if copies_alone:
        (images, hashes, kept), (others, other_hashes, _) = sets
        both = (images[kept], others[of_main]), (hashes[kept], other_hashes[of_main])
        yield from copies.matches(*both, copies.COPY)
    else:
        yield from near_copies.between(*(near_copies.Pictures(*one) for one in sets))


def _twin(found: CleanedExternalSet, main: MainSet, index: int, side: int, distance: int, of: int) -> Twin:
    if side == len(SPLITS):
        return Twin(f"{RECURRING} of the main set", of, distance)
    same = distance <= copies.COPY.distance and copies.is_copy(found.data.images[index], main.data.images[of])
    return Twin(f"{'copy' if same else 'near copy'} of a {_SIDES[side]} image", of, distance)


def write_external(
    folder: Path, settings: PrepareSettings, sets: Sequence[CleanedExternalSet], main: MainSet, progress: Progress
) -> tuple[list[CleanedExternalSet], dict[str, Any]]:
    """Write images, labels and table of each external set, without copies of augmented training images.

    Args:
        folder: folder of the prepared set; its bank is read.
        settings: `levels` is used.
        sets: result of `read_external`.
        main: main set, from whose training images the bank was made.
        progress: receiver of progress reports.

    Returns:
        The sets as written, and their entries for the manifest, by name.

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
    """Yield the table's rows in the source's order, unreadable pictures last; twins are named as in images.csv."""
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
            detail = f"matches {twin} of the main set"
            yield ImageRow(**known, decision=REJECTED, reason=other.reason, detail=detail, distance=distance, twin=twin)
    for bad in data.unreadable:
        yield ImageRow(name=bad.name, decision=REJECTED, reason="unreadable", detail=bad.reason)
