"""Which images are left out, and why. To add a cleaning step, write a function like those below and add it to STEPS.

A step sees what the steps before it left and returns what it rejects; nothing is deleted. Steps run in the order of
STEPS: a picture that recurs is an anomaly whatever its labels say, so it goes before labels are compared.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.cleaning import copies
from data_prep.settings import SPLITS

SUSPICIOUS_SHARE = 0.05
"""A picture whose copies take more than this share of a class is worth a look: flat images hash alike."""


@dataclass(frozen=True)
class GivenAnomaly:
    """A picture given by the user as an anomaly: its name and its versions (squashed, cropped) at the set's size."""

    name: str
    images: np.ndarray
    hashes: np.ndarray


@dataclass(frozen=True)
class Candidates:
    """What cleaning looks at: images uint8 (n, h, w, 3), labels int64 (n,), hashes uint64 (n,)."""

    images: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    class_names: tuple[str, ...]
    copies: tuple[tuple[int, ...], ...]
    """Sets of images that are copies of one another; of each, the first is the one to keep."""
    recurrence_limit: int = 10
    anomalies: tuple[GivenAnomaly, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """An image left out.

    Attributes:
        index: of the image.
        reason: a short name, one for each kind.
        detail: what exactly was found.
        distance: pHash distance to what it was compared with, in bits.
        twin: index of the image that is kept in its place; None when none is.
        like: index of the image it was compared with, for showing; None when that is no image of the source.
    """

    index: int
    reason: str
    detail: str
    distance: int | None = None
    twin: int | None = None
    like: int | None = None


Step = Callable[[Candidates, frozenset[int]], list[Rejection]]


def recurring(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """All copies of a picture that recurs more than `recurrence_limit` times."""
    return [
        Rejection(index, "recurring picture", f"one of {len(group):,} copies", 0, None, group[0])
        for group in _left(candidates, rejected)
        if len(group) > candidates.recurrence_limit
        for index in group
    ]


def given_anomalies(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """Near copies of the pictures that the user gave as anomalies."""
    found: dict[int, Rejection] = {}
    for picture in candidates.anomalies:
        sets = (picture.images, candidates.images), (picture.hashes, candidates.hashes)
        for version, index in copies.matches(*sets, copies.NEAR_COPY):
            if index not in rejected and index not in found:
                distance = int(np.bitwise_count(picture.hashes[version] ^ candidates.hashes[index]))
                found[index] = Rejection(index, "given anomaly", f"like {picture.name}", distance)
    return list(found.values())


def contradicting(candidates: Candidates, rejected: frozenset[int]) -> list[Rejection]:
    """All of a set of copies that carry different labels: nobody knows which is right."""
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
    """All but the first of a set of copies with one label."""
    return [
        Rejection(index, "copy", "copy of an image that is kept", 0, group[0], group[0])
        for group in _left(candidates, rejected)
        for index in group[1:]
    ]


STEPS: tuple[Step, ...] = (recurring, given_anomalies, contradicting, repeated)


def reaching_later_sides(
    indices: np.ndarray, groups: np.ndarray, sides: np.ndarray, hashes: np.ndarray
) -> list[Rejection]:
    """Of a source's own split: training images whose group touches validation or test, validation's that touch test.

    Args:
        indices: int64 (m,), of the images kept so far.
        groups: int64 (m,), their groups.
        sides: int8 (m,), their places in SPLITS.
        hashes: uint64 (n,), of all images.
    """
    last = np.lexsort((-sides, groups))  # the first of each group here is on its latest side
    numbers, first = np.unique(groups[last], return_index=True)
    twins = last[first][np.searchsorted(numbers, groups)]
    return [
        Rejection(
            int(indices[place]),
            "in a group with a later side",
            f"in the source's {SPLITS[sides[place]]}, its group reaches into {SPLITS[sides[twins[place]]]}",
            int(np.bitwise_count(hashes[indices[place]] ^ hashes[indices[twins[place]]])),
            int(indices[twins[place]]),
            int(indices[twins[place]]),
        )
        for place in np.flatnonzero(sides < sides[twins])
    ]


def clean(candidates: Candidates, steps: Sequence[Step] = STEPS) -> list[Rejection]:
    """What the steps reject, one after the other, by index."""
    found: list[Rejection] = []
    for step in steps:
        found += step(candidates, frozenset(rejection.index for rejection in found))
    return sorted(found, key=lambda rejection: rejection.index)


def suspicious(candidates: Candidates, rejections: Sequence[Rejection]) -> list[str]:
    """A warning for each picture whose rejected copies take more than SUSPICIOUS_SHARE of a class."""
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
                f"which takes {', '.join(shares)}: look at it in the report"
            )
    return warnings


def _left(candidates: Candidates, rejected: frozenset[int]) -> list[list[int]]:
    """The sets of copies without what is rejected already, those of two or more."""
    left = ([index for index in group if index not in rejected] for group in candidates.copies)
    return [group for group in left if len(group) > 1]
