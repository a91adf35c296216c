"""Groups of images that belong together, and the split that keeps them together."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import train_test_split

from data_prep.errors import DataError
from data_prep.settings import SPLITS

SIDES = len(SPLITS)


def group_by_pairs(count: int, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Connected components: images linked by pairs, directly or through others, form a group.

    Returns:
        int64 (count,), group numbers 0, 1, ... in the order of their first image.
    """
    ends = np.array(pairs, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, groups = connected_components(graph, directed=False)
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first)).astype(np.int64)[inverse]


def stratified_part(labels: np.ndarray, count: int, seed: int, least: int = SIDES) -> np.ndarray:
    """Sorted indices of `count` of the images, classes in proportion.

    Args:
        labels: int64 (n,), of classes, or of classes on sides.
        count: 1 or more.
        seed: of the draw.
        least: images that there must be of each label on average.

    Raises:
        DataError: `count` is too small to hold every class.
    """
    if count >= len(labels):
        return np.arange(len(labels))
    sizes = np.unique(labels, return_counts=True)[1]
    if count < least * len(sizes) or len(labels) - count < len(sizes) or sizes.min() < 2:
        raise DataError(
            f"limit must leave {SIDES} images or more a class ({least * len(sizes)} in all, of {len(labels)}), "
            f"but is {count}: raise or drop --limit"
        )
    chosen, _ = train_test_split(np.arange(len(labels)), train_size=count, stratify=labels, random_state=seed)
    return np.sort(chosen)


def split_groups(
    groups: np.ndarray, labels: np.ndarray, split: tuple[int, int, int], class_names: Sequence[str], seed: int
) -> np.ndarray:
    """Side of each image: 0 train, 1 validation, 2 test. Whole groups, in proportion within each class.

    A group counts for its majority class; each class's groups are split on their own, so that three groups are enough
    for a class to be on all sides.

    Args:
        groups: int64 (n,), group numbers.
        labels: int64 (n,).
        split: percentages of the sides.

    Returns:
        int8 (n,).

    Raises:
        DataError: a class is missing on a side.
    """
    numbers, inverse = np.unique(groups, return_inverse=True)
    votes = np.zeros((len(numbers), len(class_names)), np.int64)
    np.add.at(votes, (inverse, labels), 1)
    majority = votes.argmax(axis=1)
    side = np.zeros(len(numbers), np.int8)
    for label, name in enumerate(class_names):
        members = np.flatnonzero(majority == label)
        if len(members) < SIDES:
            raise _too_few(name, len(members))
        validation, test = (max(1, round(len(members) * share / 100)) for share in split[1:])
        held, test_members = _parted(members, min(test, len(members) - 2), seed)
        _, validation_members = _parted(held, min(validation, len(held) - 1), seed)
        side[validation_members], side[test_members] = 1, 2
    sides = side[inverse]
    for label, name in enumerate(class_names):
        if len(np.unique(sides[labels == label])) < SIDES:
            raise _too_few(name, len(np.unique(groups[labels == label])))
    return np.asarray(sides)


def check_own_split(sides: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Raises DataError unless a source's own split, cleaned, has images of every class on each side.

    Args:
        sides: int8 (n,), places in SPLITS.
        labels: int64 (n,).
        class_names: by label.
    """
    for label, name in enumerate(class_names):
        missing = [split for side, split in enumerate(SPLITS) if side not in sides[labels == label]]
        if missing:
            raise DataError(
                f"class {name} must have images on each of {', '.join(SPLITS)}, but the source's own split has none on "
                f"{' and '.join(missing)} after cleaning: add some, leave the class out, or give --split to split anew"
            )


def _parted(members: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rest, taken = train_test_split(members, test_size=count, random_state=seed)
    return rest, taken


def _too_few(name: str, groups: int) -> DataError:
    return DataError(
        f"class {name} must have a group of images of its own on each of train, validation and test, but has "
        f"{groups} such group{'' if groups == 1 else 's'} after cleaning, and {SIDES} are needed: add different images "
        "of it, or leave the class out"
    )
