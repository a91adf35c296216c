"""The cleaning steps: which images are rejected, and why.

To add a step, write a function like the ones below and add it to STEPS. A step sees the images that earlier steps kept
and returns its rejections; nothing is deleted. Steps run in the order of STEPS. A recurring picture is an anomaly
regardless of its labels, so it is rejected before labels are compared.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.cleaning import copies, near_copies
from data_prep.settings import SPLITS

SUSPICIOUS_SHARE = 0.05
"""Share of a class above which rejected copies of one picture cause a warning, because flat images hash alike."""

LATER_SIDE = "in a group with a later side"


@dataclass(frozen=True)
class GivenAnomaly:
    """A picture that the user gave as an anomaly.

    Attributes:
        name: name of its file.
        images: its versions (cropped, squashed) at the size of the set's images, uint8 (versions, h, w, 3).
        hashes: perceptual hashes of the versions, uint64 (versions,).
    """

    name: str
    images: np.ndarray
    hashes: np.ndarray


@dataclass(frozen=True)
class Candidates:
    """Images to clean.

    Attributes:
        images: uint8 (n, h, w, 3).
        labels: int64 (n,).
        hashes: perceptual hashes, uint64 (n,).
        class_names: names by label.
        copies: sets of images (indices) that are copies of one another; the first of each set is the one to keep.
        recurrence_limit: a picture that occurs more often than this is rejected with all its copies.
        anomalies: pictures that the user gave as anomalies.
    """

    images: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    class_names: tuple[str, ...]
    copies: tuple[tuple[int, ...], ...]
    recurrence_limit: int = 10
    anomalies: tuple[GivenAnomaly, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """A rejected image, and why it was rejected.

    Attributes:
        index: index of the image.
        reason: short name of the kind of rejection.
        detail: what exactly was found.
        distance: pHash distance to the image it was compared with, in bits.
        twin: index of the image that is kept in its place; None if there is none.
        like: index of the image it was compared with, for display; None if that image is not in the source.
    """

    index: int
    reason: str
    detail: str
    distance: int | None = None
    twin: int | None = None
    like: int | None = None


Step = Callable[[Candidates, frozenset[int]], list[Rejection]]


def recurring(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """Reject all copies of a picture that occurs more than `recurrence_limit` times."""
    return [
        Rejection(index, "recurring picture", f"one of {len(group):,} copies", 0, None, group[0])
        for group in _left(candidates, rejected)
        if len(group) > candidates.recurrence_limit
        for index in group
    ]


def given_anomalies(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """Reject near copies of the pictures that the user gave as anomalies."""
    found: dict[int, Rejection] = {}
    for picture in candidates.anomalies:
        sets = (picture.images, candidates.images), (picture.hashes, candidates.hashes)
        for version, index in copies.matches(*sets, near_copies.SAME_VIEW):
            if index not in rejected and index not in found:
                distance = int(np.bitwise_count(picture.hashes[version] ^ candidates.hashes[index]))
                found[index] = Rejection(index, "given anomaly", f"looks like {picture.name}", distance)
    return list(found.values())


def contradicting(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """Reject all copies of a picture that has different labels, because nobody knows which label is right."""
    found = []
    for group in _left(candidates, rejected):
        labels = sorted({int(candidates.labels[index]) for index in group})
        if len(labels) > 1:
            named = " and ".join(candidates.class_names[label] for label in labels)
            for index in group:
                other = next(i for i in group if candidates.labels[i] != candidates.labels[index])
                found.append(Rejection(index, "contradicting labels", f"copies labelled {named}", 0, None, other))
    return found


def repeated(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """Reject all but the first of a set of copies with one label."""
    return [
        Rejection(index, "copy", "copy of an image that is kept", 0, group[0], group[0])
        for group in _left(candidates, rejected)
        for index in group[1:]
    ]


STEPS: tuple[Step, ...] = (recurring, given_anomalies, contradicting, repeated)


def reaching_later_sides(
    indices: np.ndarray, groups: np.ndarray, sides: np.ndarray, hashes: np.ndarray
) -> list[Rejection]:
    """Reject images of a source's own split whose group reaches into a later split.

    These are training images with validation or test images in their group, and validation images with test images.

    Args:
        indices: int64 (m,), indices of the images kept so far.
        groups: int64 (m,), group numbers of these images.
        sides: int8 (m,), splits of these images as indices into SPLITS.
        hashes: uint64 (n,), perceptual hashes of all images.
    """
    last = np.lexsort((-sides, groups))  # each group begins with an image of its latest split
    numbers, first = np.unique(groups[last], return_index=True)
    twins = last[first][np.searchsorted(numbers, groups)]
    return [
        Rejection(
            int(indices[place]),
            LATER_SIDE,
            f"in the source's {SPLITS[sides[place]]} split, but its group is also in {SPLITS[sides[twins[place]]]}",
            int(np.bitwise_count(hashes[indices[place]] ^ hashes[indices[twins[place]]])),
            int(indices[twins[place]]),
            int(indices[twins[place]]),
        )
        for place in np.flatnonzero(sides < sides[twins])
    ]


def clean(candidates: Candidates, steps: Sequence[Step] = STEPS) -> list[Rejection]:
    """Run the steps one after the other, and return their rejections in the order of the images."""
    found: list[Rejection] = []
    for step in steps:
        found += step(candidates, frozenset(rejection.index for rejection in found))
    return sorted(found, key=lambda rejection: rejection.index)


def suspicious(candidates: Candidates, rejections: Sequence[Rejection]) -> list[str]:
    """Return a warning for each picture whose rejected copies are more than SUSPICIOUS_SHARE of a class."""
    sizes = np.bincount(candidates.labels, minlength=len(candidates.class_names))
    gone = {rejection.index: rejection for rejection in rejections}
    warnings = []
    for group in candidates.copies:
        reasons = Counter(gone[index].reason for index in group if index in gone)
        taken = np.bincount([candidates.labels[i] for i in group if i in gone], minlength=len(sizes))
        shares = [
            f"{taken[label] / sizes[label]:.0%} of class {candidates.class_names[label]}"
            for label in np.flatnonzero(taken > SUSPICIOUS_SHARE * sizes)
        ]
        if shares:
            warnings.append(
                f"{taken.sum():,} copies of one picture ({reasons.most_common(1)[0][0]}) were left out, "
                f"which removes {', '.join(shares)}: check the picture in the report"
            )
    return warnings


def large_reasons(candidates: Candidates, rejections: Sequence[Rejection]) -> list[str]:
    """Return a warning for each reason that takes over SUSPICIOUS_SHARE of a class, or images of a published split.

    Recurring pictures and given anomalies have their own warning or were asked for.
    """
    sizes = np.bincount(candidates.labels, minlength=len(candidates.class_names))
    warnings = []
    for reason, number in Counter(rejection.reason for rejection in rejections).items():
        if reason in ("recurring picture", "given anomaly"):
            continue
        taken = np.bincount(
            [candidates.labels[one.index] for one in rejections if one.reason == reason], minlength=len(sizes)
        )
        label = int((taken / np.maximum(sizes, 1)).argmax())
        if reason == LATER_SIDE or taken[label] > SUSPICIOUS_SHARE * sizes[label]:
            share = f"{taken[label] / sizes[label]:.0%} of class {candidates.class_names[label]}"
            warnings.append(f"{number:,} images were left out as {reason!r}, {share}: check them in the report")
    return warnings


def _left(candidates: Candidates, rejected: frozenset[int]) -> list[list[int]]:
    """Return the sets of copies without rejected images, if two or more images remain."""
    left = ([index for index in group if index not in rejected] for group in candidates.copies)
    return [group for group in left if len(group) > 1]
